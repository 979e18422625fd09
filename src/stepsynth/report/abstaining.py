"""What share of rows a run's student answers at some thresholds, and how many of the answers are right, from the journal.

Only gold rows are counted that this student, or those of its folds, did not learn from; never the sealed test set: a threshold
is a choice, and a choice by the test set would unseal it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.evaluation.coverage import FEW, THRESHOLDS, coverage_at, coverage_curve
from stepsynth.journal.results import find_choice, find_clusters
from stepsynth.methods import trains_on
from stepsynth.report.figures import coverage_figure

if TYPE_CHECKING:
    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal
    from stepsynth.types import Graded

__all__ = ["coverage_figures", "find_coverage"]

_MOST_POINTS = 200
# Before so many rows are answered, the curve jumps with every one of them.
_FIRST = 10


def find_coverage(journal: Journal, config: RunConfig, best: int | None) -> dict[str, Any] | None:
    """Return coverage and accuracy at some thresholds; ``None`` if no rows judge the student, or the teacher answers itself.

    Args:
        journal: the run's.
        config: its config.
        best: the round of the final student.

    Returns:
        ``on`` (``select`` or ``crossfit``), ``n`` (rows), ``few`` (below so many answers, accuracy is a rough guess) and
        ``points``, see `stepsynth.evaluation.coverage.coverage_at`.
    """
    split, graded = _judged(journal, config, best)
    if not graded:
        return None
    clusters = find_clusters(journal, split)
    points = [coverage_at(graded, clusters, threshold) for threshold in THRESHOLDS]
    return {"on": split, "n": len(graded), "few": FEW, "points": points}


def coverage_figures(journal: Journal, config: RunConfig, best: int | None, coverage: dict[str, Any]) -> list[str]:
    """Return the curve of accuracy over coverage, wide and narrow; nothing if all rows have the same confidence.

    Args:
        journal: the run's.
        config: its config.
        best: the round of the final student.
        coverage: from `find_coverage`; its thresholds are marked.
    """
    curve = coverage_curve(_judged(journal, config, best)[1])
    curve = [point for point in curve if point[0] * coverage["n"] >= min(_FIRST, coverage["n"])]
    if len(curve) < 2:
        return []
    step = -(-len(curve) // _MOST_POINTS)
    thinned = [*curve[:-1:step], curve[-1]]
    marks = [point for point in coverage["points"] if point["threshold"] and point["rows"] >= min(_FIRST, coverage["n"])]
    return [coverage_figure(thinned, marks, narrow=narrow) for narrow in (False, True)]


def _judged(journal: Journal, config: RunConfig, best: int | None) -> tuple[str, list[Graded]]:
    """Return the split that judges the final student, and its predictions there."""
    if best is None or trains_on(config, journal) == "none":
        return "", []
    split, number = "select", best
    if choice := find_choice(journal):
        split, number = "crossfit", choice["judged"].get(choice["chosen"])
    if number is None or journal.evaluation(number, split) is None:
        return split, []
    return split, journal.graded(number, split)
