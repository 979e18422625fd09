"""The loop on real data: seed-only against the full loop at the same number of accepted rows, and gold.

    STEPSYNTH_DATA=FOLDER python benchmarks/real_input.py --seeds 3
    python benchmarks/real_input.py --table                   # print the table from the results again

For every data set and seed: ``s3`` runs as configured in ``examples/``; ``seed-only`` then gets
as many seed rows as s3 ended with, under the same rules; ``gold`` trains the same student on the
validation rows themselves (all of them, last checkpoint). All share one file of answers, so the
rows that seed-only and s3 have in common are asked for once. Every cell is a run directory:
start the same command again and it goes on. Results are written after every cell.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from stepsynth.cli.running import run_config
from stepsynth.config import RunConfig, load_config
from stepsynth.data import SealedTest, load_validation
from stepsynth.evaluation.seeds import hierarchical_interval, hierarchical_paired
from stepsynth.journal import Journal
from stepsynth.students import create_student
from stepsynth.types import Example

ROOT = Path(__file__).resolve().parents[1]
DATA_SETS = ("rotten_tomatoes", "trec", "ag_news")


def cell(name: str, seed: int, runs: Path, overrides: list[str], variant: str) -> dict[str, Any]:
    """Run the three systems on one data set with one seed; return scores and per-row correctness."""
    started = time.monotonic()
    config = load_config(ROOT / "examples" / f"{name}.yaml", [f"seed={seed}", f"cache={runs / 'answers.db'}", *overrides])
    folder = runs / f"{variant}-{name}-{seed}-s3"
    s3 = run_config(config, folder, quiet=True)["methods"]["s3"]
    last = s3["rounds"][-1]
    # It must reach the same number of rows, so it may ask far more often than a run normally would.
    reach = {"name": "seed-only", "seed_rows": last["rows"], "max_overgeneration": 15.0}
    method = config.method.model_copy(update=reach)
    seed_folder = runs / f"{variant}-{name}-{seed}-seed-only"
    seed_only = run_config(config.model_copy(update={"method": method}), seed_folder, quiet=True)["methods"]["seed-only"]
    gold = gold_student(config, runs / f"gold-{name}-{seed}")
    return {
        "data": name,
        "seed": seed,
        "rows": {"s3": last["rows"], "seed-only": seed_only["rows"], "gold": gold["rows"]},
        "test": {
            "s3": last["test"]["value"],
            "s3 best round": s3["test"]["value"],
            "seed-only": seed_only["test"]["value"],
            "s3 round 0": s3["rounds"][0]["test"]["value"],
            "gold": gold["value"],
        },
        "select": {"s3": last["select"]["value"], "seed-only": seed_only["rounds"][-1]["select"]["value"]},
        "best_round": s3["best_round"],
        "rounds": [{"rows": r["rows"], "select": r["select"]["value"], "test": r["test"]["value"]} for r in s3["rounds"]],
        "requests": {"s3": s3["requests"], "seed-only": seed_only["requests"]},
        "dropped": {"s3": s3["dropped"], "seed-only": seed_only["dropped"]},
        "missing": {"s3": s3["missing"], "seed-only": seed_only["missing"]},
        "correct": {
            "s3": correct(folder, last["round"]),
            "s3 best round": correct(folder, s3["best_round"]),
            "seed-only": correct(seed_folder, 0),
            "s3 round 0": correct(folder, 0),
            "gold": gold["correct"],
        },
        "seconds": round(time.monotonic() - started),
    }


def correct(folder: Path, round_number: int) -> str:
    """Return one character per test row: 1 right, 0 wrong."""
    with closing(Journal(folder / "journal.db")) as journal:
        return "".join("1" if graded.score == 1.0 else "0" for graded in journal.graded(round_number, "test"))


def gold_student(config: RunConfig, folder: Path) -> dict[str, Any]:
    """Train on the validation rows themselves and score on the test rows."""
    done = folder / "gold.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        validation = load_validation(config)
        rows: list[Example] = [*validation.harvest, *validation.select]
        examples = SealedTest(config).open()
        model = create_student(config).fit(rows, [], seed=config.seed, out=folder)
        right = "".join("1" if p.label == e.label else "0" for p, e in zip(model.predict(examples), examples, strict=True))
        done.write_text(json.dumps({"rows": len(rows), "value": right.count("1") / len(right), "correct": right}))
    found: dict[str, Any] = json.loads(done.read_text())
    return found


def summarise(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per data set: means over seeds, intervals over seeds and test rows, the paired difference."""
    table = []
    for name in dict.fromkeys(c["data"] for c in cells):
        own = [c for c in cells if c["data"] == name]
        row: dict[str, Any] = {"data": name, "seeds": len(own), "systems": {}}
        row["rows"], row["seed_only_rows"] = ([c["rows"][s] for c in own] for s in ("s3", "seed-only"))
        for system in own[0]["correct"]:
            bits = [[bit == "1" for bit in c["correct"][system]] for c in own]
            value = sum(map(sum, bits)) / sum(map(len, bits))
            row["systems"][system] = {"value": value, "ci95": list(hierarchical_interval(bits, seed=0))}
        for other in ("seed-only", "gold"):
            a, b = ([[bit == "1" for bit in c["correct"][s]] for c in own] for s in ("s3", other))
            paired = hierarchical_paired(a, b, seed=0)
            row[f"s3 - {other}"] = {"value": paired.difference, "ci95": list(paired.ci95), "p": paired.p_value}
        table.append(row)
    return table


def print_table(table: list[dict[str, Any]]) -> None:
    """Print Markdown."""
    systems = ["s3 round 0", "seed-only", "s3", "s3 best round", "gold"]
    print("| data | rows, s3 / seed-only | " + " | ".join(systems) + " | s3 - seed-only | p |")
    print("|---|---|" + "---|" * (len(systems) + 2))
    for row in table:
        cells = [interval(row["systems"][s]) for s in systems]
        difference = row["s3 - seed-only"]
        rows = f"{span(row['rows'])} / {span(row['seed_only_rows'])}"
        print(f"| {row['data']} | {rows} | {' | '.join(cells)} | {interval(difference, sign=True)} | {difference['p']:.3f} |")


def span(values: list[int]) -> str:
    """Return ``212-247``, or one number."""
    return f"{min(values)}-{max(values)}" if min(values) < max(values) else str(values[0])


def interval(score: dict[str, Any], *, sign: bool = False) -> str:
    """Return ``71.2 [69.0, 73.1]``, in points."""
    low, high = score["ci95"]
    plus = "+" if sign else ""
    return f"{100 * score['value']:{plus}.1f} [{100 * low:{plus}.1f}, {100 * high:{plus}.1f}]"


def main() -> None:
    """Run the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", nargs="+", default=list(DATA_SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "real_input", help="where the runs are kept")
    parser.add_argument("--variant", default="default", help="name under which results are kept")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], help="config override, e.g. method.label_check=none"
    )
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    out = ROOT / "benchmarks" / "results" / f"real_input-{options.variant}.json"
    cells: list[dict[str, Any]] = json.loads(out.read_text())["cells"] if out.exists() else []
    if not options.table:
        if "STEPSYNTH_DATA" not in os.environ:
            parser.error("set STEPSYNTH_DATA to the folder with the data sets")
        for seed in range(options.seeds):
            for name in options.data_sets:
                if any((c["data"], c["seed"]) == (name, seed) for c in cells):
                    continue
                found = cell(name, seed, options.runs.resolve(), options.overrides, options.variant)
                cells.append(found)
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(
                    json.dumps({"overrides": options.overrides, "cells": cells, "table": summarise(cells)}, indent=1) + "\n"
                )
                scores = ", ".join(f"{system} {100 * value:.1f}" for system, value in found["test"].items())
                print(f"{name} seed {seed}: {scores} ({found['seconds']} s)", flush=True)
    if options.json:
        print(json.dumps(summarise(cells), indent=1))
    else:
        print_table(summarise(cells))


if __name__ == "__main__":
    main()
