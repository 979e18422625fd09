"""How often does ``stepsynth plan --try`` name the way that turns out best?

    STEPSYNTH_DATA=FOLDER python benchmarks/deciding.py --seeds 3      # asks; what is there is not asked again
    python benchmarks/deciding.py --table                              # counts again

A cell is a data set, a number of labels and a seed, as in `comparisons.py`, for the default method. Its trial is a line of
``benchmarks/results/deciding.jsonl``. What turned out best is read from the cells of `comparisons.py`, where the same labels
trained a student alone and together with written rows, both tested on the sealed rows. The rule, fixed before the first
trial was run: *generate* is right if both kinds of rows together are more than half a point better than labels alone; every
other answer is right if they are not. Whether more labels or a stronger teacher would have been better still is not asked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.comparisons import DATA_SETS, RESULTS, ROOT, SIZES, TEACHER, cell_config, read_cells

from stepsynth.api.calls import plan_config
from stepsynth.config import RunConfig

# Points that written rows must add to be worth writing.
WORTH = 0.5


def try_cell(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Return what a trial of the default method found."""
    started = time.monotonic()
    found = plan_config(config, folder, trial=True, progress=False)["trial"]
    return {key: found[key] for key in ("labels", "teacher", "rows", "spent", "decision")} | {
        "minutes": round((time.monotonic() - started) / 60, 2)
    }


def run(options: argparse.Namespace, file: Path) -> None:
    """Try every cell that is missing."""
    told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    known = {(c["data"], c["size"], c["seed"], c["teacher"]) for c in read_cells(file)}
    for seed in range(options.seeds):
        for size in options.sizes:
            for name in options.data_sets:
                if (name, size, seed, options.teacher) in known:
                    continue
                config = cell_config(name, size, seed, options)
                folder = options.runs.resolve() / "trials" / f"{name}-{size}-{seed}"
                line = {"data": name, "size": size, "seed": seed, "teacher": options.teacher, "commit": told.stdout.strip()}
                line["trial"] = try_cell(config, folder)
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(line) + "\n")
                print(f"{name}, {size}, seed {seed}: {line['trial']['decision']['answer']}", flush=True)


def gains(options: argparse.Namespace, name: str, size: str) -> dict[int, float]:
    """Return by seed how many points both kinds of rows were above labels alone."""
    # Runs of before the cells were kept have only a summary.
    summary = options.results / f"comparison-{name}-{size}.json"
    known = json.loads(summary.read_text())["worth"] if summary.exists() else []
    students = {entry["seed"]: entry["students"] for entry in known}
    for cell in read_cells(options.results / "cells" / f"{name}-{size}.jsonl"):
        if (cell["method"], cell["teacher"]) == ("crossfit", options.teacher):
            students[cell["seed"]] = {found["student"]: found for found in cell["worth"]["students"]}
    return {
        seed: round(100 * (found["stages"]["test"]["value"] - found["labels"]["test"]["value"]), 2)
        for seed, found in students.items()
    }


def print_table(options: argparse.Namespace, file: Path) -> None:
    """Print every trial beside what turned out, and how many were right."""
    head = ("data", "labels", "seed", "teacher right", "rows that fit", "probe of labels", "answer", "both minus labels", "")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    right = known = 0
    for cell in (found for found in read_cells(file) if found["teacher"] == options.teacher):
        added, trial = gains(options, cell["data"], cell["size"]).get(cell["seed"]), cell["trial"]
        answer, verdict = trial["decision"]["answer"], ""
        if added is not None:
            known += 1
            fits = (answer == "generate") == (added > WORTH)
            right += fits
            verdict = "right" if fits else "wrong"
        print(
            f"| {cell['data']} | {cell['size']} | {cell['seed']} | {share(trial['teacher'])} | {share(trial['rows'])} | "
            f"{share(trial['labels'])} | {answer} | {'' if added is None else f'{added:+.1f}'} | {verdict} |"
        )
    print(f"\n{right} of {known} right")


def share(found: dict[str, Any] | None) -> str:
    """Return a share in percent; nothing if there is none."""
    return "" if not found or found["value"] is None else f"{100 * found['value']:.0f} %"


def main() -> None:
    """Try what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", nargs="+", default=list(DATA_SETS[:4]))
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["small"])
    parser.add_argument("--teacher", default=TEACHER)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "comparisons", help="where answers are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the numbers are kept")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="config override")
    parser.add_argument("--table", action="store_true", help="only print the table")
    options = parser.parse_args()
    options.pool = False
    options.overrides = ["method.name=crossfit", *options.overrides]
    file = options.results / "deciding.jsonl"
    if not options.table:
        if "STEPSYNTH_DATA" not in os.environ:
            parser.error("set STEPSYNTH_DATA to the folder with the data sets")
        run(options, file)
    print_table(options, file)


if __name__ == "__main__":
    main()
