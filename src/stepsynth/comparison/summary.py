"""Summarises cells: means with intervals, paired differences with p-values, warnings.

Every interval is over seeds and test rows at once, every difference is paired by seed and row, and
p-values of several methods against one are corrected by Holm's method. The result is plain JSON
without times of day, so the same cells give the same bytes.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from stepsynth.comparison.systems import sets_budget
from stepsynth.evaluation.clusters import in_details
from stepsynth.evaluation.drift import halves_drift
from stepsynth.evaluation.forecast import CurvePoint, forecast
from stepsynth.evaluation.power import too_small_for
from stepsynth.evaluation.seeds import hierarchical_interval, hierarchical_paired
from stepsynth.evaluation.statistics import holm, mcnemar, paired_difference
from stepsynth.journal import Journal
from stepsynth.methods import method_class
from stepsynth.registry import METHODS
from stepsynth.run import RunDirectory
from stepsynth.tasks import stored_family
from stepsynth.training import artefacts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.comparison.cell import Cell
    from stepsynth.comparison.cells import Match
    from stepsynth.config import RunConfig
    from stepsynth.evaluation.clusters import Clusters

__all__ = ["summarise"]

_SEED = 0
# Numbers of optimiser steps within this factor count as equal.
_ALIKE = 1.1


def summarise(cells: Sequence[Cell], config: RunConfig, match: Match, reference: str | None) -> dict[str, Any]:
    """Return the whole comparison as plain values.

    Args:
        cells: every system with every seed.
        config: the config of the comparison.
        match: the unit of the common budget.
        reference: the system that the others are compared with, from `choose_reference`.

    Returns:
        ``systems``: per system its score with interval, per-seed scores, usage, and its paired
        difference to the reference (the system minus the reference); ``budget``: the system whose
        rows (requests, tokens, dollars) set the budget of the others; ``clusters``, see
        `stepsynth.evaluation.clusters`, only where test rows share contexts; ``curve`` and ``forecast``
        of that system; ``minutes``: time of generating, training and testing in all cells;
        ``warnings``. Scores are shares, not per cent.
    """
    names = list(dict.fromkeys(cell.system for cell in cells))
    by_name = {name: sorted((c for c in cells if c.system == name), key=lambda c: c.seed) for name in names}
    budgeting = next((name for name in names if sets_budget(name)), None)
    budget = by_name.get(budgeting or "")
    clusters = _test_clusters(cells)
    systems = [_system(name, by_name, reference, budgeting, clusters) for name in names]
    compared = [found for entry in systems for found in (entry["difference"], entry.get("against_student")) if found]
    for found, adjusted in zip(compared, holm([found["p"] for found in compared]), strict=True):
        found["p_holm"] = adjusted
    return {
        "task": config.task.name,
        "family": config.task.family,
        "teacher": config.teacher.identity(),
        "student": config.student.called,
        "metric": cells[0].metric,
        "match": match,
        "reference": reference,
        "budget": budgeting,
        "seeds": sorted({cell.seed for cell in cells}),
        "test_rows": len(cells[0].test),
        **in_details(clusters),
        "systems": systems,
        "minutes": {kind: round(sum(cell.seconds[kind] for cell in cells) / 60, 1) for kind in cells[0].seconds},
        "curve": _curve(budget or []),
        "forecast": _forecast(budget or [], clusters),
        "warnings": [
            *_size_warnings(systems, by_name, reference, clusters),
            *_step_warnings(by_name),
            *_cell_warnings(budget or [], config),
        ],
    }


def _test_clusters(cells: Sequence[Cell]) -> Clusters:
    """Return which test rows share a context; cells of versions that did not count that leave it to the others."""
    found = (cell.clusters.get("test") for cell in cells)
    return next((clusters for clusters in found if clusters and len(clusters) == len(cells[0].test)), None)


def _system(
    name: str, by_name: Mapping[str, Sequence[Cell]], reference: str | None, budgeting: str | None, clusters: Clusters
) -> dict[str, Any]:
    own, other = by_name[name], by_name.get(reference or "")
    student = by_name.get(budgeting or "")
    method = method_class(name.split(":")[0])
    # The loop's student shows whether a student can replace the teacher, whatever the reference is.
    asks = method.student == "none" and reference != budgeting
    against_student = {"against_student": _difference(own, student, clusters)} if asks and student else {}
    scores = [cell.test for cell in own]
    low, high = hierarchical_interval(scores, _SEED, clusters)
    per_seed = [sum(score) / len(score) for score in scores]
    extra = sorted(set.intersection(*(set(cell.details) for cell in own)))
    return {
        "name": name,
        # For readers without the class of the method.
        **({} if method.name in METHODS.built_in else {"student": method.student}),
        "score": {"value": round(sum(per_seed) / len(per_seed), 6), "ci95": [low, high]},
        "per_seed": [{"seed": c.seed, "value": round(v, 6), "round": c.best_round} for c, v in zip(own, per_seed, strict=True)],
        "details": {key: _mean([cell.details[key] for cell in own]) for key in extra},
        "rows": [cell.rows for cell in own],
        "steps": [cell.steps for cell in own],
        "accepted_rows": [cell.spent_rows for cell in own],
        "requests": [cell.requests for cell in own],
        "tokens": [cell.tokens for cell in own],
        "usd": [cell.usd for cell in own],
        "minutes": round(sum(sum(cell.seconds.values()) for cell in own) / 60, 1),
        "per_1000_predictions": {
            "seconds": _mean([cell.latency_s for cell in own]),
            "usd": _mean([cell.answer_usd for cell in own]),
        },
        "difference": _difference(own, other, clusters) if other and name != reference else None,
        **against_student,
    }


def _difference(own: Sequence[Cell], reference: Sequence[Cell], clusters: Clusters) -> dict[str, Any] | None:
    pairs = [(cell.test, other.test) for cell in own for other in reference if other.seed == cell.seed]
    if not pairs:
        return None
    result = hierarchical_paired([a for a, _ in pairs], [b for _, b in pairs], _SEED, clusters)
    per_seed = []
    for (a, b), cell in zip(pairs, own, strict=False):
        single = paired_difference(a, b, _SEED, clusters)
        right = [[score == 1.0 for score in scores] for scores in (a, b)]
        p_value = mcnemar(right[0], right[1], clusters)
        per_seed.append({"seed": cell.seed, "value": single.difference, "ci95": list(single.ci95), "mcnemar_p": p_value})
    return {"value": result.difference, "ci95": list(result.ci95), "p": result.p_value, "p_holm": None, "per_seed": per_seed}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 6) if len(known) == len(values) and known else None


# learning curve ------------------------------------------------------------------------


def _curve(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return scores against rows, round by round, for every seed of one system."""
    return [
        {
            "seed": cell.seed,
            "round": entry.number,
            "rows": entry.rows,
            "select": round(sum(entry.select) / len(entry.select), 6) if entry.select else None,
            "test": round(sum(entry.test) / len(entry.test), 6),
        }
        for cell in cells
        for entry in cell.rounds
    ]


def _forecast(cells: Sequence[Cell], clusters: Clusters) -> dict[str, Any] | None:
    """Forecast the gain of another round, as large as the last ones on average."""
    points = [CurvePoint(cell.seed, entry.rows, entry.test) for cell in cells for entry in cell.rounds]
    last = [cell.rounds[-1] for cell in cells]
    steps = [cell.rounds[-1].rows - cell.rounds[-2].rows for cell in cells if len(cell.rounds) > 1]
    if not any(steps):
        return None
    now = round(sum(entry.rows for entry in last) / len(last))
    rows = now + round(sum(steps) / len(steps))
    found = forecast(points, rows, clusters=clusters)
    return {
        "rows_now": now,
        "rows": rows,
        "value": found.value,
        "ci95": list(found.ci95),
        "gain": found.gain,
        "gain_ci95": list(found.gain_ci95),
        "note": found.note,
    }


# warnings ------------------------------------------------------------------------------


def _size_warnings(
    systems: Sequence[dict[str, Any]], by_name: Mapping[str, Sequence[Cell]], reference: str | None, clusters: Clusters
) -> list[str]:
    """Warn about differences that this test set is too small to establish."""
    found = []
    for entry in systems:
        difference = entry["difference"]
        if not difference or reference is None:
            continue
        pairs = [(a.test, b.test) for a in by_name[entry["name"]] for b in by_name[reference] if a.seed == b.seed]
        first = [[score == 1.0 for score in side] for side in pairs[0]]
        if warning := too_small_for(difference["value"], first[0], first[1], clusters):
            found.append(f"{entry['name']} against {reference}: {warning}")
    if reference is not None and len(by_name[reference]) == 1:
        found.append(
            "One seed only: the intervals are about these very students and the test rows, and say nothing about other seeds."
        )
    return found


def _step_warnings(by_name: Mapping[str, Sequence[Cell]]) -> list[str]:
    """Warn if some students were trained for longer than others: then not only their rows differ.

    A probe makes no steps, whatever is configured.
    """
    steps = {name: [cell.steps for cell in own if cell.steps] for name, own in by_name.items()}
    ordered = sorted((sum(found) / len(found), name) for name, found in steps.items() if found)
    if not ordered or ordered[-1][0] <= _ALIKE * ordered[0][0]:
        return []
    (few, shortest), (many, longest) = ordered[0], ordered[-1]
    return [
        f"Students were trained for {few:,.0f} ({shortest}) to {many:,.0f} optimiser steps ({longest}): a difference between "
        "methods may come from that. student.epochs: 1 and student.min_steps give all the same number."
    ]


def _cell_warnings(cells: Sequence[Cell], config: RunConfig) -> list[str]:
    found = []
    for cell in cells:
        judged = [entry for entry in cell.rounds if entry.harvest and entry.select]
        halves = [e.harvest for e in judged], [e.select for e in judged]
        clusters = cell.clusters.get("harvest"), cell.clusters.get("select")
        if len(judged) > 1 and (drift := halves_drift(*halves, _SEED, clusters)):
            found.append(f"{cell.system}, seed {cell.seed}: {drift.message}")
        if not stored_family(config.task).spans:
            found += _artefacts(cell)
    return found


def _artefacts(cell: Cell) -> list[str]:
    """Report shallow cues that give away the labels of a cell's rows."""
    directory = RunDirectory.read(cell.folder)
    with closing(Journal(directory.journal_path)) as journal:
        return [f"{cell.system}, seed {cell.seed}: {message}" for message in artefacts(journal, directory.config)]
