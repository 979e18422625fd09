"""Precision settings of the embedded teacher: speed against what it writes.

    STEPSYNTH_DATA=FOLDER python benchmarks/precision.py

Every setting answers the same extrapolation prompts (rotten_tomatoes, mistakes drawn at random from
a harvest half) with the same seeds, settings interleaved over the repeats:

- tokens per second, sampled answers;
- greedy agreement: the share of greedy answers, and of their first 16 tokens, that equal those of
  the most exact setting (float32 everywhere, no dynamic quantisation);
- label fidelity: the share of sampled answers that a judge gives the asked label. The judge is a
  linear probe on MiniLM embeddings of 2,000 gold rows; its own accuracy is printed beside.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

from stepsynth.config import SourceConfig, load_config
from stepsynth.data import load_source, load_validation
from stepsynth.filters.normalise import clean
from stepsynth.methods import MethodContext
from stepsynth.methods.extrapolation import ExtrapolationPlan
from stepsynth.model_cache import resolve
from stepsynth.prompts import Prompts
from stepsynth.students.probe import LinearProbe
from stepsynth.tasks import create_family
from stepsynth.teachers import local_openvino
from stepsynth.types import Example, Mistake, Request

ROOT = Path(__file__).resolve().parents[1]
F32 = {"INFERENCE_PRECISION_HINT": "f32"}
NO_DYNAMIC = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
SETTINGS: dict[str, dict[str, str]] = {
    "exact: f32, KV f32, no dynamic quantisation": {**F32, "KV_CACHE_PRECISION": "f32", **NO_DYNAMIC},
    "f32, KV f32": {**F32, "KV_CACHE_PRECISION": "f32"},
    "f32, KV f16": {**F32, "KV_CACHE_PRECISION": "f16"},
    "f32, KV default (u8)": F32,
    "engine's defaults": {},
    "defaults, no dynamic quantisation": NO_DYNAMIC,
}


def ask(engine: Any, asked: list[Request], *, greedy: bool) -> tuple[list[list[int]], list[str], float]:
    """Return token lists, texts and seconds."""
    tokenizer = engine.get_tokenizer()
    prompts = [local_openvino.chat_prompt(tokenizer, request.messages) for request in asked]
    settings = [local_openvino.engine_settings(r, r.replicate) for r in asked]
    for setting in settings:
        setting.do_sample = not greedy
    started = time.perf_counter()
    texts = [answer.m_generation_ids[0] for answer in engine.generate(prompts, settings)]
    seconds = time.perf_counter() - started
    return [list(tokenizer.encode(t, add_special_tokens=False).input_ids.data[0]) for t in texts], texts, seconds


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if "STEPSYNTH_DATA" not in os.environ:
        parser.error("set STEPSYNTH_DATA to the folder with the data sets")
    config = load_config(ROOT / "examples" / "rotten_tomatoes.yaml")
    harvest = load_validation(config).harvest
    mistakes = [Mistake(example, "", 1.0) for example in harvest]
    family = create_family(config.task)
    ctx = MethodContext(config, Prompts(config.task), family, harvest, (), rationales=dict, mistakes=lambda _: mistakes)
    plan = ExtrapolationPlan.of_mistakes(ctx, mistakes, 1)
    labels = list(config.task.labels)
    asked = [plan.request(labels[i % 2], i // 2, i) for i in range(options.rows)]
    source = SourceConfig(path=config.data.validation.path, sample=3000, seed=99)
    gold = load_source(source, config.task, role="judge", seed=99)
    seen = {example.text for example in harvest}
    gold = [example for example in gold if example.text not in seen]
    judge = LinearProbe(config.student, family, gold[:2000])
    right = sum(max(p, key=p.__getitem__) == e.label for p, e in zip(judge.probabilities(gold[2000:]), gold[2000:], strict=True))
    found: dict[str, dict[str, Any]] = {name: {"tokens_per_s": []} for name in SETTINGS}
    path = resolve(config.teacher.model, kind="teacher")
    for repeat in range(options.repeats):
        for name, properties in SETTINGS.items():
            local_openvino.PRECISION = properties
            engine = local_openvino.open_engine(path, config.teacher)
            ask(engine, asked[:4], greedy=False)
            tokens, texts, seconds = ask(engine, asked, greedy=False)
            entry = found[name]
            entry["tokens_per_s"].append(sum(map(len, tokens)) / seconds)
            if repeat == 0:
                rows = [(clean(text), request.label) for text, request in zip(texts, asked, strict=True) if clean(text)]
                guessed = judge.probabilities([Example("", text) for text, _ in rows])
                entry["fidelity"] = sum(
                    max(p, key=p.__getitem__) == label for p, (_, label) in zip(guessed, rows, strict=True)
                ) / len(rows)
                entry["greedy"] = ask(engine, asked, greedy=True)[0]
            del engine
    reference = next(iter(found.values()))["greedy"]
    for entry in found.values():
        pairs = list(zip(entry.pop("greedy"), reference, strict=True))
        entry["greedy_equal"] = sum(a == b for a, b in pairs) / len(pairs)
        entry["greedy_first_16_equal"] = sum(a[:16] == b[:16] for a, b in pairs) / len(pairs)
    result = {"rows": options.rows, "judge_accuracy": right / len(gold[2000:]), "settings": found}
    (ROOT / "benchmarks" / "results" / "precision.json").write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"judge accuracy {result['judge_accuracy']:.3f}\n")
    print("| setting | tokens/s | greedy answers equal | first 16 tokens equal | label fidelity |\n|---|---|---|---|---|")
    for name, entry in found.items():
        speed = statistics.median(entry["tokens_per_s"])
        agreement = f"{entry['greedy_equal']:.2f} | {entry['greedy_first_16_equal']:.2f}"
        print(f"| {name} | {speed:.0f} | {agreement} | {entry['fidelity']:.2f} |")


if __name__ == "__main__":
    main()
