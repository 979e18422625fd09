"""What the embedded teachers cost: seconds to load, memory, tokens a second, and what the engine's settings change.

    python benchmarks/teachers.py                                 # all embedded teachers, all settings
    python benchmarks/teachers.py --models qwen2.5-coder-0.5b --only product

Every setting of a model is a process of its own, so that its peak of memory is its own. The prompts are
the product's seed prompts for examples/shop, with the product's sampling. Reported per setting:

- ``load_s``: until the engine can answer;
- ``peak_gb``: most resident memory until the end, Python included;
- ``tokens_per_s``: answered tokens a second, by the number of requests in flight;
- ``load_average``: the machine's, over the last minute, this benchmark's two cores included;
- ``greedy_equal``: of greedy answers, the share whose first 16 tokens equal those of the product's setting.

Figures from cores that do other work are too low: look at the load average beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stepsynth.config import RunConfig, load_config
from stepsynth.methods import MethodContext
from stepsynth.methods.seed import SeedPlan
from stepsynth.model_cache import list_assets, resolve
from stepsynth.prompts import Prompts
from stepsynth.tasks import create_family
from stepsynth.teachers import local_openvino
from stepsynth.types import Request

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "teachers.json"
REASONS = ("it names what is wrong", "it asks for help soon", "it says when it was ordered", "it is polite", "it is angry")
F32, KV_F32 = {"INFERENCE_PRECISION_HINT": "f32"}, {"KV_CACHE_PRECISION": "f32"}
# Name -> (engine properties, prefix caching, same label together, requests in flight).
SETTINGS: dict[str, tuple[dict[str, str], bool, bool, tuple[int, ...]]] = {
    "product": ({**F32, **KV_F32}, True, False, (1, 8, 16, 32)),
    "same label together": ({**F32, **KV_F32}, True, True, (16,)),
    "no prefix caching": ({**F32, **KV_F32}, False, False, (16,)),
    "f32, KV default (u8)": (F32, True, False, (16,)),
    "engine's defaults": ({}, True, False, (16,)),
}


def requests(config: RunConfig, rows: int, repeat: int) -> list[Request]:
    """Return seed prompts that no other repeat has."""
    labels = list(config.task.labels)
    family = create_family(config.task)
    seeded = config.model_copy(update={"seed": 1000 + repeat})
    ctx = MethodContext(seeded, Prompts(config.task), family, (), (), rationales=dict, mistakes=lambda _: ())
    plan = SeedPlan(ctx, dict.fromkeys(labels, REASONS))
    return [plan.request(labels[i % len(labels)], i // len(labels), i) for i in range(rows)]


def answer(engine: Any, asked: list[Request], *, width: int, greedy: bool = False) -> tuple[list[list[int]], float]:
    """Return the tokens of every answer and the seconds for all, with so many requests in flight."""
    tokenizer = engine.get_tokenizer()
    waiting = list(enumerate(asked))[::-1]
    flying: dict[int, Any] = {}
    found: dict[int, list[int]] = {}
    started = time.perf_counter()
    while waiting or flying:
        while waiting and len(flying) < width:
            place, request = waiting.pop()
            settings = local_openvino.engine_settings(request, 1000 + request.replicate)
            settings.do_sample = settings.do_sample and not greedy
            tokens = tokenizer.encode(local_openvino.chat_prompt(tokenizer, request.messages), add_special_tokens=False)
            flying[place] = engine.add_request(1_000_000 * greedy + place, tokens.input_ids, settings)
        engine.step()
        for place in [place for place, handle in flying.items() if local_openvino._finished(handle)]:
            found[place] = list(flying.pop(place).read_all()[0].generated_ids)
    return [found[place] for place in range(len(asked))], time.perf_counter() - started


def measure(model: str, setting: str, rows: int) -> dict[str, Any]:
    """Measure one setting in this process."""
    properties, caching, together, widths = SETTINGS[setting]
    config = load_config(ROOT / "examples" / "shop" / "config.yaml")
    teacher = config.teacher.model_copy(update={"model": model, "concurrency": max(widths)})
    path = resolve(model, kind="teacher")
    local_openvino.PRECISION = properties
    started = time.perf_counter()
    engine = local_openvino.open_engine(path, teacher) if caching else _without_caching(path, teacher.concurrency)
    found: dict[str, Any] = {"load_s": time.perf_counter() - started, "tokens_per_s": {}, "requests_per_s": {}}
    answer(engine, requests(config, 1, 99), width=1)
    for width in widths:
        # Other prompts for every width, or the cache would know them.
        asked = requests(config, rows if width > 1 else max(4, rows // 4), 10 + width)
        if together:
            asked.sort(key=lambda request: request.label)
        tokens, seconds = answer(engine, asked, width=width)
        found["tokens_per_s"][str(width)] = sum(map(len, tokens)) / seconds
        found["requests_per_s"][str(width)] = len(asked) / seconds
    found["greedy"] = [tokens[:16] for tokens in answer(engine, requests(config, 8, 7), width=8, greedy=True)[0]]
    found["load_average"] = os.getloadavg()[0]
    found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return found


def _without_caching(path: Path | str, concurrency: int) -> Any:
    genai = local_openvino.engine_library()
    made = genai.SchedulerConfig()
    made.max_num_seqs, made.max_num_batched_tokens, made.cache_size, made.dynamic_split_fuse = concurrency, 512, 1, True
    made.enable_prefix_caching = False
    return genai.ContinuousBatchingPipeline(str(path), made, "CPU", dict(local_openvino.PRECISION))


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=[a.name for a in list_assets() if a.kind == "teacher"])
    parser.add_argument("--rows", type=int, default=32, help="requests per measurement; a quarter with one in flight")
    parser.add_argument("--only", choices=list(SETTINGS), help="one setting")
    parser.add_argument("--child", nargs=2, metavar=("MODEL", "SETTING"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        model, setting = options.child
        print(json.dumps(measure(model, setting, options.rows)))
        return
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"models": {}}
    found.update(rows=options.rows, cores=os.cpu_count())
    for model in options.models:
        entry = found["models"].setdefault(model, {})
        for setting in [options.only] if options.only else SETTINGS:
            command = [sys.executable, __file__, "--rows", str(options.rows), "--child", model, setting]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            measured = json.loads(done.stdout.splitlines()[-1])
            greedy = measured.pop("greedy")
            reference = greedy if setting == "product" else entry.get("greedy", greedy)
            if setting == "product":
                entry["greedy"] = greedy
            measured["greedy_equal"] = sum(a == b for a, b in zip(greedy, reference, strict=True)) / len(greedy)
            entry[setting] = measured
            speeds = ", ".join(f"{speed:.0f} ({width})" for width, speed in measured["tokens_per_s"].items())
            line = f"load {measured['load_s']:.1f} s, peak {measured['peak_gb']:.2f} GB, tokens/s {speeds}"
            print(f"{model}, {setting}: {line}, greedy equal {measured['greedy_equal']:.2f}", flush=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
