"""Seed rows written like labelled rows (the default of `crossfit`) beside plain ones: the same data, labels and seeds.

    python benchmarks/seed_rows.py        # print the table from the results of `benchmarks/comparisons.py`

A pair is one data set and seed. The cells with plain seed rows have ``method.seed_from=reasons:method.rationales=0`` in
their name, which asks for the same as ``method.seed_from=instruction`` of today.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.comparisons import RESULTS, read_cells  # noqa: E402

from stepsynth.evaluation.seeds import other_data_sets  # noqa: E402

NAMES = ("trec", "rotten_tomatoes", "sms_spam", "tweeteval_irony")
PLAIN = "crossfit:method.seed_from=reasons:method.rationales=0"


class Run(NamedTuple):
    """One run: its students by name, which of them was taken, and what it asked for."""

    students: dict[str, Any]
    taken: str
    requests: int
    tokens: int


Runs = dict[tuple[str, int], Run]


def found_runs() -> tuple[Runs, Runs]:
    """Return the runs with seed rows like labelled rows, and those with plain ones."""
    like, plain = Runs(), Runs()
    for name in NAMES:
        compared = json.loads((RESULTS / f"comparison-{name}-small.json").read_text(encoding="utf-8"))
        system = next(entry for entry in compared["systems"] if entry["name"] == "crossfit")
        for worth, requests, tokens in zip(compared["worth"], system["requests"], system["tokens"], strict=True):
            like[name, worth["seed"]] = Run(worth["students"], worth["chosen"], requests, tokens)
        for cell in read_cells(RESULTS / "cells" / f"{name}-small.jsonl"):
            if cell["method"] in ("crossfit", PLAIN):
                students = {entry["student"]: entry for entry in cell["worth"]["students"]}
                runs = plain if cell["method"] == PLAIN else like
                runs[name, cell["seed"]] = Run(students, cell["worth"]["chosen"], cell["requests"], cell["tokens"])
    return like, plain


def score(run: Run, student: str) -> float:
    """Return a student's accuracy on the sealed test, in percent."""
    return 100 * float(run.students[student]["test"]["value"])


def mean(values: dict[tuple[str, int], float]) -> str:
    """Return the mean of a number per pair, with 95 % intervals over pairs, and over the data sets that pairs share."""
    sets = [float(np.mean([value for (name, _), value in values.items() if name == each])) for each in NAMES]
    found = np.mean(list(values.values()))
    over = [f"{interval(numbers)} over {what}" for numbers, what in ((list(values.values()), "pairs"), (sets, "data sets"))]
    return f"{found:+.1f} {', '.join(over)}"


def interval(numbers: list[float]) -> str:
    """Return Student's 95 % interval of a mean of points."""
    low, high = other_data_sets([number / 100 for number in numbers])
    return f"[{100 * low:+.1f}, {100 * high:+.1f}]"


def change(before: list[int], after: list[int]) -> str:
    """Return how much a sum changed."""
    return f"{100 * (sum(after) / sum(before) - 1):+.0f} %"


def main() -> None:
    """Print a line per pair, and the means."""
    like, plain = found_runs()
    pairs = [(key, like[key], plain[key]) for key in sorted(like, key=lambda k: (NAMES.index(k[0]), k[1])) if key in plain]
    columns = [f"{way}: alone, both, minus labels" for way in ("like labelled rows", "plain")]
    print(f"| data | seed | labels alone | {' | '.join(columns)} | tokens |\n|---|---|---|---|---|---|")
    for (name, seed), *runs in pairs:
        shown = [
            f"{score(run, 'written'):.1f}, {score(run, 'stages'):.1f}, {score(run, 'stages') - score(run, 'labels'):+.1f}"
            + (" (labels taken)" if run.taken == "labels" else "")
            for run in runs
        ]
        labels = f"{score(runs[0], 'labels'):.1f}"
        print(f"| {name} | {seed} | {labels} | {shown[0]} | {shown[1]} | {runs[0].tokens:,}, {runs[1].tokens:,} |")
    print(f"\nplain minus the other, {len(pairs)} pairs")
    for what, student in (("written rows alone", "written"), ("both", "stages")):
        print(f"{what}: {mean({key: score(b, student) - score(a, student) for key, a, b in pairs})}")
    taken = {key: score(b, b.taken) - score(b, "labels") - score(a, a.taken) + score(a, "labels") for key, a, b in pairs}
    print(f"the taken student minus labels: {mean(taken)}")
    for what in ("tokens", "requests"):
        print(f"{what}: {change([getattr(a, what) for _, a, _ in pairs], [getattr(b, what) for _, _, b in pairs])}")
    for what, way in (("like labelled rows", like), ("plain", plain)):
        gains = {key: score(way[key], "stages") - score(way[key], "labels") for key, *_ in pairs}
        print(f"{what}: both minus labels {mean(gains)}")


if __name__ == "__main__":
    main()
