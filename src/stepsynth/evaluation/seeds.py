"""Intervals over training seeds and test rows: both vary, and a few seeds say little.

A method's score depends on the test rows and on the training seed.
All seeds see the same rows, so the variance of the overall mean has two parts (crossed random
effects; Owen 2007 calls the layout a pigeonhole)::

    seeds: variance of the seeds' means / S            known to S - 1 degrees of freedom
    rows:  effect of easy and hard rows, common to all seeds   well known, from many rows

The interval is ``mean +- q * sqrt(seeds + rows)``, where q is the mean of Student's quantile for
S - 1 degrees of freedom and the normal one, weighted by the two parts (Cochran's approximation).

It is never narrower than the interval of the rows alone. It was chosen by simulation (2,000 runs of 200
rows; logits of row difficulty, seed effect and method effect; `tests/test_statistics_slow.py` repeats it).
Coverage in per cent, with a standard deviation of the seeds of 1 / 3 / 6 / 12 points of accuracy; the
last columns are the percentile bootstrap over seeds and rows (400 runs)::

    seeds  one method                 difference                 bootstrap, one method      bootstrap, difference
    1      94.0  83.0  61.5  36.5     94.2  87.1  73.9  49.4     93.2  84.8  59.8  35.2     94.0  87.8  74.0  49.2
    2      98.5  97.4  95.2  92.8     99.2  98.7  97.0  95.5     99.0  95.5  84.2  71.8     99.2  97.5  93.0  77.5
    3      98.0  97.2  95.8  95.5     98.5  98.0  96.2  95.3     96.8  95.8  88.0  85.8     99.2  99.5  93.8  88.8
    5      96.5  97.0  95.2  94.8     97.5  96.5  96.4  94.7     97.0  98.2  93.5  84.8     98.5  99.2  97.2  90.2
    10     94.6  94.8  95.2  95.7     96.5  96.2  95.4  95.5     97.5  96.0  97.0  90.8     99.0  99.2  96.5  97.2

Without a true difference, `hierarchical_paired` finds one at the 5 % level in 100 minus that share of runs.

A bootstrap over seeds and rows cannot know a spread that two or three seeds do not show; its error
grows with the seeds' share of the variance. The price of correct coverage: with two seeds the interval
is four times as wide as with five. Report at least three.

Where rows share contexts, clusters take the place of rows (`stepsynth.evaluation.clusters`): the two parts
come from one number per seed and cluster, and the rows' part is known to the number of clusters minus 1
degrees of freedom.

**One seed says nothing about other seeds.** With one seed the interval covers only the rows: it is about
this trained student, not about the method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.evaluation.clusters import Clusters, count_clusters, pseudo_rows
from stepsynth.evaluation.statistics import (
    Interval,
    PairedResult,
    as_matrix,
    paired_difference,
    percentiles,
    plain,
    resampled_means,
    rule_of_three,
    share_interval,
    wilson,
)
from stepsynth.runtime.imports import importing

if TYPE_CHECKING:
    from stepsynth.evaluation.statistics import Array

__all__ = [
    "Averaged",
    "averaged_interval",
    "averaged_paired",
    "hierarchical_interval",
    "hierarchical_paired",
    "other_data_sets",
    "weighted_quantile",
]

# Means that differ by less are equal.
_ROUNDING = 1e-9


def hierarchical_interval(per_seed_scores: Sequence[Sequence[float]], seed: int, clusters: Clusters = None) -> Interval:
    """Return the 95 % interval of a method's mean score over training seeds and test rows.

    With one seed it covers only the rows (Wilson if they are right or wrong, otherwise a percentile
    bootstrap): it is the interval of that one student.

    Args:
        per_seed_scores: score in [0, 1] per seed and row; rows in a fixed order.
        seed: for the resampling, which only a single seed with partial scores needs.
        clusters: the cluster of each row.

    Raises:
        ValueError: no seed, no rows, seeds with different numbers of rows, or a score outside [0, 1].
    """
    import numpy as np

    scores = as_matrix(per_seed_scores)
    mean, rows = float(scores.mean()), scores.shape[1]
    groups = None if clusters is None else count_clusters(clusters)
    if mean in (0.0, 1.0) or (len(scores) == 1 and np.isin(scores, (0.0, 1.0)).all()):
        return share_interval(scores[0].astype(bool).tolist(), clusters) if groups else wilson(round(mean * rows), rows)
    if groups == 1:
        return 0.0, 1.0
    if len(scores) == 1:
        return percentiles(resampled_means(scores[0], np.random.default_rng(seed), clusters), groups)
    half = _half_width(pseudo_rows(scores, clusters), freedom=None if groups is None else groups - 1)
    return plain(max(0.0, mean - half)), plain(min(1.0, mean + half))


def hierarchical_paired(
    per_seed_a: Sequence[Sequence[float]], per_seed_b: Sequence[Sequence[float]], seed: int, clusters: Clusters = None
) -> PairedResult:
    """Compare two methods, each trained with the same seeds and tested on the same rows.

    The interval is `hierarchical_interval` of the differences, and the p-value is the level at which
    such an interval would just touch zero. With one seed the result is that of `paired_difference`:
    it compares two students, not two methods.

    Args:
        per_seed_a: score of method a in [0, 1] per seed and row.
        per_seed_b: the same for method b, with seeds and rows in the same order.
        seed: for the resampling, which only a single seed needs.
        clusters: the cluster of each row.

    Raises:
        ValueError: no seed, no rows, different shapes, or a score outside [0, 1].
    """
    a, b = as_matrix(per_seed_a), as_matrix(per_seed_b)
    if a.shape != b.shape:
        raise ValueError(f"both sides need the same seeds and rows; found {a.shape} and {b.shape}")
    if len(a) == 1:
        return paired_difference(per_seed_a[0], per_seed_b[0], seed, clusters)
    differences = pseudo_rows(a - b, clusters)
    mean, groups = float((a - b).mean()), differences.shape[1]
    if clusters is not None and groups == 1:
        return PairedResult(plain(mean), (-1.0, 1.0), 1.0)
    freedom = None if clusters is None else groups - 1
    half = _half_width(differences, freedom=freedom)
    ci95 = plain(max(-1.0, mean - half)), plain(min(1.0, mean + half))
    if differences.min() == differences.max() or (clusters is not None and half < 1e-9):
        ci95 = rule_of_three(mean, groups)
        # Equal differences of few contexts look certain; the p-value must not say more than that interval.
        if ci95[0] <= 0 <= ci95[1]:
            return PairedResult(plain(mean), ci95, 1.0)
    return PairedResult(plain(mean), ci95, plain(_p_value(differences, freedom)))


@dataclass(frozen=True)
class Averaged:
    """An average over data sets, each with the same weight.

    Attributes:
        value: the mean over the data sets of their means over seeds and rows.
        ci95: 95 % interval over other seeds and other rows of these data sets.
    """

    value: float
    ci95: Interval


def averaged_interval(groups: Sequence[tuple[Sequence[Sequence[float]], Clusters]]) -> Averaged:
    """Average one method's scores over data sets.

    Data sets are independent, so the variance of the average is the sum of their variances (`hierarchical_interval`
    has the two parts of each) divided by the square of their number. Degrees of freedom are pooled by the formula of
    Welch and Satterthwaite, for seeds and for rows. The interval is about these data sets, and says nothing about others.

    Args:
        groups: per data set the score in [0, 1] per seed and row, and the cluster of each row.

    Raises:
        ValueError: no data set, or scores that `hierarchical_interval` refuses.
    """
    found = _averaged([(as_matrix(scores), clusters) for scores, clusters in groups])
    return Averaged(found.value, (max(0.0, found.ci95[0]), found.ci95[1]))


def averaged_paired(
    groups: Sequence[tuple[Sequence[Sequence[float]], Sequence[Sequence[float]], Clusters]],
) -> Averaged:
    """Average the difference between two methods over data sets; in each, it is paired by seed and row.

    Args:
        groups: per data set the scores of method a and of method b per seed and row, and the cluster of each row.

    Raises:
        ValueError: no data set, or scores that `hierarchical_paired` refuses.
    """
    values = []
    for scores_a, scores_b, clusters in groups:
        a, b = as_matrix(scores_a), as_matrix(scores_b)
        if a.shape != b.shape:
            raise ValueError(f"both sides need the same seeds and rows; found {a.shape} and {b.shape}")
        values.append((a - b, clusters))
    return _averaged(values)


def other_data_sets(means: Sequence[float]) -> Interval:
    """Return Student's 95 % interval of the mean over data sets like these, as if they were a random sample of them.

    Args:
        means: one number per data set, at least two.

    Raises:
        ValueError: fewer than two.
    """
    import numpy as np

    with importing():
        from scipy.stats import t

    if len(means) < 2:
        raise ValueError("an interval over data sets needs at least two of them")
    values = np.array(means, dtype=np.float64)
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    mean = float(values.mean())
    return plain(max(-1.0, mean - half)), plain(min(1.0, mean + half))


def _averaged(groups: Sequence[tuple[Array, Clusters]]) -> Averaged:
    import numpy as np

    if not groups:
        raise ValueError("an average needs at least one data set")
    count = len(groups)
    mean = sum(float(values.mean()) for values, _ in groups) / count
    seeds: list[tuple[float, float]] = []
    rows: list[tuple[float, float]] = []
    floors: list[tuple[float, float]] = []
    unvaried = 0.0
    for values, clusters in groups:
        stand_ins = pseudo_rows(values, clusters)
        units = stand_ins.shape[1]
        if units == 1:
            # Of one row, or one cluster, nothing is known about others.
            return Averaged(plain(mean), (-1.0, 1.0))
        freedom = math.inf if clusters is None else units - 1.0
        if len(values) == 1:
            floor = float(stand_ins[0].var(ddof=1)) / units
            parts = [(0.0, 1.0), (floor, freedom)]
        else:
            parts, floor = _parts(stand_ins, freedom)
        if max(np.ptp(stand_ins.mean(axis=0)), np.ptp(stand_ins.mean(axis=1))) < _ROUNDING:
            unvaried += 3 / units
        for kept, (variance, known) in zip((seeds, rows, floors), (*parts, (floor, freedom)), strict=True):
            kept.append((variance / count**2, known))
    half = max(weighted_quantile([_pooled(seeds), _pooled(rows)], 0.975), weighted_quantile([_pooled(floors)], 0.975))
    # Where nothing varies, `rule_of_three` says how far an average may still be off.
    half += unvaried / count
    return Averaged(plain(mean), (plain(max(-1.0, mean - half)), plain(min(1.0, mean + half))))


def _pooled(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the sum of independent variances and its degrees of freedom (Satterthwaite 1946; Welch 1947)."""
    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / freedom for variance, freedom in parts)
    return total, total**2 / spread if spread > 0 else math.inf


def weighted_quantile(parts: Sequence[tuple[float, float]], upper: float) -> float:
    """Return a quantile of a sum of independent errors with different degrees of freedom.

    Args:
        parts: variance and degrees of freedom of each error; ``math.inf`` degrees for a known
            variance.
        upper: probability below the quantile, for instance 0.975.

    Returns:
        The quantile of the sum: Student's quantiles, weighted by the variances (Cochran 1964),
        times the root of the summed variances.
    """
    with importing():
        from scipy.stats import t

    total = sum(variance for variance, _ in parts)
    if total <= 0:
        return 0.0
    # Student's t with infinite degrees of freedom is the normal distribution.
    return float(sum(variance * t.ppf(upper, freedom) for variance, freedom in parts) / total**0.5)


def _parts(values: Array, freedom: float) -> tuple[list[tuple[float, float]], float]:
    """Return the parts of the variance of the mean of seeds x rows, and its floor: the rows' variance given these seeds."""
    seeds, rows = values.shape
    if rows == 1:
        return [(float(values.mean(axis=1).var(ddof=1)) / seeds, seeds - 1)], 0.0
    by_seed, by_row = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_row[None, :] + values.mean()
    noise = float((rest**2).sum()) / ((seeds - 1) * (rows - 1))
    from_rows = float(by_row.var(ddof=1)) / rows
    parts = [(float(by_seed.var(ddof=1)) / seeds, seeds - 1.0), (max(0.0, from_rows - noise / (seeds * rows)), freedom)]
    return parts, from_rows


def _half_width(values: Array, upper: float = 0.975, freedom: int | None = None) -> float:
    """Return half the interval's width; ``freedom`` is that of the rows' variance, ``None`` for many independent rows."""
    known = math.inf if freedom is None else float(freedom)
    parts, floor = _parts(values, known)
    # Seeds may agree by chance; that does not reduce the uncertainty from the rows.
    return max(weighted_quantile(parts, upper), weighted_quantile([(floor, known)], upper))


def _p_value(differences: Array, freedom: int | None = None) -> float:
    with importing():
        from scipy.optimize import brentq

    mean = abs(float(differences.mean()))
    if mean < 1e-12:
        return 1.0
    smallest = 1e-6
    if _half_width(differences, 1 - smallest / 2, freedom) <= mean:
        return smallest
    return float(brentq(lambda p: _half_width(differences, 1 - p / 2, freedom) - mean, smallest, 1.0, xtol=1e-9))
