"""Self-training on texts without labels: whose labels should they get, and how sure should they be?

    STEPSYNTH_DATA=FOLDER python benchmarks/pool_labels.py
    python benchmarks/pool_labels.py --table

60 labelled rows (`--size large`: 300) and 1,000 texts, drawn from the training file as `benchmarks/comparisons.py --pool` draws
them. Students are judged on 1,000 *other rows of the training file*, never on a test row. One JSON line per data set, seed and
way in ``results/pool_labels.jsonl``; the same command goes on.

- ``labels``: the student of the labelled rows alone, 100 optimiser steps.
- All others learn from the texts first (three epochs), then from the labelled rows (50 steps). What is learned of a text
  (``method.pool_labels``):
- ``hard``: the likeliest label of the student of the labelled rows;
- ``soft``: its probabilities;
- ``aligned``: these, moved towards the labels' shares in the labelled rows (after ReMixMatch: Berthelot et al. 2020, arXiv
  1911.09785);
- ``confident``: as ``aligned``; a text counts less where the student is less sure (weights after SoftMatch: Chen et al. 2023,
  arXiv 2301.10921);
- ``mean``: as ``soft``, with the mean of the probabilities of that student and of five that saw four fifths of the labelled rows
  each.

``seconds`` of ``labels`` and ``mean`` contain the trainings of those students that were not kept in a file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.comparisons import TEACHER, cell_config  # noqa: E402
from benchmarks.recipes import accuracy  # noqa: E402
from benchmarks.stages import others, print_table  # noqa: E402

from stepsynth.data import load_source  # noqa: E402
from stepsynth.data.folds import deal_folds  # noqa: E402
from stepsynth.data.gold import load_validation  # noqa: E402
from stepsynth.data.pool import load_pool  # noqa: E402
from stepsynth.data.splits import fingerprint  # noqa: E402
from stepsynth.students.classifier import Classifier  # noqa: E402
from stepsynth.tasks import create_family  # noqa: E402
from stepsynth.training.soft_labels import pseudo_labelled  # noqa: E402
from stepsynth.types import Example, Prediction, digest  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "pool_labels.jsonl"
DATA_SETS = ("trec", "rotten_tomatoes", "sms_spam", "tweeteval_irony")
WAYS = ("labels", "hard", "soft", "aligned", "confident", "mean")


class Cell:
    """Labelled rows, texts and judging rows of a data set and seed."""

    def __init__(self, name: str, seed: int, size: str) -> None:
        overrides = argparse.Namespace(runs=Path("runs"), teacher=TEACHER, overrides=[], pool=True)
        self.config = cell_config(name, size, seed, overrides)
        self.family = create_family(self.config.task)
        validation = load_validation(self.config)
        self.gold = [*validation.harvest, *validation.select]
        self.texts = list(load_pool(self.config, self.gold, lambda row: False).rows)
        whole = self.config.data.validation.model_copy(update={"sample": None})
        labels = {fingerprint(row): row.label for row in load_source(whole, self.config.task, role="judged", seed=0)}
        self.truth = [labels[fingerprint(row)] for row in self.texts]
        self.judged = others(self.config, (*self.gold, *self.texts))
        # What temporary students said is kept under this name.
        self.name = digest(
            [self.config.student.model_dump(mode="json"), *([row.text, row.label] for row in (*self.gold, *self.texts))]
        )
        self.labels = list(self.family.labels)

    def student(self, steps: int) -> Classifier:
        """Return a recipe that makes so many steps at least."""
        return Classifier(self.config.student.model_copy(update={"min_steps": steps}), self.family)

    def said(self, model: Any, rows: Sequence[Example]) -> Any:
        """Return a student's probabilities."""
        return numpy.array([[answer.probabilities[label] for label in self.labels] for answer in model.predict(rows)])

    def taught(self, way: str, said: Any) -> list[Example]:
        """Return the texts as a student learns them."""
        answers = [
            Prediction(row.id, self.labels[shares.argmax()], dict(zip(self.labels, shares.tolist(), strict=True)))
            for row, shares in zip(self.texts, said, strict=True)
        ]
        return pseudo_labelled("soft" if way == "mean" else way, self.family, self.texts, answers, self.gold)

    def members(self, folder: Path, count: int) -> Any:
        """Return what students say of the texts, and the first one of the judging rows; kept in files.

        The first student learned from all labelled rows, the others from four fifths of them.
        """
        folds, found = deal_folds(self.gold, 5, self.config.seed), []
        for fold in (None, *range(5))[:count]:
            file = folder / f"{self.config.task.name}-{self.config.seed}-{self.name[:12]}-{fold}.json"
            if not file.exists():
                rows = [row for row in self.gold if fold is None or folds.gold(row) != fold]
                with tempfile.TemporaryDirectory() as name:
                    model = self.student(100).fit(rows, [], seed=self.config.seed, out=Path(name))
                    said = {"texts": self.said(model, self.texts).tolist(), "judged": self.said(model, self.judged).tolist()}
                folder.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(said))
            found.append({name: numpy.array(rows) for name, rows in json.loads(file.read_text()).items()})
        return found


def measure(cell: Cell, way: str, folder: Path) -> dict[str, Any]:
    """Train and judge one way: its accuracy, and the share of texts whose label is right (``fitting``)."""
    started, members = time.monotonic(), cell.members(folder, 6 if way == "mean" else 1)
    if way == "labels":
        wanted = [cell.labels.index(row.label) for row in cell.judged]
        right = float((members[0]["judged"].argmax(1) == wanted).mean())
        return {"accuracy": round(right, 4), "seconds": round(time.monotonic() - started, 1)}
    rows = cell.taught(way, sum(member["texts"] for member in members) / len(members))
    fitting = sum(row.label == label for row, label in zip(rows, cell.truth, strict=True)) / len(rows)
    with tempfile.TemporaryDirectory() as name:
        first, last = Path(name) / "first", Path(name) / "last"
        cell.student(50).fit(rows, [], seed=cell.config.seed, out=first)
        model = cell.student(50).fit(cell.gold, [], seed=cell.config.seed, out=last, start=first)
        found = accuracy(model, cell.judged)
    return {"accuracy": round(found, 4), "fitting": round(fitting, 4), "seconds": round(time.monotonic() - started, 1)}


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(DATA_SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", default="small")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--keep", type=Path, default=ROOT / "runs" / "pool_labels", help="what temporary students said")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    known = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if options.table:
        print_table(known, "labels", WAYS)
        return
    done = {(line["data"], line["size"], line["seed"], line["way"]) for line in known}
    for seed in options.seeds:
        for name in options.data:
            missing = [way for way in options.ways if (name, options.size, seed, way) not in done]
            if not missing:
                continue
            cell = Cell(name, seed, options.size)
            for way in missing:
                entry = {"data": name, "size": options.size, "labelled_rows": len(cell.gold), "seed": seed, "way": way}
                entry |= measure(cell, way, options.keep)
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
                print(entry, flush=True)


if __name__ == "__main__":
    main()
