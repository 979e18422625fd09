"""Whether the gap between written and real rows shrinks from round to round, and whether it tells the test score.

    python benchmarks/gap.py RUNS/trec-small RUNS/rotten_tomatoes-small ...     # folders of comparisons, or of runs
    python benchmarks/gap.py --table                                            # print the tables from the results again

Run directories are read from copies and stay as they are; unfinished ones are left out. Each is measured twice: against all
labelled rows, as the page shows it, and against the select half alone, whose rows no prompt showed: rows written from a
labelled row may be near that very row and no nearer to any other. ``s3+gold`` is left out: its written rows are those of ``s3``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student_t

from stepsynth.journal import Journal
from stepsynth.run import RunDirectory
from stepsynth.training.gap import find_gap

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gap.json"
# Figure -> whether a smaller gap makes it smaller.
FIGURES = {
    "embedding_auc": True,
    "surface_auc": True,
    "mmd": True,
    "precision": False,
    "recall": False,
    "density": False,
    "coverage": False,
    "vendi": False,
    "distinct_1": False,
    "distinct_2": False,
    "agreement": False,
}
SIDES = {"all": ("harvest", "select"), "select": ("select",)}
# Their students learn from written rows and nothing else.
WRITTEN_ALONE = ("s3", "goldgen", "zerogen")
SHOWN = ("embedding_auc", "surface_auc", "mmd", "recall", "coverage", "agreement")
RESAMPLES = 2_000
FEWEST = 6


def measure(run: Path) -> dict[str, Any] | None:
    """Return a run's figures and test scores; ``None`` if it has not ended."""
    with tempfile.TemporaryDirectory() as name:
        for file in run.iterdir():
            if file.name == "config.json" or file.name.startswith("journal.db"):
                shutil.copy(file, name)
        directory = RunDirectory.read(Path(name))
        with closing(Journal(directory.journal_path)) as journal:
            if journal.meta("finished") is None:
                return None
            gaps = {side: find_gap(journal, directory.config, splits=splits) for side, splits in SIDES.items()}
            tests = {number: journal.evaluation(number, "test") for number in journal.rounds()}
    return {
        "data": directory.config.task.name,
        "method": directory.config.method.name,
        "seed": directory.config.seed,
        "gap": gaps,
        "test": {str(number): score.value for number, score in tests.items() if score is not None},
    }


def runs_in(folders: list[Path]) -> list[Path]:
    """Return the run directories in some folders."""
    found = [folder for given in folders for folder in (given, *sorted(given.iterdir()))]
    return [folder for folder in found if (folder / "journal.db").is_file() and (folder / "config.json").is_file()]


def figure(cell: dict[str, Any], side: str, number: int, name: str) -> float | None:
    """Return a figure of all rows written up to a round."""
    rounds = (cell["gap"][side] or {"rounds": []})["rounds"]
    found = next((entry["all"] for entry in rounds if entry["round"] == number), None)
    return found[name] if found else None


def changes(cells: list[dict[str, Any]], side: str) -> dict[str, Any]:
    """Compare rounds 0 and 1 of s3, run by run."""
    found: dict[str, Any] = {}
    loops = [cell for cell in cells if cell["method"] == "s3"]
    for name, smaller in FIGURES.items():
        pairs = [(figure(cell, side, 0, name), figure(cell, side, 1, name)) for cell in loops]
        both = [(before, after) for before, after in pairs if before is not None and after is not None]
        if len(both) < 2:
            continue
        differences = np.array([after - before for before, after in both])
        half = float(student_t.ppf(0.975, len(both) - 1) * differences.std(ddof=1) / len(both) ** 0.5)
        mean = float(differences.mean())
        nearer = int((differences < 0).sum() if smaller else (differences > 0).sum())
        found[name] = {
            "runs": len(both),
            "round_0": round(float(np.mean([before for before, _ in both])), 4),
            "round_1": round(float(np.mean([after for _, after in both])), 4),
            "change": round(mean, 4),
            "ci95": [round(mean - half, 4), round(mean + half, 4)],
            "nearer": nearer,
        }
    return found


def points(cells: list[dict[str, Any]], side: str, name: str) -> list[tuple[float, float]]:
    """Return figure and test score of every student that learned from written rows alone."""
    found = []
    for cell in cells:
        if cell["method"] in WRITTEN_ALONE:
            for number, score in cell["test"].items():
                value = figure(cell, side, int(number), name)
                if value is not None:
                    found.append((value, score))
    return found


def correlations(cells: list[dict[str, Any]], side: str) -> dict[str, Any]:
    """Return Spearman's correlation of each figure with the test score within a data set, with a bootstrap over students."""
    found: dict[str, Any] = {}
    for name in FIGURES:
        values = np.array(points(cells, side, name))
        if len(values) < FEWEST or len(set(values[:, 0])) < 2:
            continue
        found[name] = correlation(values)
    return found


def correlation(pairs: Any) -> dict[str, Any]:
    """Return Spearman's correlation of pairs with its 95 % interval, by a bootstrap over them."""
    values, draw, drawn = np.array(pairs), np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        sample = values[draw.integers(len(values), size=len(values))]
        if len(set(sample[:, 0])) > 1 and len(set(sample[:, 1])) > 1:
            drawn.append(spearman(sample))
    low, high = np.percentile(drawn, [2.5, 97.5])
    ends = [round(float(low), 2), round(float(high), 2)]
    return {"students": len(values), "rho": round(spearman(values), 2), "ci95": ends}


def gains(cells: list[dict[str, Any]], side: str) -> dict[str, Any]:
    """Return Spearman's correlation of a figure's change from round 0 to 1 of s3 with the change of the test score."""
    found: dict[str, Any] = {}
    for name in FIGURES:
        values = []
        for cell in cells:
            before, after = figure(cell, side, 0, name), figure(cell, side, 1, name)
            if cell["method"] == "s3" and before is not None and after is not None:
                values.append((after - before, cell["test"]["1"] - cell["test"]["0"]))
        if len(values) >= FEWEST:
            found[name] = correlation(values)
    return found


def by_method(cells: list[dict[str, Any]], side: str) -> dict[str, Any]:
    """Return each method's mean figures of all its written rows, and those between halves of the labelled rows."""
    found: dict[str, Any] = {}
    for method in sorted({cell["method"] for cell in cells}):
        last = [cell["gap"][side]["rounds"][-1]["all"] for cell in cells if cell["method"] == method and cell["gap"][side]]
        last = [entry for entry in last if entry]
        if last:
            means = {name: round(float(np.mean([entry[name] for entry in last])), 3) for name in FIGURES}
            found[method] = {"runs": len(last), **means}
    floors = [cell["gap"][side]["floor"] for cell in cells if cell["method"] == "s3" and cell["gap"][side]]
    floors = [floor for floor in floors if floor]
    if floors:
        means = {name: round(float(np.mean([f[name]["mean"] for f in floors])), 3) for name in FIGURES if name in floors[0]}
        found["halves of the labelled rows"] = {"runs": len(floors), **means}
    return found


def spearman(values: Any) -> float:
    """Return Spearman's correlation of two columns."""
    return float(np.corrcoef(rankdata(values, axis=0), rowvar=False)[0, 1])


def summarise(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the tables show."""
    sets: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        sets[cell["data"]].append(cell)
    found: dict[str, Any] = {}
    for side in SIDES:
        found[side] = {
            "changes": {"together": changes(cells, side), **{name: changes(own, side) for name, own in sorted(sets.items())}},
            "methods": by_method(cells, side),
            "gains": gains(cells, side),
            "correlations": {name: correlations(own, side) for name, own in sorted(sets.items())},
        }
    return found


def print_tables(summary: dict[str, Any]) -> None:
    """Print the tables of docs/results.md."""
    for side, found in summary.items():
        print(f"\nAgainst {'all labelled rows' if side == 'all' else 'the select half'}\n")
        print("| figure | round 0 | round 1 | change (95 % interval) | nearer in |\n|---|---|---|---|---|")
        for name, entry in found["changes"]["together"].items():
            low, high = entry["ci95"]
            change = f"{entry['change']:+.3f} ({low:+.3f} to {high:+.3f})"
            rounds = f"{entry['round_0']:.3f} | {entry['round_1']:.3f}"
            print(f"| {name} | {rounds} | {change} | {entry['nearer']} of {entry['runs']} |")
        print("\n| rows of | runs | " + " | ".join(SHOWN) + " |\n|---|---|" + "---|" * len(SHOWN))
        for method, entry in found["methods"].items():
            print(f"| {method} | {entry['runs']} | " + " | ".join(str(entry.get(name, "")) for name in SHOWN) + " |")
        print("\nChange of a figure and of the test score, round 0 to 1: " + json.dumps(found["gains"]))
        sets = list(found["correlations"])
        print(f"\n| figure | {' | '.join(sets)} |\n|---|{'---|' * len(sets)}")
        for name in FIGURES:
            cells = [found["correlations"][data].get(name) for data in sets]
            texts = [f"{c['rho']:+.2f} ({c['ci95'][0]:+.2f} to {c['ci95'][1]:+.2f})" if c else "" for c in cells]
            print(f"| {name} | {' | '.join(texts)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the tables from the results again")
    options = parser.parse_args()
    if not options.table:
        cells = []
        for run in runs_in(options.folders):
            started = time.monotonic()
            cell = measure(run)
            if cell is not None and cell["method"] != "s3+gold":
                cells.append(cell)
            print(f"{run.parent.name}/{run.name}: {time.monotonic() - started:.1f} s", flush=True)
    else:
        cells = json.loads(options.out.read_text(encoding="utf-8"))["cells"]
    summary = summarise(cells)
    lines = ",\n".join(json.dumps(cell) for cell in cells)
    text = f'{{"summary": {json.dumps(summary, indent=1)},\n"cells": [\n{lines}\n]}}\n'
    options.out.write_text(text, encoding="utf-8")
    print_tables(summary)


if __name__ == "__main__":
    main()
