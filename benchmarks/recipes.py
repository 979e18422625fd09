"""How a student should be trained on few labelled rows: steps, learning rate, precision, and a linear probe beside it.

    STEPSYNTH_DATA=FOLDER python benchmarks/recipes.py --out benchmarks/results/recipes.jsonl

Every cell draws labelled rows from a data set's *training* file, trains on them and is judged on 1,000
other rows of the same file. No test file is opened, so what is chosen here has seen none. The last epoch
counts: no row judges the training. One JSON line per cell as it comes; the same command goes on.
``--table`` prints means over data sets and seeds from the lines that are there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepsynth.config import StudentConfig, TaskConfig
from stepsynth.students.classifier import Classifier
from stepsynth.students.probe import LinearProbe
from stepsynth.tasks.classification import Classification
from stepsynth.types import Example

DATA_SETS = ("trec", "rotten_tomatoes", "tweeteval_irony", "banking77", "sms_spam", "ag_news")
JUDGED = 1_000
# (name, optimiser steps, learning rate, bfloat16, head); 0 steps are five epochs, the default of version 0.1.0.
RECIPES: tuple[tuple[str, int, float, bool, str], ...] = (
    ("probe start, 100 @1e-4", 100, 1e-4, True, "probe-start"),
    ("fresh, 100 @1e-4", 100, 1e-4, True, "fresh"),
    ("probe start, 200 @1e-4", 200, 1e-4, True, "probe-start"),
    ("probe start, 100 @2e-4", 100, 2e-4, True, "probe-start"),
    ("probe start, 200 @2e-4", 200, 2e-4, True, "probe-start"),
    ("fresh, 200 @1e-4", 200, 1e-4, True, "fresh"),
    ("probe start, 50 @1e-4", 50, 1e-4, True, "probe-start"),
    ("probe start, 100 @5e-5", 100, 5e-5, True, "probe-start"),
    ("5 epochs", 0, 1e-4, False, "fresh"),
    ("100 @1e-4", 100, 1e-4, False, "fresh"),
)


def rows_of(name: str) -> list[Example]:
    """Return the rows of a data set's training file."""
    path = Path(os.environ["STEPSYNTH_DATA"]) / name / "train.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return [Example(f"{name}-{index}", record["text"], record["label"]) for index, record in enumerate(records)]


def drawn(name: str, size: str, seed: int) -> tuple[list[str], list[Example], list[Example]]:
    """Return labels, labelled rows and judging rows; many labels get a number of rows each in the place of 60 and 300."""
    rows = rows_of(name)
    labels = sorted({row.label for row in rows})
    random.Random(f"{name}/{seed}").shuffle(rows)
    each = {"small": 2, "large": 4}[size] if len(labels) > 20 else 0
    total = {"small": 60, "large": 300}[size]
    if each:
        chosen = [row for label in labels for row in [r for r in rows if r.label == label][:each]]
    else:
        shares = {label: sum(row.label == label for row in rows) / len(rows) for label in labels}
        counts = {label: max(1, round(total * share)) for label, share in shares.items()}
        chosen = [row for label in labels for row in [r for r in rows if r.label == label][: counts[label]]]
    taken = {row.text for row in chosen}
    return labels, chosen, [row for row in rows if row.text not in taken][:JUDGED]


def accuracy(model: Any, rows: list[Example]) -> float:
    """Return the share of rows that a model gets right."""
    right: int = sum(p.label == row.label for p, row in zip(model.predict(rows), rows, strict=True))
    return right / len(rows)


def trained(recipe: tuple[str, int, float, bool, str], labels: list[str], rows: list[Example], seed: int) -> tuple[Any, float]:
    """Return the student that a recipe makes, and the seconds of its training."""
    _, steps, rate, half, head = recipe
    config = StudentConfig(
        learning_rate=rate,
        epochs=1 if steps else 5,
        min_steps=steps,
        precision="bfloat16" if half else "float32",
        head=head,  # type: ignore[arg-type]
    )
    task = TaskConfig(name="recipes", instruction="Decide.", labels=dict.fromkeys(labels, ""))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        model = Classifier(config, Classification(task)).fit(rows, [], seed=seed, out=Path(folder))
    return model, time.monotonic() - started


def cells(options: argparse.Namespace) -> Iterator[tuple[int, tuple[str, int, float, bool, str] | None, str, str]]:
    """Yield every cell: seed by seed, recipe by recipe, so that whatever is there covers all data sets."""
    for seed in range(options.seeds):
        for recipe in (None, *RECIPES):
            for name in options.data_sets:
                for size in ("small", "large"):
                    yield seed, recipe, name, size


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", nargs="+", default=list(DATA_SETS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recipes.jsonl"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    known = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if options.table:
        print_table(known)
        return
    done = {(entry["seed"], entry["recipe"], entry["data"], entry["size"]) for entry in known}
    for seed, recipe, name, size in cells(options):
        title = recipe[0] if recipe else "probe"
        if (seed, title, name, size) in done:
            continue
        labels, rows, judged = drawn(name, size, seed)
        started = time.monotonic()
        if recipe is None:
            score, seconds = probed(labels, rows, judged), time.monotonic() - started
        else:
            model, seconds = trained(recipe, labels, rows, seed)
            score = accuracy(model, judged)
        entry = {"data": name, "size": size, "rows": len(rows), "seed": seed, "recipe": title}
        entry |= {"accuracy": round(score, 4), "seconds": round(seconds, 1)}
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        print(entry, flush=True)


def probed(labels: list[str], rows: list[Example], judged: list[Example]) -> float:
    """Return the accuracy of a linear probe on the frozen encoder."""
    task = TaskConfig(name="recipes", instruction="Decide.", labels=dict.fromkeys(labels, ""))
    probe = LinearProbe(StudentConfig(), Classification(task), rows)
    right = 0
    for row, found in zip(judged, probe.probabilities(judged), strict=True):
        right += max(found, key=lambda label: found[label]) == row.label
    return right / len(judged)


def print_table(found: list[dict[str, Any]]) -> None:
    """Print accuracy in percent by recipe, data set and size, mean over seeds."""
    names = list(dict.fromkeys(entry["data"] for entry in found))
    for size in ("small", "large"):
        print(f"\n| {size} | " + " | ".join(names) + " | mean |\n|---|" + "---|" * (len(names) + 1))
        for recipe in dict.fromkeys(entry["recipe"] for entry in found):
            means = []
            for name in names:
                scores = [e["accuracy"] for e in found if (e["recipe"], e["data"], e["size"]) == (recipe, name, size)]
                means.append(100 * sum(scores) / len(scores) if scores else float("nan"))
            print(f"| {recipe} | " + " | ".join(f"{mean:.1f}" for mean in means) + f" | {sum(means) / len(means):.1f} |")


if __name__ == "__main__":
    main()
