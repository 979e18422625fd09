"""How a student should learn from written and labelled rows: how many steps from which, and the mean of several.

    python benchmarks/stages.py --runs runs/comparisons      # after comparisons.py with crossfit
    python benchmarks/stages.py --table
    python benchmarks/stages.py --table --base "stages 50+50"

The rows are those of finished runs of the default. Students are judged on 1,000 *other rows of the training file*, never on a
test row, so that what is chosen here has seen none. One JSON line per run and way in ``results/stages.jsonl``; the same command
goes on.

- ``labels N``: labelled rows alone, N optimiser steps;
- ``stages N+M``: N steps from written rows, then M from labelled ones;
- ``soft``, ``weighted`` and ``sure``: as ``stages 50+50``, but a student of the labelled rows alone has a say in the first one. A
  written row's target is halfway between its label and what that student says; or its loss counts by the probability that
  this student gives its label; or it is left out if that probability is below a half of chance;
- ``in batches of 16``: half as many rows in each step, so half as many epochs and about half of the time (with 300 labels the
  epochs that a config asks for are more than 50 steps of 16);
- ``mean of labels`` and ``mean of stages``: the mean of the weights of five students, of all rows and of four times three
  quarters of them, as cross-fitting trains them anyway (a "soup": Wortsman et al. 2022, arXiv 2203.05482).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.recipes import accuracy  # noqa: E402

from stepsynth.config import RunConfig  # noqa: E402
from stepsynth.data import load_source  # noqa: E402
from stepsynth.data.folds import Folds, deal_folds  # noqa: E402
from stepsynth.data.splits import fingerprint  # noqa: E402
from stepsynth.journal import Journal  # noqa: E402
from stepsynth.run import RunDirectory  # noqa: E402
from stepsynth.students.classifier import Classifier  # noqa: E402
from stepsynth.tasks import create_family  # noqa: E402
from stepsynth.training.soft_labels import weighted  # noqa: E402
from stepsynth.types import Example, Prediction  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "stages.jsonl"
JUDGED = 1_000


@dataclass(frozen=True)
class Way:
    """How a student learns; a training makes its epochs at least.

    Attributes:
        first: steps from written rows.
        then: steps from labelled rows.
        mean: whether it is the mean of several students.
        targets: how a student of the labelled rows changes what written rows teach; see the top.
        batch: rows in a step; 0: as the run had.
    """

    first: int
    then: int
    mean: bool = False
    targets: str = ""
    batch: int = 0


WAYS = {
    "labels 100": Way(0, 100),
    "stages 50+50": Way(50, 50),
    "soft 50+50": Way(50, 50, targets="soft"),
    "weighted 50+50": Way(50, 50, targets="weighted"),
    "sure 50+50": Way(50, 50, targets="sure"),
    "stages 50+100": Way(50, 100),
    "labels 50": Way(0, 50),
    "stages 25+25": Way(25, 25),
    "labels 100 in batches of 16": Way(0, 100, batch=16),
    "stages 50+50 in batches of 16": Way(50, 50, batch=16),
    "labels 200": Way(0, 200),
    "stages 100+100": Way(100, 100),
    "mean of labels": Way(0, 100, mean=True),
    "mean of stages": Way(50, 50, mean=True),
}


def others(config: RunConfig, taken: Iterable[Example]) -> list[Example]:
    """Return 1,000 rows of the training file that are not among some."""
    known = {fingerprint(row) for row in taken}
    whole = config.data.validation.model_copy(update={"sample": None})
    rows = [row for row in load_source(whole, config.task, role="judged", seed=0) if fingerprint(row) not in known]
    return rows[:: max(1, len(rows) // JUDGED)][:JUDGED]


class Cell:
    """The rows of a finished run, and other rows to judge its students with."""

    def __init__(self, run: Path) -> None:
        directory = RunDirectory.read(run)
        self.config: RunConfig = directory.config
        self.family = create_family(self.config.task)
        with closing(Journal(directory.journal_path)) as journal:
            self.gold = [*journal.gold("harvest"), *journal.gold("select")]
            rows = list(journal.dataset(self.config.method.rounds))
        self.folds: Folds = deal_folds(self.gold, self.config.method.folds, self.config.seed)
        self.written = [(row.example, self.folds.written(row.source, row.context)) for row in rows]
        self.judged = others(self.config, (*self.gold, *(row for row, _ in self.written)))
        self._said: Sequence[Prediction] = ()

    def student(self, steps: int, batch: int = 0) -> Classifier:
        """Return a recipe that makes so many steps."""
        changed = {"min_steps": steps, "batch_size": batch or self.config.student.batch_size}
        return Classifier(self.config.student.model_copy(update=changed), self.family)

    def trained(self, first: int, then: int, out: Path, fold: int | None = None, batch: int = 0) -> Any:
        """Train on all rows, or on those that do not belong to a fold."""
        written = [row for row, own in self.written if fold is None or own != fold] if first else []
        gold = [row for row in self.gold if fold is None or self.folds.gold(row) != fold]
        start = None
        if written:
            start = out.with_name(f"{out.name}-first")
            self.student(first, batch).fit(written, [], seed=self.config.seed, out=start)
        return self.student(then, batch).fit(gold, [], seed=self.config.seed, out=out, start=start)

    def softened(self, way: Way, out: Path) -> Any:
        """Train on all rows in two stages; a student of the labelled rows changes what the first one teaches."""
        if not self._said:
            judge = self.trained(0, 100, out.with_name("judge"))
            self._said = judge.predict([row for row, _ in self.written])
        rows, start = [row for row, _ in self.written], out.with_name(f"{out.name}-first")
        if way.targets == "weighted":
            rows = weighted(self.family, rows, self._said, self.gold)
        elif way.targets == "sure":
            least = 0.5 / len(self.family.labels)
            rows = [row for row, said in zip(rows, self._said, strict=True) if said.probabilities[row.label] >= least]
        else:
            rows = [self._halfway(row, said.probabilities) for row, said in zip(rows, self._said, strict=True)]
        self.student(way.first).fit(rows, [], seed=self.config.seed, out=start)
        return self.student(way.then).fit(self.gold, [], seed=self.config.seed, out=out, start=start)

    def _halfway(self, row: Example, found: Mapping[str, float]) -> Example:
        return replace(row, soft_label=tuple((label, 0.5 * (label == row.label) + 0.5 * p) for label, p in found.items()))


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
    how = WAYS[way]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if how.targets:
            model = cell.softened(how, folder / "student")
        else:
            out = folder / "student"
            if how.mean:
                model = mean_of(cell, how.first, how.then, folder)
            else:
                model = cell.trained(how.first, how.then, out, batch=how.batch)
        return {"accuracy": round(accuracy(model, cell.judged), 4), "seconds": round(time.monotonic() - started, 1)}


def print_table(lines: Sequence[dict[str, Any]], base_way: str, ways: Sequence[str]) -> None:
    """Print the scores of one way, and points of the others over it; last their mean, and of how many runs it is."""
    of = {(line["way"], line["labelled_rows"], line["data"], line["seed"]): 100 * line["accuracy"] for line in lines}
    for rows in sorted({line["labelled_rows"] for line in lines}):
        names = list(dict.fromkeys(line["data"] for line in lines if line["labelled_rows"] == rows))
        print(f"\n{rows} labelled rows\n\n| | {' | '.join(names)} | all |\n|---|{'---|' * (len(names) + 1)}")
        base = {key[1:]: value for key, value in of.items() if key[0] == base_way}
        for way in ways:
            own = {key[1:]: value for key, value in of.items() if key[0] == way and key[1:] in base}
            apart = {key: value - base[key] * (way != base_way) for key, value in own.items()}
            found = [[value for key, value in apart.items() if key[:2] == (rows, name)] for name in names]
            every = [value for values in found for value in values]
            if not every:
                continue
            sign = "" if way == base_way else "+"
            error = f" ± {statistics.stdev(every) / len(every) ** 0.5:.1f}" if len(every) > 1 and sign else ""
            shown = (", ".join(f"{value:{sign}.1f}" for value in values) for values in found)
            print(f"| {way} | {' | '.join(shown)} | {statistics.mean(every):{sign}.1f}{error} ({len(every)}) |")


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", default=[ROOT / "runs" / "comparisons"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument(
        "--base", choices=list(WAYS), default="labels 100", help="with --table: what the others are compared with"
    )
    options = parser.parse_args()
    known = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if options.table:
        print_table(known, options.base, list(WAYS))
        return
    done = {(line["data"], line["labelled_rows"], line["seed"], line["way"]) for line in known}
    runs = [found.parent for folder in options.runs for found in sorted(folder.glob("*/crossfit-[0-9]*/results.json"))]
    for run in runs:
        cell = Cell(run)
        for way in options.ways:
            entry = {
                "data": run.parent.name.removesuffix("-pool").rpartition("-")[0],
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
