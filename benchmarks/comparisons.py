"""Every method on real data at the same number of accepted rows: `stepsynth compare`, data set by data set.

    STEPSYNTH_DATA=FOLDER python benchmarks/comparisons.py --seeds 3
    python benchmarks/comparisons.py --table            # print the tables from the results again

One comparison per config in ``examples/``, each in its own folder under ``--runs``; a run that was
stopped goes on, and more seeds only add cells. All share one file of answers. After every data set
``benchmarks/results/comparison-NAME.json`` is written, and ``comparisons.json`` with the averages
over data sets that the paper's table is set against.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from stepsynth.cli.comparing import compare_methods
from stepsynth.compare import comparison_markdown
from stepsynth.config import load_config

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DATA_SETS = ("rotten_tomatoes", "trec", "ag_news", "sms_spam", "tweeteval_irony", "banking77")
METHODS = "s3,seed-only,goldgen,zerogen,zerogen:method.label_check=harvest,gold,s3+gold"
# S3 minus the system, in points, averaged over four data sets (Wang et al. 2023, table 2).
PAPER = {"zerogen": 9.48, "goldgen": 2.73}


def averages(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return, for each system, how far s3 is ahead of it on average over data sets, in points."""
    ahead: dict[str, list[float]] = {}
    established: dict[str, int] = {}
    for results in found:
        for entry in results["systems"]:
            if results["reference"] == "s3" and entry["difference"]:
                ahead.setdefault(entry["name"], []).append(-100 * entry["difference"]["value"])
                below = entry["difference"]["ci95"][1] < 0 and entry["difference"]["p_holm"] < 0.05
                established[entry["name"]] = established.get(entry["name"], 0) + below
    return {
        name: {
            "s3_ahead_by": round(sum(values) / len(values), 2),
            "data_sets": len(values),
            "established_on": established[name],
            "paper": PAPER.get(name),
        }
        for name, values in ahead.items()
    }


def main() -> None:
    """Run what is missing, write the results, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", nargs="+", default=list(DATA_SETS))
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--reference", default="s3", help="what the others are compared with")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "comparisons", help="where the runs are kept")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="config override")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.table:
        if "STEPSYNTH_DATA" not in os.environ:
            parser.error("set STEPSYNTH_DATA to the folder with the data sets")
        RESULTS.mkdir(parents=True, exist_ok=True)
        for seeds in range(1, options.seeds + 1):
            for name in options.data_sets:
                started = time.monotonic()
                cache = f"cache={options.runs.resolve() / 'answers.db'}"
                config = load_config(ROOT / "examples" / f"{name}.yaml", [cache, *options.overrides])
                folder = options.runs.resolve() / name
                results = compare_methods(
                    config, options.methods, seeds=seeds, match="rows", folder=folder, reference=options.reference
                )
                (RESULTS / f"comparison-{name}.json").write_text(json.dumps(results, indent=1) + "\n")
                print(f"{name}, {seeds} seeds: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    files = [RESULTS / f"comparison-{name}.json" for name in options.data_sets]
    found = [json.loads(file.read_text()) for file in files if file.exists()]
    summary = averages(found)
    (RESULTS / "comparisons.json").write_text(json.dumps(summary, indent=1) + "\n")
    if options.json:
        print(json.dumps({"averages": summary, "comparisons": found}, indent=1))
        return
    for results in found:
        print(comparison_markdown(results))
    for name, entry in summary.items():
        paper = f" (the paper: {entry['paper']:+.2f})" if entry["paper"] is not None else ""
        print(
            f"s3 against {name}: {entry['s3_ahead_by']:+.2f} points on average over {entry['data_sets']} data sets{paper}, "
            f"established on {entry['established_on']}"
        )


if __name__ == "__main__":
    main()
