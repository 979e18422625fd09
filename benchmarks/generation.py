"""How much of the bare engine's speed is left after journal, parsing and pipeline.

    python benchmarks/generation.py --rows 400 --repeats 3

The same prompts, seeds and engine settings, interleaved in one process, each repeat with prompts
of its own and an engine of its own for either side:

- ``bare``: one call of the engine's ``generate`` with all prompts, nothing else;
- ``stepsynth``: the executor's path: look-up, ``generate_batch``, commits, cleaning, judging.

Reports answered tokens per second and the ratio; the aim is at least 0.90.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from stepsynth.config import BudgetConfig, RunConfig, load_config
from stepsynth.filters import FilterPipeline
from stepsynth.filters.normalise import clean
from stepsynth.generation import TeacherClient
from stepsynth.journal import AnswerStore, Journal
from stepsynth.methods import MethodContext
from stepsynth.methods.seed import SeedPlan
from stepsynth.model_cache import resolve
from stepsynth.prompts import Prompts
from stepsynth.tasks import create_family
from stepsynth.teachers.local_openvino import OpenVinoTeacher, chat_prompt, engine_settings, open_engine
from stepsynth.types import Candidate, Request, Response

ROOT = Path(__file__).resolve().parents[1]
REASONS = ("it names what is wrong", "it asks for help soon", "it says when it was ordered", "it is polite", "it is angry")


def requests(config: RunConfig, rows: int, repeat: int) -> list[Request]:
    """Return seed prompts that no other repeat has."""
    labels = list(config.task.labels)
    seeded = config.model_copy(update={"seed": 1000 + repeat})
    family = create_family(config.task)
    ctx = MethodContext(seeded, Prompts(config.task), family, (), (), rationales=dict, mistakes=lambda _: ())
    plan = SeedPlan(ctx, dict.fromkeys(labels, REASONS))
    return [plan.request(labels[i % len(labels)], i // len(labels), i) for i in range(rows)]


def bare(config: RunConfig, asked: list[Request]) -> tuple[int, float]:
    """Return (tokens, seconds) of one plain call of the engine."""
    engine = open_engine(resolve(config.teacher.model, kind="teacher"), config.teacher)
    tokenizer = engine.get_tokenizer()
    identity = config.teacher.identity()
    prompts = [chat_prompt(tokenizer, request.messages) for request in asked]
    settings = [engine_settings(r, int(r.key(identity)[:7], 16)) for r in asked]
    engine.generate(prompts[:2], settings[:2])
    started = time.perf_counter()
    answers = engine.generate(prompts, settings)
    seconds = time.perf_counter() - started
    return sum(len(tokenizer.encode(a.m_generation_ids[0], add_special_tokens=False).input_ids.data[0]) for a in answers), seconds


def ours(config: RunConfig, asked: list[Request], folder: Path) -> tuple[int, float]:
    """Return (tokens, seconds) of the same through the client, pipeline included."""
    journal = Journal(folder / "journal.db", AnswerStore.shared(folder / "answers.db"))
    teacher = OpenVinoTeacher(config.teacher)
    warm = asked[:2]
    list(teacher.generate_batch(warm, [1, 2]))
    client = TeacherClient(config.teacher, journal, BudgetConfig(), teacher=teacher)
    targets = dict.fromkeys(config.task.labels, len(asked))
    pipeline = FilterPipeline.for_rationales(targets)
    tokenizer = teacher.tokenizer
    started = time.perf_counter()
    answers = client.run(asked)
    responses = [answers[client.key(request)] for request in asked]
    texts = [(r, a) for r, a in zip(asked, responses, strict=True) if isinstance(a, Response)]
    pipeline.judge([Candidate.of(r, client.key(r), clean(a.text, truncated=a.finish_reason == "length")) for r, a in texts], [])
    seconds = time.perf_counter() - started
    journal.close()
    # Counted in the same way as for the bare engine: the answer's text, tokenised again.
    return sum(len(tokenizer.encode(a.text, add_special_tokens=False).input_ids.data[0]) for _, a in texts), seconds


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    config = load_config(ROOT / "examples" / "shop" / "config.yaml")
    runs, ratios = [], []
    for repeat in range(options.repeats):
        asked = requests(config, options.rows, repeat)
        sides: dict[str, tuple[int, float]] = {}
        order = ("bare", "stepsynth") if repeat % 2 == 0 else ("stepsynth", "bare")
        for side in order:
            with tempfile.TemporaryDirectory() as folder:
                sides[side] = bare(config, asked) if side == "bare" else ours(config, asked, Path(folder))
        rates = {side: tokens / seconds for side, (tokens, seconds) in sides.items()}
        ratios.append(rates["stepsynth"] / rates["bare"])
        runs.append({"repeat": repeat, "tokens": {s: t for s, (t, _) in sides.items()}, "rates": rates, "ratio": ratios[-1]})
        speeds = f"bare {rates['bare']:.0f}, stepsynth {rates['stepsynth']:.0f} tokens/s"
        print(f"repeat {repeat}: {speeds}, ratio {ratios[-1]:.3f}", flush=True)
    summary = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    found = {"rows": options.rows, "runs": runs, "ratio": summary}
    out = ROOT / "benchmarks" / "results" / "generation.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    line = f"ratio: median {summary['median']:.3f}, {summary['min']:.3f} to {summary['max']:.3f}"
    print(json.dumps(found, indent=1) if options.json else line)


if __name__ == "__main__":
    main()
