"""Every method against the user's own labels on real data, with few and with more labels.

    STEPSYNTH_DATA=FOLDER python benchmarks/comparisons.py --seeds 3
    STEPSYNTH_DATA=FOLDER python benchmarks/comparisons.py --pool --methods pool,annotate,crossfit
    python benchmarks/comparisons.py --table            # print the tables from the results again

60 and 300 labelled rows, drawn with the seed from the training file; where there are many labels, 2 and 4 rows of each.
Every seed of a data set is one `stepsynth compare` in a folder under ``--runs``; one that was stopped goes on. What a
method came to with one seed, right or wrong test row by test row, is a line of ``benchmarks/results/cells/NAME-SIZE.jsonl``:
nothing that is there is run again, on whatever machine it was made, and intervals are over all seeds that are there.
The order is seed by seed, so that what is there at any time covers all data sets.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stepsynth.cli.comparing import compare_methods
from stepsynth.comparison import parse_systems, read_cell
from stepsynth.config import RunConfig, load_config
from stepsynth.evaluation.seeds import hierarchical_interval, hierarchical_paired
from stepsynth.evaluation.statistics import holm, shown_p

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DATA_SETS = ("trec", "rotten_tomatoes", "sms_spam", "tweeteval_irony", "banking77", "ag_news")
SIZES = {"small": 60, "large": 300}
# Rows of each label, where a data set has more labels than this.
MANY, EACH = 20, {"small": 2, "large": 4}
METHODS = "s3,gold,gold:student.head=probe,zerogen,goldgen,s3+gold,crossfit"
TEACHER = "qwen2.5-coder-1.5b"
# S3 minus the method, in points, averaged over four data sets (Wang et al. 2023, table 2).
PAPER = {"zerogen": 9.48, "goldgen": 2.73}
Cells = list[dict[str, Any]]


# running -------------------------------------------------------------------------------


def cell_config(name: str, size: str, seed: int, options: argparse.Namespace) -> RunConfig:
    """Return the config of one data set, size and seed."""
    example = ROOT / "examples" / f"{name}.yaml"
    overrides = [f"cache={options.runs.resolve() / 'answers.db'}", f"teacher.model={options.teacher}", *options.overrides]
    config = load_config(example, overrides)
    labels = len(config.task.labels)
    rows = EACH[size] * labels if labels > MANY else SIZES[size]
    # All seeds are tested on the same rows.
    overrides += [f"data.validation.sample={rows}", "data.test.seed=0", f"seed={seed}"]
    if options.pool:
        # The rest of the training file, without its labels: rows that are labelled are left out by the program.
        overrides.append(f"data.pool.path={config.data.validation.path}")
    return load_config(example, overrides)


def run_seed(name: str, size: str, seed: int, options: argparse.Namespace) -> None:
    """Run, or go on with, what is missing of one seed on one data set, and keep it."""
    started = time.monotonic()
    config = cell_config(name, size, seed, options)
    rows = config.data.validation.sample
    file = options.results / "cells" / f"{name}-{size}.jsonl"
    known = {cell["method"] for cell in read_cells(file) if cell["seed"] == seed and cell["teacher"] == options.teacher}
    systems = parse_systems(options.methods, config)
    wanted = [system for system in systems if called(system.name, pool=options.pool) not in known]
    if not wanted:
        return
    # What sets the budget is run again for the methods that are given it.
    needed = [system for system in systems if system in wanted or (system.sets_budget and any(w.takes_budget for w in wanted))]
    folder = options.runs.resolve() / f"{name}-{size}{'-pool' * options.pool}"
    compare_methods(config, ",".join(s.name for s in needed), seeds=1, match="rows", folder=folder, jobs=options.jobs)
    file.parent.mkdir(parents=True, exist_ok=True)
    for system in wanted:
        cell = read_cell(folder / f"{system.folder}-{seed}", system.name)
        line = {
            "data": name,
            "size": size,
            "teacher": options.teacher,
            "labelled_rows": rows,
            "method": called(system.name, pool=options.pool),
            "seed": seed,
            "metric": cell.metric,
            "rows": cell.rows,
            "accepted_rows": cell.spent_rows,
            "requests": cell.requests,
            "tokens": cell.tokens,
            "steps": cell.steps,
            "minutes": {kind: round(seconds / 60, 2) for kind, seconds in cell.seconds.items()},
            "rounds": [{"rows": r.rows, "test": round(sum(r.test) / len(r.test), 6)} for r in cell.rounds if r.test],
            "worth": worth_of(cell.folder),
            "commit": options.commit,
            "test": packed(cell.test),
        }
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
    print(f"{name}, {rows} labelled rows, seed {seed}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)


def called(method: str, *, pool: bool) -> str:
    """Return a method's name in tables: the default with a pool is another one than without."""
    return method.replace("crossfit", "crossfit+pool", 1) if pool else method


def worth_of(folder: Path) -> dict[str, Any] | None:
    """Return what labels alone, written rows alone and both came to on the sealed test, where a run says so."""
    (found,) = json.loads((folder / "results.json").read_text())["methods"].values()
    return found.get("worth")  # type: ignore[no-any-return]


def packed(scores: tuple[float, ...]) -> str | list[float]:
    """Return right and wrong as a text of 1 and 0; scores that are shares as they are."""
    if set(scores) <= {0.0, 1.0}:
        return "".join("1" if score else "0" for score in scores)
    return [round(score, 6) for score in scores]


def read_cells(file: Path) -> Cells:
    """Return the cells of one data set and size."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


# tables --------------------------------------------------------------------------------


def summarise(cells: Cells) -> list[dict[str, Any]]:
    """Return per method its mean score, its lead over gold with interval and p-value, and what it used."""
    by_method: dict[str, dict[int, dict[str, Any]]] = {}
    for cell in cells:
        by_method.setdefault(cell["method"], {})[cell["seed"]] = cell
    scores = {name: {seed: [float(v) for v in cell["test"]] for seed, cell in own.items()} for name, own in by_method.items()}
    lines: list[dict[str, Any]] = []
    for name, own in by_method.items():
        tests = [scores[name][seed] for seed in sorted(own)]
        line: dict[str, Any] = {
            "method": name,
            "seeds": sorted(own),
            "per_seed": [round(100 * sum(test) / len(test), 2) for test in tests],
            "ci95": [round(100 * end, 2) for end in hierarchical_interval(tests, 0)],
            **{key: [own[seed][key] for seed in sorted(own)] for key in ("rows", "requests", "steps")},
            "minutes": round(sum(sum(cell["minutes"].values()) for cell in own.values()), 1),
        }
        line["score"] = round(sum(line["per_seed"]) / len(tests), 2)
        for other in ("gold", "s3"):
            shared = sorted(set(own) & set(scores.get(other, {})))
            if name == other or not shared:
                continue
            found = hierarchical_paired([scores[name][s] for s in shared], [scores[other][s] for s in shared], 0)
            line[f"minus_{other}"] = {
                "value": round(100 * found.difference, 2),
                "ci95": [round(100 * end, 2) for end in found.ci95],
                "p": found.p_value,
                "seeds": shared,
            }
        lines.append(line)
    compared = [line["minus_gold"] for line in lines if "minus_gold" in line]
    for found, adjusted in zip(compared, holm([found["p"] for found in compared]), strict=True):
        found["p_holm"] = adjusted
    return lines


def signed(found: dict[str, Any]) -> str:
    """Return a difference in points with its interval."""
    low, high = found["ci95"]
    return f"{found['value']:+.1f} [{low:+.1f}, {high:+.1f}]"


def print_data_set(title: str, lines: list[dict[str, Any]]) -> None:
    """Print one line per method."""
    print(f"\n## {title}\n")
    print("| method | seeds | rows | requests | accuracy, seed by seed | mean [95 %] | minus gold | p (Holm) |")
    print("|---|---|---|---|---|---|---|---|")
    for line in lines:
        minus, (low, high) = line.get("minus_gold"), line["ci95"]
        cells = [
            line["method"],
            str(len(line["seeds"])),
            *(f"{min(line[key])}-{max(line[key])}" for key in ("rows", "requests")),
            ", ".join(f"{value:.1f}" for value in line["per_seed"]),
            f"{line['score']:.1f} [{low:.1f}, {high:.1f}]",
            signed(minus) if minus else "",
            shown_p(minus["p_holm"]) if minus else "",
        ]
        print(f"| {' | '.join(cells)} |")


def print_worth(cells: Cells) -> None:
    """Print what the last students of a run came to, one line per data set, size and seed."""
    print(
        "\n| data | labels | seed | labels alone | written alone: rows, score, minus labels | both: score, minus labels | taken |"
    )
    print("|---|---|---|---|---|---|---|")
    for cell in cells:
        if not cell["worth"]:
            continue
        shown = []
        for student in cell["worth"]["students"]:
            apart = ""
            if found := student["difference"]:
                apart = ", " + signed({"value": 100 * found["value"], "ci95": [100 * end for end in found["ci95"]]})
            if student["student"] not in ("labels", "written", "both", "stages"):
                continue
            rows = f"{student['rows']}, " if student["student"] == "written" else ""
            shown.append(f"{rows}{100 * student['test']['value']:.1f}{apart}")
        print(f"| {cell['data']} | {cell['labelled_rows']} | {cell['seed']} | {' | '.join(shown)} | {cell['worth']['chosen']} |")


def print_choices(cells: Cells) -> None:
    """Print what the default's choice, and other rules, come to over labels alone: points, averaged over data sets.

    A rule sees the rows that both students got right in cross-validation, as the product does.
    """
    for size in dict.fromkeys(cell["size"] for cell in cells):
        apart: dict[str, list[tuple[float, float, bool]]] = {}
        for cell in cells:
            found = {entry["student"]: entry for entry in (cell["worth"] or {}).get("students", ())}
            pair = [found.get(name) for name in ("labels", "stages")]
            if cell["size"] != size or cell["method"] != "crossfit" or not all(entry and entry.get("crossfit") for entry in pair):
                continue
            test, judged = (pair[1][key]["value"] - pair[0][key]["value"] for key in ("test", "crossfit"))  # type: ignore[index]
            apart.setdefault(cell["data"], []).append((100 * test, judged, cell["worth"]["chosen"] != "labels"))
        if not apart:
            continue
        rules: dict[str, Callable[[float, float, bool], float]] = {
            "both kinds always": lambda test, judged, both: test,
            "as the run chose": lambda test, judged, both: test * both,
            "labels at any lead in cross-validation": lambda test, judged, both: test * (judged >= 0),
        }
        print(f"\nPoints over labels alone by how the student is chosen, {size}, {sum(map(len, apart.values()))} runs")
        for name, rule in rules.items():
            means = [sum(rule(*run) for run in own) / len(own) for own in apart.values()]
            print(f"- {name}: {sum(means) / len(means):+.2f}")


def print_means(summaries: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    """Print points over gold and s3's lead, data set by data set and on average."""
    for size in dict.fromkeys(size for _, size in summaries):
        own = {name: {line["method"]: line for line in lines} for (name, at), lines in summaries.items() if at == size}
        print(f"\nPoints over gold, {size}\n\n| | {' | '.join(own)} | mean | s3 minus it (paper) |")
        print("|---|" + "---|" * (len(own) + 2))
        for method in dict.fromkeys(name for lines in own.values() for name in lines):
            over = [lines.get(method, {}).get("minus_gold") for lines in own.values()]
            behind = [lines[method]["minus_s3"]["value"] for lines in own.values() if "minus_s3" in lines.get(method, {})]
            values = [found["value"] for found in over if found]
            mean = f"{sum(values) / len(values):+.1f}" if values else ""
            ahead = f"{-sum(behind) / len(behind):+.1f}" if behind else ""
            paper = f" ({PAPER[method]:+.2f})" if method in PAPER else ""
            print(f"| {method} | {' | '.join(signed(f) if f else '' for f in over)} | {mean} | {ahead}{paper} |")


def print_tables(options: argparse.Namespace) -> None:
    """Print every table, and keep the numbers behind them."""
    summaries, everything = {}, []
    for size in options.sizes:
        for name in options.data_sets:
            cells = [
                cell
                for cell in read_cells(options.results / "cells" / f"{name}-{size}.jsonl")
                if cell["teacher"] == options.teacher
            ]
            if cells:
                summaries[name, size] = summarise(cells)
                everything += cells
                print_data_set(f"{name}, {cells[0]['labelled_rows']} labelled rows", summaries[name, size])
    print_means(summaries)
    print_worth(everything)
    print_choices(everything)
    kept = [{"data": name, "size": size, "methods": lines} for (name, size), lines in summaries.items()]
    (options.results / "comparisons.json").write_text(json.dumps(kept, indent=1) + "\n")


def main() -> None:
    """Run what is missing, keep the results, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", nargs="+", default=list(DATA_SETS))
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--pool", action="store_true", help="give the methods the rest of the training file without labels")
    parser.add_argument("--teacher", default=TEACHER)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, help="students to train at once")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "comparisons", help="where the runs are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the numbers are kept")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="config override")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    options = parser.parse_args()
    if not options.table:
        if "STEPSYNTH_DATA" not in os.environ:
            parser.error("set STEPSYNTH_DATA to the folder with the data sets")
        told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
        options.commit = told.stdout.strip()
        for seed in range(options.seeds):
            for size in options.sizes:
                for name in options.data_sets:
                    run_seed(name, size, seed, options)
    print_tables(options)


if __name__ == "__main__":
    main()
