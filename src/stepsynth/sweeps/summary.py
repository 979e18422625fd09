"""One table over a sweep's comparisons: what each says, averages over data sets, and what is missing.

The averages have the same weight for every data set. Each is paired by data set, seed and row; `averaged_paired` of
`stepsynth.evaluation.seeds` says how its interval is computed. No p-value is given for an average: those of the single
comparisons are corrected for their methods and looks, and none is for looks at a growing number of data sets.
"""

from __future__ import annotations

import json
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepsynth.comparison import cell_folder, read_cell
from stepsynth.comparison.cells import plan_cells
from stepsynth.errors import UserError
from stepsynth.evaluation.seeds import averaged_interval, averaged_paired, other_data_sets
from stepsynth.journal.looking import Look
from stepsynth.run import JOURNAL
from stepsynth.sweeps.tables import detail_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stepsynth.comparison import Cell
    from stepsynth.evaluation.clusters import Clusters
    from stepsynth.execution import CheckedComparison
    from stepsynth.sweeps.spec import Part, SweepSpec

__all__ = ["FEWEST_FOR_OTHERS", "Standing", "dumped", "earlier_standing", "is_finished", "summarise_sweep"]

FEWEST_FOR_OTHERS = 6
"""Data sets from which an interval for other data sets is given: a sign test over fewer cannot reach 5 %."""

_LEVEL = 0.05
_KEPT = ("name", "score", "per_seed", "difference", "rows", "requests", "tokens", "usd", "minutes")


@dataclass
class Standing:
    """How far a comparison has come.

    Attributes:
        results: the content of its ``results.json`` once it has ended in this attempt.
        problem: why it ended early; empty if it did not.
        cells: its finished cells by their folders' names.
    """

    results: dict[str, Any] | None = None
    problem: str = ""
    cells: dict[str, Cell] = field(default_factory=dict)


def is_finished(run: Path) -> bool:
    """Whether a run has ended; nothing is changed, and a damaged one has not."""
    if not (run / JOURNAL).is_file():
        return False
    with suppress(UserError, OSError, ValueError, LookupError, TypeError), closing(Look(run / JOURNAL)) as journal:
        return bool(journal.select("SELECT 1 FROM sqlite_master WHERE name = 'meta'")) and journal.meta("finished") is not None
    return False


def earlier_standing(spec: SweepSpec, part: Part, checked: CheckedComparison) -> Standing:
    """Return how far an earlier attempt came with a comparison: its results, if they are those of the same cells."""
    standing = Standing()
    _add_cells(spec, part, checked, standing)
    try:
        found = json.loads((spec.place(part) / "results.json").read_text(encoding="utf-8"))
        planned = list(plan_cells(checked.config, checked.systems, spec.seeds))
        same = (
            len(standing.cells) == len(planned)
            and {entry["name"] for entry in found["systems"]} == {system.name for system in checked.systems}
            and found["seeds"] == sorted({seed for _, _, seed in planned})
            and (found["reference"], found["match"]) == (checked.reference, spec.match)
            and all({"test_rows", "metric", "warnings"} <= set(found) and set(_KEPT) <= set(entry) for entry in found["systems"])
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return standing
    standing.results = found if same else None
    if same and not _can_be_shown(spec, part, checked, standing):
        standing.results = None
    return standing


def _can_be_shown(spec: SweepSpec, part: Part, checked: CheckedComparison, standing: Standing) -> bool:
    """Whether stored results have the values that a table needs; a file that was damaged is written anew from its cells."""
    try:
        shown = _comparison(spec, part, checked, standing)
        detail_rows({"comparisons": [shown], "reference": checked.reference, "settings": []})
    except (AttributeError, ArithmeticError, LookupError, TypeError, ValueError):
        return False
    numbers = [entry[key] for entry in shown["systems"] for key in ("tokens", "minutes")]
    return (
        isinstance(shown["metric"], str)
        and isinstance(shown["test_rows"], int)
        and all(isinstance(warning, str) for warning in shown["warnings"])
        and all(isinstance(entry["per_seed"], list) for entry in shown["systems"])
        and not any(isinstance(number, str) for number in numbers)
    )


def summarise_sweep(
    spec: SweepSpec, checked: Mapping[Part, CheckedComparison], standings: Mapping[Part, Standing]
) -> dict[str, Any]:
    """Return the whole sweep as plain values.

    Args:
        spec: the sweep.
        checked: from `stepsynth.sweeps.check_sweep`.
        standings: how far each comparison has come; cells that have ended since are added to it.

    Returns:
        The content of ``sweep.json``, see docs/results_json.md.
    """
    for part in spec.parts:
        _add_cells(spec, part, checked[part], standings[part])
    comparisons = [_comparison(spec, part, checked[part], standings[part]) for part in spec.parts]
    methods = list(dict.fromkeys(system.name for part in spec.parts for system in checked[part].systems))
    references = {checked[part].reference for part in spec.parts}
    reference = next(iter(references)) if len(references) == 1 else None
    settings = list(dict.fromkeys(part.setting for part in spec.parts))
    averages = [_average(spec, setting, methods, reference, standings) for setting in settings]
    return {
        "format": 1,
        "sweep": spec.name,
        "data_sets": list(dict.fromkeys(part.data_set for part in spec.parts)),
        "settings": [setting for setting in settings if setting],
        "methods": methods,
        "seeds": spec.seeds,
        "match": spec.match,
        "reference": reference,
        "comparisons": comparisons,
        "averages": [average for average in averages if average["systems"]],
        "warnings": _warnings(spec, comparisons, averages, reference),
    }


def _add_cells(spec: SweepSpec, part: Part, checked: CheckedComparison, standing: Standing) -> None:
    for system, _, seed in plan_cells(checked.config, checked.systems, spec.seeds):
        place = cell_folder(spec.place(part), system, seed)
        if place.name not in standing.cells and is_finished(place):
            # A damaged cell is told of where it is run.
            with suppress(UserError, OSError, ValueError, LookupError, TypeError):
                standing.cells[place.name] = read_cell(place, system.name)


def _comparison(spec: SweepSpec, part: Part, checked: CheckedComparison, standing: Standing) -> dict[str, Any]:
    results = standing.results
    planned = list(plan_cells(checked.config, checked.systems, spec.seeds))
    state = "finished" if results else "failed" if standing.problem else "unfinished"
    found: dict[str, Any] = {
        "data_set": part.data_set,
        "setting": part.setting or None,
        "folder": part.folder,
        "state": state,
        "problem": standing.problem or None,
        "cells": [_cell(spec, part, system.name, seed, standing, system.folder) for system, _, seed in planned],
        "task": part.config.task.name,
        "teacher": checked.config.teacher.identity(),
        "student": checked.config.student.called,
        "budget": results.get("budget") if results else None,
        "metric": results["metric"] if results else None,
        "test_rows": results["test_rows"] if results else None,
        "seeds": [part.config.seed + offset for offset in range(spec.seeds)],
        "systems": [],
        "warnings": list(results["warnings"]) if results else [],
    }
    if results:
        scores = {entry["name"]: entry["score"]["value"] for entry in results["systems"]}
        ranks = _ranks(scores)
        found["systems"] = [{key: entry[key] for key in _KEPT} | {"rank": ranks[entry["name"]]} for entry in results["systems"]]
    return found


def _cell(spec: SweepSpec, part: Part, method: str, seed: int, standing: Standing, folder: str) -> dict[str, Any]:
    """Return a line of ``sweep.csv``."""
    name = f"{folder}-{seed}"
    cell = standing.cells.get(name)
    line: dict[str, Any] = {
        "method": method,
        "seed": seed,
        "state": "finished" if cell else "unfinished",
        "folder": f"{part.folder}/{name}",
    }
    keys = ("metric", "score", "round", "rows", "accepted_rows", "requests", "tokens", "usd", "minutes")
    if cell is None:
        return line | dict.fromkeys(keys)
    score, minutes = round(sum(cell.test) / len(cell.test), 6), round(sum(cell.seconds.values()) / 60, 2)
    values = (cell.metric, score, cell.best_round, cell.rows, cell.spent_rows, cell.requests, cell.tokens, cell.usd, minutes)
    return line | dict(zip(keys, values, strict=True))


# averages ------------------------------------------------------------------------------


def _average(
    spec: SweepSpec, setting: str, methods: Sequence[str], reference: str | None, standings: Mapping[Part, Standing]
) -> dict[str, Any]:
    """Return the averages over the data sets of a setting whose comparisons have ended."""
    parts = [part for part in spec.parts if part.setting == setting and standings[part].results]
    scores = {part: _scores(standings[part]) for part in parts}
    clusters = {part: _clusters(standings[part]) for part in parts}
    means = {
        part: {entry["name"]: entry["score"]["value"] for entry in (standings[part].results or {})["systems"]} for part in parts
    }
    differences = {
        part: {entry["name"]: entry["difference"] for entry in (standings[part].results or {})["systems"]} for part in parts
    }
    systems = []
    for name in methods:
        own = [part for part in parts if name in scores[part]]
        if not own:
            continue
        average = averaged_interval([(scores[part][name], clusters[part]) for part in own])
        ranks = [_ranks(means[part])[name] for part in own]
        entry: dict[str, Any] = {
            "name": name,
            "data_sets": len(own),
            "score": {"value": average.value, "ci95": list(average.ci95)},
            "difference": None,
            "rank": round(sum(ranks) / len(ranks), 4),
            "best_on": sum(means[part][name] == max(means[part].values()) for part in own),
        }
        if reference is not None and name != reference:
            entry["difference"] = _difference(
                [(scores[part][name], scores[part][reference], clusters[part]) for part in own],
                [found for part in own if (found := differences[part][name])],
            )
        systems.append(entry)
    return {"setting": setting or None, "data_sets": [part.data_set for part in parts], "systems": systems}


def _difference(
    groups: Sequence[tuple[list[tuple[float, ...]], list[tuple[float, ...]], Clusters]], known: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    average = averaged_paired(groups)
    values = [found["value"] for found in known]
    sure = [found["value"] for found in known if found["p_holm"] is not None and found["p_holm"] < _LEVEL]
    return {
        "value": average.value,
        "ci95": list(average.ci95),
        "other_data_sets_ci95": list(other_data_sets(values)) if len(values) >= FEWEST_FOR_OTHERS else None,
        "ahead_on": sum(value > 0 for value in values),
        "behind_on": sum(value < 0 for value in values),
        "established_ahead_on": sum(value > 0 for value in sure),
        "established_behind_on": sum(value < 0 for value in sure),
    }


def _scores(standing: Standing) -> dict[str, list[tuple[float, ...]]]:
    """Return a finished comparison's scores by method: per seed and test row."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for cell in sorted(standing.cells.values(), key=lambda cell: cell.seed):
        found.setdefault(cell.system, []).append(cell.test)
    return found


def _clusters(standing: Standing) -> Clusters:
    found = (cell.clusters.get("test") for cell in standing.cells.values())
    return next((clusters for clusters in found if clusters), None)


def _ranks(scores: Mapping[str, float]) -> dict[str, float]:
    """Return each method's rank, 1 for the highest score; equal scores share the mean of their ranks."""
    values = list(scores.values())
    return {
        name: 1 + sum(other > value for other in values) + (sum(other == value for other in values) - 1) / 2
        for name, value in scores.items()
    }


# warnings ------------------------------------------------------------------------------


def _warnings(
    spec: SweepSpec, comparisons: Sequence[dict[str, Any]], averages: Sequence[dict[str, Any]], reference: str | None
) -> list[str]:
    found = []
    missing = [entry for entry in comparisons if entry["state"] != "finished"]
    if missing:
        found.append(f"{len(missing)} of {len(comparisons)} comparisons are not finished; the averages are without them.")
    counts = {len(average["data_sets"]) for average in averages if average["systems"]}
    if counts and max(counts) == 1:
        found.append("One data set is finished: its averages are its own scores.")
    if len({count for count in counts if count}) > 1:
        found.append("The settings have averages over different data sets, so their averages cannot be compared.")
    if counts and 1 < max(counts) < FEWEST_FOR_OTHERS:
        found.append(
            f"The intervals of the averages are about these {max(counts)} data sets: their other seeds and test rows. They "
            f"say nothing about other data sets; from {FEWEST_FOR_OTHERS} data sets on, an interval for those is given, too."
        )
    if len(metrics := {entry["metric"] for entry in comparisons if entry["metric"]}) > 1:
        found.append(f"The averages mix different scores: {', '.join(sorted(metrics))}.")
    if reference is None and len(comparisons) > 0:
        found.append("No method is the reference of all comparisons, so there are no average differences.")
    if spec.seeds == 1:
        found.append(
            "One seed only: the intervals are about these very students and the test rows, and say nothing about others."
        )
    return found


def dumped(results: dict[str, Any]) -> str:
    """Return the text of ``sweep.json``."""
    return json.dumps(results, indent=1, ensure_ascii=False) + "\n"
