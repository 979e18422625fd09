"""How well does a learning curve on the labels tell what twice as many would bring?

    STEPSYNTH_DATA=FOLDER python benchmarks/curves.py
    python benchmarks/curves.py --table                        # from the results again

For every data set, size and draw of labels: the learning curve of a run (`stepsynth.students.curve.learning_curve`). A probe on
the labelled rows and one on twice as many are scored on up to 2,000 other training rows: their difference was to be forecast.
Test files are not read. The forecasts:

- ``line``: accuracy on a line over the logarithm of the rows (until version 0.2);
- ``power``: wrong answers fall with a power of the rows (Hestness et al. 2017, arXiv 1712.00409);
- ``mean``: no curve: the mean of all other data sets' gains at this size, which knows more than a user can.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.recipes import rows_of  # noqa: E402

from stepsynth.config import StudentConfig, TaskConfig  # noqa: E402
from stepsynth.data.folds import deal_folds  # noqa: E402
from stepsynth.students.curve import learning_curve  # noqa: E402
from stepsynth.students.probe import FrozenEncoder, new_regression  # noqa: E402
from stepsynth.tasks import create_family  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "curves.json"
DATA_SETS = ("trec", "rotten_tomatoes", "sms_spam", "tweeteval_irony", "ag_news")
SIZES, JUDGED = (60, 300), 2000


def line(curve: dict[str, Any]) -> float:
    """Return the gain of twice the rows by a line over the logarithm."""
    rows, values = [math.log(point["rows"]) for point in curve["points"]], [point["value"] for point in curve["points"]]
    return float(min(numpy.polyfit(rows, values, 1)[0] * math.log(2), 1.0 - values[-1]))


def measure(name: str, draws: int) -> list[dict[str, Any]]:
    """Return forecasts and gains in points, one line for each size and draw."""
    rows = list({row.text: row for row in rows_of(name)}.values())
    task = TaskConfig(name="curves", instruction="Decide.", labels=dict.fromkeys(sorted({row.label for row in rows}), ""))
    # Some files are sorted by label.
    random.Random("rows").shuffle(rows)
    rows = rows[: 2 * max(SIZES) + JUDGED]
    family = create_family(task)
    vectors, labels = FrozenEncoder(StudentConfig(), family).features(rows), numpy.array([row.label for row in rows])
    found = []
    for size in SIZES:
        for seed in range(draws):
            places = list(range(len(rows)))
            random.Random(f"{size}/{seed}").shuffle(places)
            judged = places[2 * size :][:JUDGED]

            def scored(count: int, places: list[int] = places, judged: list[int] = judged) -> float:
                fitted = new_regression().fit(vectors[places[:count]], labels[places[:count]])
                return 100 * float(fitted.score(vectors[judged], labels[judged]))

            own = [rows[place] for place in places[:size]]
            curve = learning_curve(StudentConfig(), family, own, deal_folds(own, 4, seed).gold) or {}
            forecasts = {
                "line": 100 * line(curve),
                "power": 100 * curve["gain"],
                "ci95": [100 * end for end in curve["gain_ci95"]],
            }
            found.append(
                {"data": name, "labels": size, "draw": seed, "score": scored(size), "gain": scored(2 * size) - scored(size)}
                | forecasts
            )
    return found


def print_table(found: list[dict[str, Any]]) -> None:
    """Print the mean gain, and each forecast's mean and typical error."""
    heads = ("", "labels", "a probe's score", "twice as many bring", "line: forecast, error", "power: forecast, error")
    print(f"| {' | '.join((*heads, 'intervals with the mean gain, above 0', 'mean: error'))} |")
    print("|---|---|---|---|---|---|---|---|")
    keys = list(dict.fromkeys((entry["data"], entry["labels"]) for entry in found))
    means = {key: statistics.mean(e["gain"] for e in found if (e["data"], e["labels"]) == key) for key in keys}
    errors: dict[tuple[int, str], list[float]] = {}
    for name, size in keys:
        own = [entry for entry in found if (entry["data"], entry["labels"]) == (name, size)]
        other = statistics.mean(value for (data, at), value in means.items() if at == size and data != name)
        cells = [f"{statistics.mean(e['score'] for e in own):.1f}", f"{means[name, size]:+.1f}"]
        for kind in ("line", "power", "mean"):
            each = [abs((other if kind == "mean" else e[kind]) - e["gain"]) for e in own]
            errors.setdefault((size, kind), []).append(statistics.mean(each))
            said = "" if kind == "mean" else f"{statistics.mean(e[kind] for e in own):+.1f}, "
            cells.append(f"{said}{statistics.mean(each):.1f}")
            if kind == "power":
                mean = means[name, size]
                cells.append(f"{sum(e['ci95'][0] <= mean <= e['ci95'][1] for e in own)}, {sum(e['ci95'][0] > 0 for e in own)}")
        print(f"| {name} | {size} | {' | '.join(cells)} |")
    for (size, kind), each in errors.items():
        print(f"mean error, {size} labels, {kind}: {statistics.mean(each):.2f}")


def main() -> None:
    """Measure, keep the results, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(DATA_SETS))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for name in () if options.table else options.data:
        found = [entry for entry in found if entry["data"] != name] + measure(name, options.draws)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print_table(found)


if __name__ == "__main__":
    main()
