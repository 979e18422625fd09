"""Detects overfitting of the rows that steer the data: one half's score rises, the other's does not.

Mistakes are taken from the harvest half alone. If rounds raise the harvest score more than the
select score, the data fit these particular rows, and the validation set is overfitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepsynth.evaluation.clusters import Clusters, count_clusters
from stepsynth.evaluation.statistics import Interval, as_matrix, percentiles, plain, resampled_means

__all__ = ["Drift", "halves_drift"]


@dataclass(frozen=True)
class Drift:
    """How far the harvest half has run ahead of the select half.

    Attributes:
        difference: gain on harvest minus gain on select, from the first to the last round.
        ci95: its 95 % interval.
        message: the warning, in one or two sentences.
    """

    difference: float
    ci95: Interval
    message: str


def halves_drift(
    harvest: Sequence[Sequence[float]],
    select: Sequence[Sequence[float]],
    seed: int = 0,
    clusters: tuple[Clusters, Clusters] = (None, None),
) -> Drift | None:
    """Return a warning if the harvest half gained more than the select half, beyond chance.

    The estimate is a difference in differences; the rows of both halves are resampled separately.
    The warning is given if the whole 95 % interval is above zero, so without drift in about one
    run in forty.

    Args:
        harvest: scores per round and row of the harvest half; rows in a fixed order.
        select: the same for the select half.
        seed: for the resampling.
        clusters: the cluster of each harvest row, and of each select row.

    Returns:
        The warning, or ``None``; always ``None`` before the second round, or if all rows of a half share one context.

    Raises:
        ValueError: the halves have different numbers of rounds, no rows, or a score outside [0, 1].
    """
    import numpy as np

    steering, watching = as_matrix(harvest), as_matrix(select)
    if len(steering) != len(watching):
        raise ValueError(f"both halves need the same rounds; found {len(steering)} and {len(watching)}")
    if len(steering) == 1:
        return None
    groups = [count_clusters(own) for own in clusters if own is not None]
    if 1 in groups:
        # A single context does not show how far contexts spread.
        return None
    random = np.random.default_rng(seed)
    ahead, behind = steering[-1] - steering[0], watching[-1] - watching[0]
    difference = plain(ahead.mean() - behind.mean())
    apart = resampled_means(ahead, random, clusters[0]) - resampled_means(behind, random, clusters[1])
    low, high = percentiles(apart, min(groups, default=None))
    if low <= 0:
        return None
    message = (
        f"The validation set is overfitted: since round 0 the harvest half, whose mistakes steer the data, gained "
        f"{100 * difference:.1f} points more than the select half (95 % interval {100 * low:.1f} to {100 * high:.1f}). "
        "Trust the select half, and use more labelled rows or fewer rounds."
    )
    return Drift(difference, (low, high), message)
