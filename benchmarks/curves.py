"""How well does a learning curve on the labels tell what twice as many would bring?

    STEPSYNTH_DATA=FOLDER python benchmarks/curves.py
    python benchmarks/curves.py --table                        # from the results again

For every data set, size and draw: probes on a quarter, half, three quarters and all of the labelled rows of three folds out of
four give the curve, as in a run (`stepsynth.students.curve`). A probe on the labelled rows and one on twice as many are scored on
up to 2,000 other training rows; the difference is what was to be forecast. Test files are not read. The forecasts:

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
from stepsynth.students.probe import FrozenEncoder, new_regression  # noqa: E402
from stepsynth.tasks import create_family  # noqa: E402
from stepsynth.types import Example  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "curves.json"
DATA_SETS = ("trec", "rotten_tomatoes", "sms_spam", "tweeteval_irony", "ag_news")
SIZES, JUDGED, SHARES, DRAWS = (60, 300), 2000, (0.25, 0.5, 0.75, 1.0), 3


def points_of(vectors: Any, labels: Any, places: list[int], seed: int) -> list[tuple[int, float]]:
    """Return (rows that a probe was fitted on, accuracy out of fold) for each share and draw, as a run does."""
    examples = [Example(str(place), str(place), str(labels[place])) for place in places]
    folds = deal_folds(examples, 4, seed)
    own, found = [folds.gold(example) for example in examples], []
    for draw in range(DRAWS):
        for share in SHARES:
            rng, right, sizes = random.Random(f"curve {draw}"), 0, []
            for fold in sorted(set(own)):
                others = [place for place, at in zip(places, own, strict=True) if at != fold]
                taken = sorted(rng.sample(others, round(share * len(others))))
                if len(set(labels[taken])) < 2:
                    break
                held = [place for place, at in zip(places, own, strict=True) if at == fold]
                right += int((new_regression().fit(vectors[taken], labels[taken]).predict(vectors[held]) == labels[held]).sum())
                sizes.append(len(taken))
            else:
                found.append((round(statistics.mean(sizes)), right / len(places)))
    return found


def line(points: list[tuple[int, float]]) -> float:
    """Return the gain of twice the rows by a line over the logarithm."""
    rows, values = [math.log(size) for size, _ in points], [value for _, value in points]
    largest = max(size for size, _ in points)
    room = 1.0 - statistics.mean(value for size, value in points if size == largest)
    return min(float(numpy.polyfit(rows, values, 1)[0]) * math.log(2), room)


def power(points: list[tuple[int, float]], count: int) -> float:
    """Return the gain of twice the rows if the logarithm of the share of wrong answers is on a line over that of the rows."""
    # Half a row more of each keeps the logarithm finite.
    wrong = [math.log((count * (1 - value) + 0.5) / (count + 1)) for _, value in points]
    slope, start = numpy.polyfit([math.log(size) for size, _ in points], wrong, 1)
    last = math.exp(start + slope * math.log(max(size for size, _ in points)))
    return float(last * (1 - 2.0**slope))


def measure(name: str, draws: int) -> list[dict[str, Any]]:
    """Return forecasts and gains in points, one line for each size and draw."""
    rows = list({row.text: row for row in rows_of(name)}.values())
    task = TaskConfig(name="curves", instruction="Decide.", labels=dict.fromkeys(sorted({row.label for row in rows}), ""))
    # Some files are sorted by label.
    random.Random("rows").shuffle(rows)
    rows = rows[: 2 * max(SIZES) + JUDGED]
    vectors, labels = FrozenEncoder(StudentConfig(), create_family(task)).features(rows), numpy.array([row.label for row in rows])
    found = []
    for size in SIZES:
        for seed in range(draws):
            places = list(range(len(rows)))
            random.Random(f"{size}/{seed}").shuffle(places)
            judged = places[2 * size :][:JUDGED]

            def scored(count: int, places: list[int] = places, judged: list[int] = judged) -> float:
                fitted = new_regression().fit(vectors[places[:count]], labels[places[:count]])
                return 100 * float(fitted.score(vectors[judged], labels[judged]))

            points = points_of(vectors, labels, places[:size], seed)
            forecasts = {"line": 100 * line(points), "power": 100 * power(points, size)}
            found.append(
                {"data": name, "labels": size, "draw": seed, "score": scored(size), "gain": scored(2 * size) - scored(size)}
                | forecasts
            )
    return found


def print_table(found: list[dict[str, Any]]) -> None:
    """Print the mean gain, and each forecast's mean and typical error."""
    print("| | labels | a probe's score | twice as many bring | line: forecast, error | power: forecast, error | mean: error |")
    print("|---|---|---|---|---|---|---|")
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
