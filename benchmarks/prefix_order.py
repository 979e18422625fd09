"""What it brings to send prompts to the embedded engine in an order in which it can reuse what it has read.

    python benchmarks/prefix_order.py                      # the 1.5B model, 48 requests, two repeats
    python benchmarks/prefix_order.py --table              # print the figures again

The prompts are those of the default's seed rows: two labelled rows of the label and fold, then the one to write more like. The
data are the 240 labelled rows of examples/shop, ten in each of four folds of a label: with two labels and 48 requests, six begin
alike. "Queued at once" is what version 0.1.0 did: two batches wait in the engine's queue, in the order of the plan. The ways take
turns, each with an engine that has read nothing yet.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

from stepsynth.config import load_config
from stepsynth.data import load_validation
from stepsynth.data.folds import deal_folds
from stepsynth.methods import MethodContext
from stepsynth.methods.extrapolation import ExtrapolationPlan
from stepsynth.prompts import Prompts
from stepsynth.tasks import create_family
from stepsynth.teachers import local_openvino
from stepsynth.teachers.shared_prefixes import PrefixOrder
from stepsynth.types import Request

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "prefix_order.json"
WAYS = ("queued at once", "shared beginnings first")


class _AtOnce:
    """Gives prompts out in their order, as many as may wait in the engine."""

    reading: tuple[int, ...] = ()

    def __init__(self) -> None:
        self._held: list[int] = []

    def add(self, position: int, tokens: object) -> None:
        self._held.append(position)

    def take(self) -> int | None:
        return self._held.pop(0) if self._held else None


def prompts(model: str, rows: int, labels: int) -> tuple[Any, list[Request]]:
    """Return the teacher's config and the first requests of a plan."""
    overrides = [
        f"teacher.model={model}",
        "task.prompt_style=capable",
        "method.demonstrations=fixed",
        "data.validation.sample=null",
    ]
    config = load_config(ROOT / "examples" / "shop" / "config.yaml", [*overrides, "method.folds=4", "method.seed_rows=240"])
    gold = load_validation(config)
    harvest = [*gold.harvest, *gold.select]
    together = deal_folds(harvest, config.method.folds, config.seed).together
    family = create_family(config.task)
    ctx = MethodContext(
        config, Prompts(config.task), family, harvest, (), rationales=dict, mistakes=lambda _: (), together=together
    )
    plan, chosen = ExtrapolationPlan.of_gold(ctx), list(config.task.labels)[:labels]
    return config.teacher, [plan.request(chosen[i % labels], i // labels, i) for i in range(rows)]


def measure(way: str, teacher: Any, asked: list[Request]) -> float:
    """Return the seconds that all answers take."""
    engine = local_openvino.OpenVinoTeacher(teacher)
    names, width = vars(local_openvino), engine._width
    if way == "queued at once":
        names["PrefixOrder"], engine._width = _AtOnce, 2 * width
    try:
        started = time.perf_counter()
        found = dict(engine.generate_batch(asked, range(len(asked))))
        seconds = time.perf_counter() - started
    finally:
        names["PrefixOrder"] = PrefixOrder
    assert len(found) == len(asked)
    return seconds


def print_table(found: dict[str, Any]) -> None:
    """Print medians and their ratio."""
    medians = {way: statistics.median(found["seconds"][way]) for way in WAYS}
    for way in WAYS:
        print(f"{way}: {medians[way]:.0f} s for {found['rows']} requests, {medians[way] / medians[WAYS[0]]:.2f} of the first")


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--labels", type=int, default=2, help="for how many labels rows are written")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print the figures")
    options = parser.parse_args()
    if not options.table:
        teacher, asked = prompts(options.model, options.rows, options.labels)
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(options.repeats):
            for way in WAYS:
                seconds[way].append(round(measure(way, teacher, asked), 1))
                print(f"{way}: {seconds[way][-1]} s", flush=True)
        found = {
            "model": options.model,
            "rows": options.rows,
            "labels": options.labels,
            "cores": os.cpu_count(),
            "seconds": seconds,
        }
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print_table(json.loads(RESULTS.read_text()))


if __name__ == "__main__":
    main()
