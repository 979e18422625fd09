"""How long an optimiser step of a student takes: as in version 0.1.0 and now, alone and beside a busy process.

    STEPSYNTH_DATA=FOLDER python benchmarks/steps.py --repeats 3

Three recipes train MiniLM on the same rows, each in a process of its own, since how threads wait is decided when torch
is loaded. They run in turn (A B C, B C A, ...), first on the machine as it is, then beside a process that
multiplies matrices on all cores:

- ``0.1.0``           transformers' head, float32, threads spin while they wait
- ``0.1.0, passive``  the same, but threads that wait sleep
- ``now``             the defaults of this version, as the commands run them

A figure is the median over the steps of one training, the first two left out; select rows judge nothing.
``FOLDER`` holds ``rotten_tomatoes/train.jsonl.gz`` and ``trec/train.jsonl.gz`` (fields ``text`` and ``label``).
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stepsynth.config import StudentConfig, TaskConfig
from stepsynth.tasks.classification import Classification
from stepsynth.types import Example

ROOT = Path(__file__).resolve().parents[1]
BEFORE = {"head": "fresh", "keep": "best", "precision": "float32"}
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
RECIPES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "0.1.0": (BEFORE, {}),
    "0.1.0, passive": (BEFORE, PASSIVE),
    "now": ({}, PASSIVE),
}
BUSY = "import numpy; a = numpy.random.rand(1500, 1500)\nwhile True: a @ a"
LEFT_OUT = 2


def rows_of(name: str, count: int) -> list[Example]:
    """Return rows of a data set's training file, the same for all."""
    with gzip.open(Path(os.environ["STEPSYNTH_DATA"]) / name / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    # Some files are in the order of their labels.
    records = random.Random(0).sample(records, count)
    return [Example(f"{name}-{index}", record["text"], record["label"]) for index, record in enumerate(records)]


def train(name: str, recipe: str, rows: int, steps: int) -> dict[str, Any]:
    """Train in this process, and return the median seconds of a step and of everything."""
    import torch

    from stepsynth.students.classifier import Classifier

    examples = rows_of(name, rows)
    task = TaskConfig(name=name, instruction="Decide.", labels=dict.fromkeys(sorted({row.label for row in examples}), ""))
    config = StudentConfig.model_validate({"epochs": 1, "min_steps": steps, **RECIPES[recipe][0]})
    times: list[float] = []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        Classifier(config, Classification(task)).fit(
            examples, [], seed=0, out=Path(out), progress=lambda *_: times.append(time.perf_counter())
        )
    taken = [after - before for before, after in itertools.pairwise(times)][LEFT_OUT:]
    whole = time.perf_counter() - began
    return {"seconds": statistics.median(taken), "whole": whole, "threads": torch.get_num_threads(), "torch": torch.__version__}


def measured(name: str, recipe: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train in a new process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_WAIT", "KMP_", "GOMP_"))}
    command = [sys.executable, __file__, "--worker", name, recipe, "--rows", str(options.rows), "--steps", str(options.steps)]
    done = subprocess.run(command, env={**environment, **RECIPES[recipe][1]}, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def beside(*, busy: bool) -> Iterator[None]:
    """Have a process at work on all cores meanwhile, or none."""
    if not busy:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        try:
            yield
        finally:
            process.kill()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["rotten_tomatoes", "trec"])
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--steps", type=int, default=20, help="steps of one training")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--worker", nargs=2, metavar=("DATASET", "RECIPE"), help="train once and print; used by the script itself"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "steps.json")
    options = parser.parse_args()
    if options.worker:
        name, recipe = options.worker
        print(json.dumps(train(name, recipe, options.rows, options.steps)))
        return
    results, names = [], list(RECIPES)
    for name in options.datasets:
        for busy in (False, True):
            found: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in names}
            with beside(busy=busy):
                for turn in range(options.repeats):
                    for recipe in names[turn % 3 :] + names[: turn % 3]:
                        found[recipe].append(measured(name, recipe, options))
            steps = {recipe: [round(one["seconds"], 4) for one in runs] for recipe, runs in found.items()}
            medians = {recipe: statistics.median(values) for recipe, values in steps.items()}
            factors = {recipe: round(value / medians["now"], 2) for recipe, value in medians.items()}
            results.append({"data": name, "busy": busy, "seconds_per_step": steps, "median": medians, "times_now": factors})
            print(json.dumps(results[-1]), flush=True)
    machine = {"torch": found["now"][0]["torch"], "threads": found["now"][0]["threads"], "cores": os.cpu_count()}
    record = {"machine": machine, "rows": options.rows, "steps": options.steps, "results": results}
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
