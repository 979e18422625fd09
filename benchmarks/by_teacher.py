r"""How much the default gains over labels alone, by teacher: a table and a plot.

    STEPSYNTH_DATA=FOLDER python benchmarks/comparisons.py --methods crossfit --sizes small --seeds 1 \
        --data-sets trec rotten_tomatoes --teacher smollm2-135m    # and once for each other teacher
    python benchmarks/by_teacher.py

Reads ``results/cells/NAME-small.jsonl`` and ``results/comparison-NAME-small.json``. A point is one run: the student of both
kinds of rows minus that of the labels alone, with its interval over test rows. The plot shows what was seen; one run of a
teacher says little about it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.comparisons import RESULTS, read_cells, signed  # noqa: E402

# Billions of parameters.
TEACHERS = {"smollm2-135m": 0.135, "qwen2.5-coder-0.5b": 0.5, "qwen2.5-coder-1.5b": 1.5}
DATA_SETS = ("trec", "rotten_tomatoes")
Point = dict[str, Any]


def points_of(name: str) -> list[Point]:
    """Return what each run of the default on a data set came to."""
    found = {}
    # The default teacher's runs of another version are in the file of the whole comparison.
    whole = json.loads((RESULTS / f"comparison-{name}-small.json").read_text())
    for run in whole["worth"]:
        found[whole["teacher"]["model"], run["seed"]] = run["students"]
    for cell in read_cells(RESULTS / "cells" / f"{name}-small.jsonl"):
        if cell["method"] == "crossfit" and cell["teacher"] in TEACHERS and cell["worth"]:
            found[cell["teacher"], cell["seed"]] = {student["student"]: student for student in cell["worth"]["students"]}
    points = [
        {"teacher": teacher, "seed": seed, **{name: students.get(name) for name in ("stages", "written")}}
        for (teacher, seed), students in found.items()
        if "stages" in students
    ]
    return sorted(points, key=lambda point: (TEACHERS[point["teacher"]], point["seed"]))


def apart(student: dict[str, Any] | None) -> str:
    """Return a student's lead over labels alone, in points, with its interval."""
    if student is None or not student["difference"]:
        return ""
    found = student["difference"]
    return signed({"value": 100 * found["value"], "ci95": [100 * end for end in found["ci95"]]})


def print_table(points: dict[str, list[Point]]) -> None:
    """Print one line per run."""
    print(
        "| data | teacher | seed | written rows | written alone, minus labels | both, minus labels |\n|---|---|---|---|---|---|"
    )
    for name, own in points.items():
        for point in own:
            rows = point["written"]["rows"] if point["written"] else 0
            shown = (name, f"`{point['teacher']}`", point["seed"], rows, apart(point["written"]), apart(point["stages"]))
            print(f"| {' | '.join(map(str, shown))} |")


def draw(points: dict[str, list[Point]], out: Path) -> None:
    """Draw one panel per data set."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "stepsynth", "font.size": 9})
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(points), figsize=(7, 2.8), sharey=True, squeeze=False, layout="constrained")
    for axes, (name, own) in zip(panels[0], points.items(), strict=True):
        for point in own:
            found = point["stages"]["difference"]
            # Seeds stand side by side.
            place, value = TEACHERS[point["teacher"]] * 1.12 ** point["seed"], 100 * found["value"]
            low, high = (100 * end for end in found["ci95"])
            axes.errorbar(place, value, [[value - low], [high - value]], fmt="o", color="#1f5fa8", markersize=4, capsize=2)
        axes.axhline(0, color="#777777", linewidth=0.8)
        axes.set(xscale="log", title=name, xlabel="teacher, billions of parameters")
        axes.set_xticks(list(TEACHERS.values()), [str(size) for size in TEACHERS.values()])
        axes.minorticks_off()
        axes.set_xlim(0.1, 2.5)
    panels[0][0].set_ylabel("points over labels alone")
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    """Print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "by-teacher.svg", help="the plot")
    options = parser.parse_args()
    points = {name: points_of(name) for name in DATA_SETS}
    print_table(points)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(points, options.out)


if __name__ == "__main__":
    main()
