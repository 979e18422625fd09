"""Abstaining: what share of rows a student answers if it must be sure of its answer, and how many of those are right.

A prediction's confidence is `stepsynth.types.Prediction.confidence`: the highest probability; of several labels that of the
least certain one; of a question that of the answer's span.
"""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError
from stepsynth.evaluation.statistics import share_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.evaluation.clusters import Clusters
    from stepsynth.types import Graded, Prediction

__all__ = ["FEW", "THRESHOLDS", "abstains", "check_threshold", "coverage_at", "coverage_curve"]

# Those of the table on the page and in results.json; 0 stands for all rows.
THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)
# Below so many answered rows, an interval is too wide to choose a threshold by.
FEW = 30


def check_threshold(threshold: object, name: str = "threshold") -> None:
    """Check that a threshold is a probability, or ``None``.

    Args:
        threshold: the value.
        name: its name in the message.

    Raises:
        ConfigError: it is not.
    """
    if threshold is None:
        return
    if not isinstance(threshold, Real) or isinstance(threshold, bool) or not 0 <= float(threshold) <= 1:
        raise ConfigError(f"{name} is {threshold!r}, not a probability.", hint="Give a number from 0 to 1, for instance 0.8.")


def abstains(prediction: Prediction, threshold: float | None) -> bool:
    """Whether a prediction is less certain than a threshold; never without one."""
    return threshold is not None and prediction.confidence < threshold


def coverage_at(graded: Sequence[Graded], clusters: Clusters, threshold: float) -> dict[str, Any]:
    """Return how many rows are answered at a threshold, and how many of the answers are right.

    Args:
        graded: a student's predictions of rows that it has not learned from.
        clusters: which of these rows share a context.
        threshold: the lowest confidence of an answer.

    Returns:
        ``threshold``, ``rows`` (answered), ``coverage`` (their share), ``accuracy`` (share of them that is right) and its
        ``ci95``; the last two are ``None`` if nothing is answered.
    """
    answered = [place for place, found in enumerate(graded) if not abstains(found.prediction, threshold)]
    right = [graded[place].score >= 1.0 for place in answered]
    point: dict[str, Any] = {"threshold": threshold, "rows": len(answered), "coverage": len(answered) / len(graded)}
    if not answered:
        return {**point, "accuracy": None, "ci95": None}
    interval = share_interval(right, _among(clusters, answered))
    return {**point, "accuracy": sum(right) / len(right), "ci95": list(interval)}


def coverage_curve(graded: Sequence[Graded]) -> list[tuple[float, float]]:
    """Return ``(coverage, accuracy)`` at every confidence that occurs, the most certain rows first."""
    ordered = sorted(graded, key=lambda found: -found.prediction.confidence)
    curve: list[tuple[float, float]] = []
    right = 0
    for place, found in enumerate(ordered, start=1):
        right += found.score >= 1.0
        # Rows with the same confidence are answered together.
        if place == len(ordered) or ordered[place].prediction.confidence < found.prediction.confidence:
            curve.append((place / len(ordered), right / place))
    return curve


def _among(clusters: Clusters, places: Sequence[int]) -> Clusters:
    """Return the clusters of some rows; ``None`` if no two of them share one."""
    if clusters is None:
        return None
    numbers: dict[int, int] = {}
    found = tuple(numbers.setdefault(clusters[place], len(numbers)) for place in places)
    return None if len(numbers) == len(found) else found
