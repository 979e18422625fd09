"""Which texts to label next: does an order beat chance?

    STEPSYNTH_DATA=FOLDER python benchmarks/labelling.py
    python benchmarks/labelling.py --table                     # from the results again

For every data set and seed: a linear probe of 60 labelled rows judges 1,000 further training rows, 60 of which are then labelled
(with their true labels), and a probe of all 120 is scored on 2,000 other training rows. Test files are not read. The 60 are

- ``random``;
- ``unsure``: those of whose answer the probe is least sure;
- ``half``: in turn the one of which it is least sure and a random one, as `stepsynth review --pool` lists them;
- ``typical``: the text nearest to each centre of 60 clusters (k-means).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy
from sklearn.cluster import KMeans

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.recipes import rows_of  # noqa: E402

from stepsynth.config import StudentConfig, TaskConfig  # noqa: E402
from stepsynth.students.probe import FrozenEncoder, new_regression  # noqa: E402
from stepsynth.tasks import create_family  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "labelling.json"
DATA_SETS = ("trec", "rotten_tomatoes", "sms_spam", "tweeteval_irony", "ag_news")
LABELLED, POOL, JUDGED, AT_LEAST = 60, 1000, 2000, 2
ORDERS = ("unsure", "half", "typical")


def drawn(labels: list[str], seed: int) -> tuple[list[int], list[int], list[int]]:
    """Return the places of the labelled rows (two of each label at least), of the pool, and of the rows that judge."""
    places = list(range(len(labels)))
    random.Random(seed).shuffle(places)
    first = [place for label in sorted(set(labels)) for place in [p for p in places if labels[p] == label][:AT_LEAST]]
    first += [place for place in places if place not in set(first)][: LABELLED - len(first)]
    rest = [place for place in places if place not in set(first)]
    return first, rest[:POOL], rest[POOL : POOL + JUDGED]


def chosen(order: str, vectors: Any, sure: Any, seed: int) -> list[int]:
    """Return the places within the pool that are labelled."""
    unsure = [int(place) for place in numpy.argsort(sure, kind="stable")]
    if order == "unsure":
        return unsure[:LABELLED]
    if order == "half":
        return list(dict.fromkeys(place for pair in zip(unsure, range(POOL), strict=True) for place in pair))[:LABELLED]
    if order == "typical":
        found = KMeans(LABELLED, n_init=1, random_state=seed).fit(vectors)
        away = ((vectors - found.cluster_centers_[found.labels_]) ** 2).sum(1)
        clusters = [numpy.flatnonzero(found.labels_ == cluster) for cluster in range(LABELLED)]
        return [int(own[away[own].argmin()]) for own in clusters]
    return list(range(LABELLED))


def measure(name: str, seeds: int) -> dict[str, Any]:
    """Return the accuracy in percent of each order, seed by seed."""
    rows = list({row.text: row for row in rows_of(name)}.values())
    task = TaskConfig(name="labelling", instruction="Decide.", labels=dict.fromkeys(sorted({row.label for row in rows}), ""))
    vectors, labels = FrozenEncoder(StudentConfig(), create_family(task)).features(rows), numpy.array([row.label for row in rows])

    def fitted(places: list[int]) -> Any:
        return new_regression().fit(vectors[places], labels[places])

    scores: dict[str, list[float]] = {}
    for seed in range(seeds):
        first, pool, judged = drawn(list(labels), seed)
        sure = fitted(first).predict_proba(vectors[pool]).max(1)
        known = {"60 labels": first}
        for order in ("random", *ORDERS):
            known[order] = [*first, *(pool[place] for place in chosen(order, vectors[pool], sure, seed))]
        for order, places in known.items():
            right = fitted(places).score(vectors[judged], labels[judged])
            scores.setdefault(order, []).append(round(100 * float(right), 2))
    return {"data": name, "scores": scores}


def main() -> None:
    """Measure, keep the results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(DATA_SETS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for name in () if options.table else options.data:
        found = [line for line in found if line["data"] != name] + [measure(name, options.seeds)]
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(f"| | 60 labels | 60 random ones more | {' | '.join(f'{order} minus random' for order in ORDERS)} |")
    print(f"|---|{'---|' * (2 + len(ORDERS))}")
    for line in found:
        scores = line["scores"]
        apart = {order: [a - b for a, b in zip(scores[order], scores["random"], strict=True)] for order in ORDERS}
        errors = {order: statistics.stdev(each) / len(each) ** 0.5 for order, each in apart.items()}
        means = [f"{statistics.mean(scores[key]):.1f}" for key in ("60 labels", "random")]
        cells = [f"{statistics.mean(each):+.1f} +- {errors[order]:.1f}" for order, each in apart.items()]
        print(f"| {line['data']} | {' | '.join((*means, *cells))} |")


if __name__ == "__main__":
    main()
