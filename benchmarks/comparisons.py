"""Every method against the user's own labels on real data, with few and with more labels: `stepsynth compare`.

    STEPSYNTH_DATA=FOLDER python benchmarks/comparisons.py --seeds 3
    python benchmarks/comparisons.py --table            # print the tables from the results again

One comparison per config in ``examples/`` and number of labelled rows: 60 and 300, where there are many labels
2 and 4 rows of each. Every comparison has its own folder under ``--runs``; one that was stopped goes on, and more
seeds only add cells. All share one file of answers. The order is seed by seed, so that what is there at any time
covers all data sets. After every comparison ``benchmarks/results/comparison-NAME-ROWS.json`` is written, and
``comparisons.json`` with the averages over data sets.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from stepsynth.cli.comparing import compare_methods
from stepsynth.comparison import comparison_markdown
from stepsynth.config import load_config

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DATA_SETS = ("trec", "rotten_tomatoes", "sms_spam", "tweeteval_irony", "banking77", "ag_news")
SIZES = {"small": 60, "large": 300}
# Rows of each label, where a data set has more labels than this.
MANY, EACH = 20, {"small": 2, "large": 4}
METHODS = "s3,gold,gold:student.head=probe,zerogen,goldgen,s3+gold,crossfit"
TEACHER = "qwen2.5-coder-1.5b"
# S3 minus the system, in points, averaged over four data sets (Wang et al. 2023, table 2).
PAPER = {"zerogen": 9.48, "goldgen": 2.73}


def compared(name: str, size: str, seeds: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run, or go on with, one comparison, and keep its numbers."""
    started = time.monotonic()
    overrides = [f"cache={options.runs.resolve() / 'answers.db'}", f"teacher.model={options.teacher}", *options.overrides]
    config = load_config(ROOT / "examples" / f"{name}.yaml", overrides)
    labels = len(config.task.labels)
    rows = EACH[size] * labels if labels > MANY else SIZES[size]
    config = load_config(ROOT / "examples" / f"{name}.yaml", [*overrides, f"data.validation.sample={rows}"])
    results = compare_methods(
        config,
        options.methods,
        seeds=seeds,
        match="rows",
        folder=options.runs.resolve() / f"{name}-{size}",
        reference=options.reference,
    )
    results |= {"data": name, "size": size, "labelled_rows": rows}
    results["worth"] = worth_of(options.runs.resolve() / f"{name}-{size}", seeds)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / f"comparison-{name}-{size}.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"{name}, {rows} labelled rows, {seeds} seeds: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    return results


def worth_of(folder: Path, seeds: int) -> list[dict[str, Any]]:
    """Return what labels alone, written rows alone and both came to on the sealed test, seed by seed, in the default's runs."""
    worth = []
    for seed in range(seeds):
        file = folder / f"crossfit-{seed}" / "results.json"
        if file.exists() and (found := json.loads(file.read_text())["methods"]["crossfit"].get("worth")):
            students = {entry["student"]: entry for entry in found["students"]}
            worth.append({"seed": seed, "chosen": found["chosen"], "students": students})
    return worth


def print_worth(found: list[dict[str, Any]]) -> None:
    """Print one line per data set, size and seed."""
    print(
        "\n| data | labels | seed | labels alone | written alone: rows, score, minus labels | both: score, minus labels | taken |"
    )
    print("|---|---|---|---|---|---|---|")
    for results in found:
        for entry in results.get("worth", []):
            cells = []
            for name, student in entry["students"].items():
                difference = student["difference"]
                apart = ""
                if difference:
                    low, high = (100 * end for end in difference["ci95"])
                    apart = f", {100 * difference['value']:+.1f} [{low:+.1f}, {high:+.1f}]"
                rows = f"{student['rows']}, " if name == "written" else ""
                cells.append(f"{rows}{100 * student['test']['value']:.1f}{apart}")
            print(
                f"| {results['data']} | {results['labelled_rows']} | {entry['seed']} | {' | '.join(cells)} | {entry['chosen']} |"
            )


def averages(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return, per size and system, its mean lead over gold in points, where it is established, and s3's lead over it."""
    summary: dict[str, Any] = {}
    for results in found:
        scores = {entry["name"]: entry["score"]["value"] for entry in results["systems"]}
        for entry in results["systems"]:
            line = summary.setdefault(results["size"], {}).setdefault(
                entry["name"], {"over_gold": {}, "s3_ahead_by": {}, "established": [], "paper": PAPER.get(entry["name"])}
            )
            if "gold" in scores:
                line["over_gold"][results["data"]] = round(100 * (entry["score"]["value"] - scores["gold"]), 2)
            if "s3" in scores:
                line["s3_ahead_by"][results["data"]] = round(100 * (scores["s3"] - entry["score"]["value"]), 2)
            difference = entry["difference"]
            if difference and difference["ci95"][0] > 0 and difference["p_holm"] < 0.05:
                line["established"].append(results["data"])
    for systems in summary.values():
        for line in systems.values():
            for name in ("over_gold", "s3_ahead_by"):
                values = list(line[name].values())
                line[f"mean_{name}"] = round(sum(values) / len(values), 2) if values else None
    return summary


def print_summary(summary: dict[str, Any]) -> None:
    """Print one table per size: points over gold, data set by data set."""
    for size, systems in summary.items():
        names = list(dict.fromkeys(name for line in systems.values() for name in line["over_gold"]))
        print(f"\nPoints over gold, {size}\n\n| | " + " | ".join(names) + " | mean | established on | s3 minus it (paper) |")
        print("|---|" + "---|" * (len(names) + 3))
        for name, line in systems.items():
            shown = [f"{line['over_gold'][data]:+.1f}" if data in line["over_gold"] else "" for data in names]
            paper = f" ({line['paper']:+.2f})" if line["paper"] is not None else ""
            mean = line["mean_over_gold"] or 0.0
            established = ", ".join(line["established"]) or "-"
            ahead = "-" if line["mean_s3_ahead_by"] is None else f"{line['mean_s3_ahead_by']:+.2f}"
            print(f"| {name} | {' | '.join(shown)} | {mean:+.2f} | {established} | {ahead}{paper} |")


def main() -> None:
    """Run what is missing, write the results, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", nargs="+", default=list(DATA_SETS))
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--teacher", default=TEACHER)
    parser.add_argument("--reference", default="gold", help="what the others are compared with")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "comparisons", help="where the runs are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the numbers are kept")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="config override")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    options = parser.parse_args()
    if not options.table:
        if "STEPSYNTH_DATA" not in os.environ:
            parser.error("set STEPSYNTH_DATA to the folder with the data sets")
        for seeds in range(1, options.seeds + 1):
            for size in options.sizes:
                for name in options.data_sets:
                    compared(name, size, seeds, options)
    files = [options.results / f"comparison-{name}-{size}.json" for size in options.sizes for name in options.data_sets]
    found = [json.loads(file.read_text()) for file in files if file.exists()]
    summary = averages(found)
    (options.results / "comparisons.json").write_text(json.dumps(summary, indent=1) + "\n")
    for results in found:
        print(f"\n## {results['data']}, {results['labelled_rows']} labelled rows\n")
        print(comparison_markdown(results))
    print_summary(summary)
    print_worth(found)


if __name__ == "__main__":
    main()
