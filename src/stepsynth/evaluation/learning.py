"""What twice as many labels would bring: wrong answers fall with a power of the rows.

    log(share of wrong answers with n rows) = a + b * log(n)

Learning curves of many models and tasks are close to such a line (Hestness et al. 2017, arXiv 1712.00409). A line of the score
over the logarithm of the rows promises as much of the next doubling as of the ones before, and so too much; see
docs/statistics.md, "What more labels would bring".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stepsynth.evaluation.clusters import count_clusters
from stepsynth.evaluation.statistics import as_matrix, plain, resampled_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.evaluation.clusters import Clusters
    from stepsynth.evaluation.forecast import CurvePoint
    from stepsynth.evaluation.statistics import Array, Interval

__all__ = ["LITTLE_ROOM", "gain_of_more"]

# A score of labels alone from which on nothing is advised: written rows helped where labels left more room.
LITTLE_ROOM = 0.95


def gain_of_more(
    points: Sequence[CurvePoint], rows: int, times: float, seed: int = 0, clusters: Clusters = None
) -> tuple[float, Interval]:
    """Forecast the gain in score if ``rows`` rows become ``times`` as many.

    Args:
        points: students trained on at least two different numbers of rows; all were scored on the same rows.
        rows: the number of rows to compare with.
        times: the factor, above 1.
        seed: for the resampling.
        clusters: the cluster of each scored row.

    Returns:
        The gain, never more than what is wrong by the curve, and the 95 % interval of the expected gain: a bootstrap of scored
        rows, and by how much the measured students stray from the curve. One student may gain more or less.

    Raises:
        ValueError: all points have the same number of rows.

    Examples:
        >>> from stepsynth.evaluation.forecast import CurvePoint
        >>> def right(count): return [1.0] * count + [0.0] * (100 - count)
        >>> gain, (low, high) = gain_of_more([CurvePoint(0, 10, right(60)), CurvePoint(0, 20, right(80))], 20, 2)
        >>> round(gain, 2), low > 0
        (0.1, True)
    """
    import numpy as np

    # The same student may stand for several draws.
    own = list({(point.rows, tuple(point.scores)): point for point in points}.values())
    if len({point.rows for point in own}) < 2:
        raise ValueError(f"a curve needs at least two numbers of rows; found {sorted({point.rows for point in own})!r}")
    scores, random = as_matrix([point.scores for point in own]), np.random.default_rng(seed)
    design = np.column_stack([np.ones(len(own)), np.log([point.rows for point in own])])
    inverse = np.linalg.pinv(design)

    def logs(means: Array) -> Array:
        # Half a row is added to either side, so that a score without a mistake has a logarithm.
        wrong: Array = np.log(((1 - means) * scores.shape[1] + 0.5) / (scores.shape[1] + 1))
        return wrong

    def gains(wrong: Array) -> Array:
        start, slope = inverse @ wrong.T
        now, then = start + slope * math.log(rows), start + slope * math.log(times * rows)
        gained: Array = np.minimum(1.0, np.exp(now)) - np.minimum(1.0, np.exp(then))
        return gained

    measured = logs(scores.mean(axis=1))
    found = float(gains(measured[None])[0])
    drawn, freedom = logs(resampled_means(scores, random, clusters)), len(own) - 2
    if freedom:
        # Few points show little of how far students stray from the curve: the spread is drawn, too.
        apart = float(((measured - design @ (inverse @ measured)) ** 2).sum())
        spreads = np.sqrt(apart / random.chisquare(freedom, len(drawn)))
        drawn = drawn + spreads[:, None] * random.standard_normal(drawn.shape)
    low, high = (float(end) for end in np.quantile(gains(drawn), (0.025, 0.975)))
    if clusters is not None and count_clusters(clusters) == 1:
        # One cluster does not show how clusters differ.
        low, high = -1.0, 1.0
    return plain(found), (plain(min(low, found)), plain(max(high, found)))
