"""The same student on data that large models wrote for others, on gold data, and tested on the real test sets.

    STEPSYNTH_DATA=FOLDER python benchmarks/published.py --seeds 2
    python benchmarks/published.py --table              # print the tables from the results again

The embedded teacher is too weak for entailment, so the released data of the S3 paper (GPT-3.5), of
SuperGen (CTRL) and of FuseGen (GPT-3.5) stand in for it. Rows are drawn with the seed, evenly over
the labels, and taken as ``data.seed`` of a run without further rounds; ``gold`` systems draw the same number of real
training rows. IMDb asks whether extrapolated rows help at the same size: half of the seed rows are
exchanged for rows of the released rounds. Every cell is a run directory, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

from stepsynth.cli.running import run_config
from stepsynth.config import load_config
from stepsynth.evaluation import hierarchical_interval, hierarchical_paired
from stepsynth.journal import Journal

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "published.json"
FUSEGEN = "fusegen_imdb/gpt-3.5-turbo-instruct"
S3_IMDB = ("s3_synth_imdb/additional_1", "s3_synth_imdb/additional_2")
S3_RTE = ("s3_synth_rte/additional_1", "s3_synth_rte/additional_2")
# Task -> system -> [(files, rows)]; the first system is what the others are compared with.
SYSTEMS: dict[str, dict[str, list[tuple[tuple[str, ...], int]]]] = {
    "rte": {
        "s3 (GPT-3.5), 700": [(S3_RTE, 700)],
        "supergen (CTRL), 700": [(("supergen_rte/train",), 700)],
        "gold, 300": [(("rte/train",), 300)],
        "gold, 700": [(("rte/train",), 700)],
    },
    "qnli": {
        "supergen (CTRL), 700": [(("supergen_qnli/train",), 700)],
        "gold, 300": [(("qnli/train",), 300)],
        "gold, 700": [(("qnli/train",), 700)],
    },
    "imdb": {
        "fusegen 400 + s3 400": [((FUSEGEN,), 400), (S3_IMDB, 400)],
        "fusegen, 800": [((FUSEGEN,), 800)],
        "fusegen, 400": [((FUSEGEN,), 400)],
        "s3, 800": [(S3_IMDB, 800)],
        "gold, 300": [(("imdb/train",), 300)],
        "gold, 800": [(("imdb/train",), 800)],
    },
}


def draw(data: Path, parts: list[tuple[tuple[str, ...], int]], seed: int) -> list[dict[str, Any]]:
    """Return rows, evenly over the labels of each part, in a seeded order; texts occur once."""
    chosen: list[dict[str, Any]] = []
    for files, count in parts:
        by_label: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for name in files:
            with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    texts = "\n".join(str(row[key]).strip() for key in ("text", "text1", "text2") if key in row)
                    if texts.strip():
                        by_label[row["label"]].setdefault(texts, row)
        for label in sorted(by_label):
            rows = list(by_label[label].values())
            chosen += random.Random(f"{seed} {files} {label}").sample(rows, min(len(rows), count // len(by_label)))
    random.Random(f"{seed} order").shuffle(chosen)
    return chosen


def cell(task: str, system: str, seed: int, runs: Path, data: Path) -> dict[str, Any]:
    """Train and test one student; return its scores."""
    started = time.monotonic()
    name = f"{task}-{'-'.join(''.join(c if c.isalnum() else ' ' for c in system).split())}-{seed}"
    runs.mkdir(parents=True, exist_ok=True)
    rows = runs / f"{name}.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in draw(data, SYSTEMS[task][system], seed)), encoding="utf-8")
    overrides = [f"seed={seed}", "method.name=seed-only", f"data.seed.path={rows}", "cache=null"]
    config = load_config(ROOT / "examples" / f"{task}.yaml", overrides)
    results = run_config(config, runs / name, quiet=True, students=runs / "students")["methods"]["seed-only"]
    with closing(Journal(runs / name / "journal.db")) as journal:
        right = "".join(str(int(graded.score)) for graded in journal.graded(0, "test"))
    return {
        "task": task,
        "system": system,
        "seed": seed,
        "rows": results["rows"],
        "dropped": results["dropped"],
        "select": results["rounds"][0]["select"]["value"],
        "test": results["test"]["value"],
        "right": right,
        "seconds": round(time.monotonic() - started),
    }


def print_tables(cells: list[dict[str, Any]]) -> None:
    """Print one Markdown table per task."""
    for task in dict.fromkeys(c["task"] for c in cells):
        own = [c for c in cells if c["task"] == task]
        systems = [s for s in SYSTEMS[task] if any(c["system"] == s for c in own)]
        bits = {s: {c["seed"]: [b == "1" for b in c["right"]] for c in own if c["system"] == s} for s in systems}
        print(f"\n| {task}: training rows | rows kept | seeds | test accuracy [95 %] | minus {systems[0]} [95 %] | p |")
        print("|---|---|---|---|---|---|")
        for system in systems:
            seeds = sorted(bits[system])
            scores = [bits[system][seed] for seed in seeds]
            mean = sum(map(sum, scores)) / sum(map(len, scores))
            low, high = hierarchical_interval(scores, 0)
            kept = sorted({c["rows"] for c in own if c["system"] == system})
            line = f"| {system} | {kept[0]}-{kept[-1]} | {len(seeds)} | {100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            both = [seed for seed in seeds if seed in bits[systems[0]]]
            if system == systems[0] or not both:
                print(f"{line} | | |")
                continue
            paired = hierarchical_paired([bits[system][s] for s in both], [bits[systems[0]][s] for s in both], 0)
            low, high = paired.ci95
            print(f"{line} | {100 * paired.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] | {paired.p_value:.3f} |")


def main() -> None:
    """Run the cells that are missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "published", help="where the runs are kept")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cells: list[dict[str, Any]] = json.loads(RESULTS.read_text())["cells"] if RESULTS.exists() else []
    if not options.table:
        if "STEPSYNTH_DATA" not in os.environ:
            parser.error("set STEPSYNTH_DATA to the folder with the data sets")
        for seed in range(options.seeds):
            for task in options.tasks:
                for system in SYSTEMS[task]:
                    if any((c["task"], c["system"], c["seed"]) == (task, system, seed) for c in cells):
                        continue
                    cells.append(cell(task, system, seed, options.runs.resolve(), Path(os.environ["STEPSYNTH_DATA"])))
                    RESULTS.parent.mkdir(parents=True, exist_ok=True)
                    RESULTS.write_text(json.dumps({"cells": cells}, indent=1) + "\n")
                    print(f"{task}, {system}, seed {seed}: {100 * cells[-1]['test']:.1f} ({cells[-1]['seconds']} s)", flush=True)
    if options.json:
        print(json.dumps(cells, indent=1))
        return
    print_tables(cells)


if __name__ == "__main__":
    main()
