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

__all__ = ["hierarchical_interval", "hierarchical_paired", "weighted_quantile"]


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
    return PairedResult(plain(mean), ci95, plain(_p_value(differences, freedom)))


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
