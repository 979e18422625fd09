"""How a student should learn from written and labelled rows: how many steps from which, and the mean of several.

    STEPSYNTH_DATA=FOLDER python benchmarks/stages.py --runs runs/comparisons      # after comparisons.py with crossfit
    python benchmarks/stages.py --table

The rows are those of finished runs of the default. Students are judged on 1,000 *other rows of the training file*, never on a
test row, so that what is chosen here has seen none. One JSON line per run and way in ``results/stages.jsonl``; the same command
goes on.

- ``labels N``: labelled rows alone, N optimiser steps;
- ``stages N+M``: N steps from written rows, then M from labelled ones;
- ``mean of labels`` and ``mean of stages``: the mean of the weights of five students, of all rows and of four times three
  quarters of them, as cross-fitting trains them anyway (a "soup": Wortsman et al. 2022, arXiv 2203.05482).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from stepsynth.config import RunConfig
from stepsynth.data.folds import Folds, deal_folds
from stepsynth.data.splits import fingerprint
from stepsynth.journal import Journal
from stepsynth.run import RunDirectory
from stepsynth.students.classifier import Classifier
from stepsynth.tasks import create_family
from stepsynth.types import Example

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "stages.jsonl"
JUDGED = 1_000
BASE = "labels 100"
# Name -> steps from written rows, steps from labelled rows, mean of weights; a training makes its five epochs at least.
WAYS: dict[str, tuple[int, int, bool]] = {
    "labels 100": (0, 100, False),
    "stages 50+50": (50, 50, False),
    "stages 50+100": (50, 100, False),
    "labels 200": (0, 200, False),
    "stages 100+100": (100, 100, False),
    "mean of labels": (0, 100, True),
    "mean of stages": (50, 50, True),
}


class Cell:
    """The rows of a finished run, and other rows to judge its students with."""

    def __init__(self, run: Path) -> None:
        directory = RunDirectory.read(run)
        self.config: RunConfig = directory.config
        self.family = create_family(self.config.task)
        with closing(Journal(directory.journal_path)) as journal:
            self.gold = [*journal.gold("harvest"), *journal.gold("select")]
            last = max(row for row in range(self.config.method.rounds + 1) if journal.dataset(row))
            rows = list(journal.dataset(last))
        self.folds: Folds = deal_folds(self.gold, self.config.method.folds, self.config.seed)
        self.written = [(row.example, self.folds.written(row.source, row.context)) for row in rows]
        self.judged = self._others()

    def _others(self) -> list[Example]:
        taken = {fingerprint(row) for row in (*self.gold, *(row for row, _ in self.written))}
        name = self.config.data.validation.path
        assert name is not None
        with gzip.open(Path(os.environ["STEPSYNTH_DATA"]) / name.parent.name / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        known = self.config.data.validation.labels
        rows = [Example(f"other-{i}", r["text"], known.get(str(r["label"]), str(r["label"]))) for i, r in enumerate(records)]
        rows = [row for row in rows if fingerprint(row) not in taken and row.label in self.config.task.labels]
        step = max(1, len(rows) // JUDGED)
        return rows[::step][:JUDGED]

    def student(self, steps: int) -> Classifier:
        """Return a recipe that makes so many steps."""
        return Classifier(self.config.student.model_copy(update={"min_steps": steps}), self.family)

    def trained(self, first: int, then: int, out: Path, fold: int | None = None) -> Any:
        """Train on all rows, or on those that do not belong to a fold."""
        written = [row for row, own in self.written if fold is None or own != fold] if first else []
        gold = [row for row in self.gold if fold is None or self.folds.gold(row) != fold]
        start = None
        if written:
            start = out.with_name(f"{out.name}-first")
            self.student(first).fit(written, [], seed=self.config.seed, out=start)
        return self.student(then).fit(gold, [], seed=self.config.seed, out=out, start=start)

    def score(self, model: Any) -> float:
        """Return the share of the other rows that a student gets right."""
        found = model.predict(self.judged)
        right: int = sum(p.label == row.label for p, row in zip(found, self.judged, strict=True))
        return right / len(self.judged)


def mean_of(cell: Cell, first: int, then: int, folder: Path) -> Any:
    """Return the student whose weights are the mean of five."""
    outs = []
    for fold in (None, *range(cell.folds.count)):
        outs.append(folder / f"student-{fold}")
        cell.trained(first, then, outs[-1], fold)
    for file in ("model.safetensors", "head.safetensors"):
        if (outs[0] / file).is_file():
            states = [load_file(out / file) for out in outs]
            save_file({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}, outs[0] / file)
    return cell.student(then).load(outs[0])


def measure(cell: Cell, way: str) -> dict[str, Any]:
    """Train and judge one way."""
    first, then, mean = WAYS[way]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = mean_of(cell, first, then, folder) if mean else cell.trained(first, then, folder / "student")
        return {"accuracy": round(cell.score(model), 4), "seconds": round(time.monotonic() - started, 1)}


def print_table(lines: Sequence[dict[str, Any]]) -> None:
    """Print scores, and points over the labels with as many steps as the product makes."""
    of = {(line["way"], line["labelled_rows"], line["data"], line["seed"]): 100 * line["accuracy"] for line in lines}
    for rows in sorted({line["labelled_rows"] for line in lines}):
        names = list(dict.fromkeys(line["data"] for line in lines if line["labelled_rows"] == rows))
        print(f"\n{rows} labelled rows\n\n| | {' | '.join(names)} | all |\n|---|{'---|' * (len(names) + 1)}")
        base = {key[1:]: value for key, value in of.items() if key[0] == BASE}
        for way in WAYS:
            apart = {
                key[1:]: value - base[key[1:]] * (way != BASE) for key, value in of.items() if key[0] == way and key[1:] in base
            }
            found = [[value for key, value in apart.items() if key[:2] == (rows, name)] for name in names]
            every = [value for values in found for value in values]
            if not every:
                continue
            sign = "" if way == BASE else "+"
            error = f" ± {statistics.stdev(every) / len(every) ** 0.5:.1f}" if len(every) > 1 and sign else ""
            shown = (", ".join(f"{value:{sign}.1f}" for value in values) for values in found)
            print(f"| {way} | {' | '.join(shown)} | {statistics.mean(every):{sign}.1f}{error} |")


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", default=[ROOT / "runs" / "comparisons"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    known = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if options.table:
        print_table(known)
        return
    if "STEPSYNTH_DATA" not in os.environ:
        parser.error("set STEPSYNTH_DATA to the folder with the data sets")
    done = {(line["data"], line["labelled_rows"], line["seed"], line["way"]) for line in known}
    runs = [found.parent for folder in options.runs for found in sorted(folder.glob("*/crossfit-[0-9]*/results.json"))]
    for way in options.ways:
        for run in runs:
            cell = Cell(run)
            entry = {
                "data": run.parent.name.rpartition("-")[0],
                "labelled_rows": len(cell.gold),
                "seed": cell.config.seed,
                "way": way,
            }
            if tuple(entry.values()) in done:
                continue
            entry |= {"written_rows": len(cell.written), **measure(cell, way)}
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            print(entry, flush=True)


if __name__ == "__main__":
    main()
