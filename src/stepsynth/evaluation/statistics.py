"""Intervals and paired tests: exact if a formula exists, otherwise checked by simulation.

All functions take scores of rows in [0, 1]: right or wrong, or a share such as an answer's F1.
Resampling uses counts of equal rows, not rows: a bootstrap sample of n rows of k kinds is one
multinomial draw over k kinds, so ten thousand of them take milliseconds at any n.

Where rows share contexts, functions take ``clusters``, see `stepsynth.evaluation.clusters`. Of one cluster
alone nothing is known about others, so its intervals hold every value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, SupportsFloat

from stepsynth.evaluation.clusters import Clusters, cluster_sums, count_clusters, design_effect
from stepsynth.runtime.imports import importing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = [
    "RESAMPLES",
    "Interval",
    "PairedResult",
    "as_matrix",
    "holm",
    "mcnemar",
    "paired_difference",
    "paired_p_value",
    "percentiles",
    "plain",
    "resampled_means",
    "rule_of_three",
    "share_interval",
    "shown_p",
    "wilson",
]

Interval = tuple[float, float]
RESAMPLES = 10_000
_DIGITS = 6


@dataclass(frozen=True)
class PairedResult:
    """The difference between a and b on the same rows.

    Attributes:
        difference: mean of a minus mean of b, in [-1, 1].
        ci95: 95 % interval of the difference.
        p_value: two-sided, for the hypothesis of no difference.
    """

    difference: float
    ci95: Interval
    p_value: float


def wilson(correct: int, n: int, level: float = 0.95) -> Interval:
    """Return the Wilson score interval of a share (Wilson 1927).

    Args:
        correct: number of right answers.
        n: number of answers, at least 1.
        level: the confidence level.

    Raises:
        ValueError: ``n < 1``, or ``correct`` not in [0, n].
    """
    with importing():
        from scipy.stats import binomtest

    if n < 1:
        raise ValueError("an interval needs at least one answer")
    interval = binomtest(int(correct), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return plain(interval.low), plain(interval.high)


def share_interval(right: Sequence[bool], clusters: Clusters = None) -> Interval:
    """Return the 95 % interval of a share of rows: `wilson`, with clusters for the effective number of rows.

    The effective number is that of independent rows with the same variance, and the quantile is Student's for the
    number of clusters minus 1 (Korn and Graubard 1998; Franco et al. 2019 recommend it with Wilson's formula).

    Args:
        right: whether the answer was right, per row.
        clusters: the cluster of each row.

    Raises:
        ValueError: no rows, or clusters of another number of rows.
    """
    n, correct = len(right), sum(map(bool, right))
    if clusters is None:
        return wilson(correct, n)
    import numpy as np

    with importing():
        from scipy.stats import t

    groups, share = count_clusters(clusters), correct / n
    if groups == 1:
        return 0.0, 1.0
    # If all rows are equal, nothing shows how alike the rows of a cluster are: count each cluster once.
    same = share in (0.0, 1.0)
    effective = groups if same else n / design_effect(np.array(right, dtype=np.float64), clusters)
    squared = float(t.ppf(0.975, groups - 1)) ** 2 / effective
    half = math.sqrt(squared * (share * (1 - share) + squared / 4))
    low, high = ((share + squared / 2 + sign * half) / (1 + squared) for sign in (-1, 1))
    return plain(max(0.0, low)), plain(min(1.0, high))


def mcnemar(correct_a: Sequence[bool], correct_b: Sequence[bool], clusters: Clusters = None) -> float:
    """Return the exact two-sided p-value of "a and b are right equally often" (McNemar 1947).

    It is the sign test on the rows where only one of them is right; 1.0 if there are none. With clusters, the
    signs of whole clusters are flipped (`paired_p_value` of their sums).

    Args:
        correct_a: whether a was right, per row.
        correct_b: whether b was right, per row.
        clusters: the cluster of each row.

    Raises:
        ValueError: no rows, different numbers of rows, or scores other than 0 and 1.
    """
    differences = _differences(correct_a, correct_b)
    if not _is_binary(differences):
        raise ValueError("McNemar's test takes right or wrong per row, not shares; use paired_difference")
    return plain(paired_p_value(cluster_sums(differences, clusters), seed=0))


def shown_p(value: object) -> str:
    """Return a p-value as pages and tables show it: no p-value is 0, whatever it rounds to.

    Examples:
        >>> shown_p(0.0), shown_p(0.0312)
        ('< 0.001', '0.031')
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "n/a"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the given order (Holm 1979).

    If adjusted values of at most 0.05 are called significant, the chance of any false claim in the
    family is at most 5 %.

    Raises:
        ValueError: a value outside [0, 1].
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values lie in [0, 1]; found {[p for p in p_values if not 0 <= p <= 1]!r}")
    adjusted = [0.0] * len(p_values)
    so_far = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = plain(so_far)
    return adjusted


def paired_difference(scores_a: Sequence[float], scores_b: Sequence[float], seed: int, clusters: Clusters = None) -> PairedResult:
    """Compare two students on the same rows.

    The p-value is McNemar's exact one if rows are right or wrong, otherwise that of a sign-flip
    permutation test; the interval is a percentile bootstrap over rows, or `rule_of_three` if all
    rows differ by the same amount. Both are about these two students: another training seed might
    change the sign. With clusters, signs of whole clusters are flipped and whole clusters are drawn.

    Args:
        scores_a: score of a per row; ``True`` is 1.
        scores_b: score of b per row.
        seed: for the resampling.
        clusters: the cluster of each row.

    Raises:
        ValueError: no rows, different numbers of rows, or a score outside [0, 1].
    """
    import numpy as np

    differences = _differences(scores_a, scores_b)
    sums = cluster_sums(differences, clusters)
    mean, p_value = plain(differences.mean()), plain(paired_p_value(sums, seed))
    if len(sums) == 1 and clusters is not None:
        return PairedResult(mean, (-1.0, 1.0), 1.0)
    if np.ptp(sums / cluster_sums(np.ones(len(differences)), clusters)) < 1e-12:
        return PairedResult(mean, rule_of_three(mean, len(sums)), p_value)
    means = resampled_means(differences, np.random.default_rng(seed), clusters)
    return PairedResult(mean, percentiles(means, None if clusters is None else len(sums)), p_value)


def paired_p_value(differences: Array, seed: int, alternative: Literal["two-sided", "greater"] = "two-sided") -> float:
    """Return the p-value of "the mean of paired differences is zero".

    Args:
        differences: a minus b, per row or summed per cluster; any shape.
        seed: for the sign flips; not needed if all differences are -1, 0 or 1.
        alternative: ``greater`` tests only whether a is better.
    """
    import numpy as np

    with importing():
        from scipy.stats import binomtest

    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    if _is_binary(differences):
        return float(binomtest(int((differences > 0).sum()), int(counts.sum()), alternative=alternative).pvalue)
    random = np.random.default_rng(seed)
    # With no difference each row's sign is a fair coin, so equal sizes flip as one binomial.
    flipped = sum(size * (2 * random.binomial(count, 0.5, RESAMPLES) - count) for size, count in zip(sizes, counts, strict=True))
    observed = differences.sum()
    reached = flipped >= observed - 1e-9 if alternative == "greater" else np.abs(flipped) >= abs(observed) - 1e-9
    return float((np.sum(reached) + 1) / (RESAMPLES + 1))


def rule_of_three(difference: float, rows: int) -> Interval:
    """Return a 95 % interval of a difference that is the same on all rows.

    An event never seen in n rows may still have a probability of 3 / n (Hanley and Lippman-Hand 1983);
    resampling would call it impossible.
    """
    return plain(max(-1.0, difference - 3 / rows)), plain(min(1.0, difference + 3 / rows))


def as_matrix(per_seed: Sequence[Sequence[float]]) -> Array:
    """Return scores as an array of seeds x rows.

    Raises:
        ValueError: no seed, no rows, seeds with different numbers of rows, or a score outside [0, 1].
    """
    import numpy as np

    lengths = {len(rows) for rows in per_seed}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"every seed needs the same rows, at least one; found {sorted(lengths)} rows")
    matrix = np.array([[float(value) for value in rows] for rows in per_seed], dtype=np.float64)
    if not ((matrix >= 0) & (matrix <= 1)).all():
        raise ValueError(f"scores lie in [0, 1]; found {matrix.min()} to {matrix.max()}")
    return matrix


def resampled_means(values: Array, random: np.random.Generator, clusters: Clusters = None) -> Array:
    """Return the means of `RESAMPLES` bootstrap samples of the rows, or of whole clusters with all their rows.

    Args:
        values: one number per row, or an array of kinds of numbers x rows.
        random: the random generator.
        clusters: the cluster of each row.

    Returns:
        An array of ``RESAMPLES``, or of ``RESAMPLES`` x kinds: rows are drawn once for all kinds.
    """
    import numpy as np

    table = np.atleast_2d(values)
    if clusters is not None:
        # A sample of clusters has a random number of rows: its mean is the sum of the values by that of the sizes.
        totals = resampled_means(cluster_sums(np.vstack([table, np.ones(table.shape[1])]), clusters), random)
        ratios: Array = totals[:, :-1] / totals[:, -1:]
        return ratios if values.ndim > 1 else ratios[:, 0]
    kinds, counts = np.unique(table, axis=1, return_counts=True)
    rows = table.shape[1]
    step = max(1, 4_000_000 // len(counts))
    parts = [
        random.multinomial(rows, counts / rows, size=min(step, RESAMPLES - start)) @ kinds.T / rows
        for start in range(0, RESAMPLES, step)
    ]
    means: Array = np.concatenate(parts)
    return means if values.ndim > 1 else means[:, 0]


def percentiles(means: Array, clusters: int | None = None) -> Interval:
    """Return the middle 95 % of resampled means.

    Args:
        means: from `resampled_means`.
        clusters: how many there are, if clusters were drawn: a bootstrap of few units is too narrow, so more than
            the middle 95 % is taken, as far as Student's interval is wider than the normal one (Hesterberg 2015,
            section 5.3: expanded percentile interval).
    """
    import numpy as np

    tail = 2.5
    if clusters is not None:
        with importing():
            from scipy.stats import norm, t

        tail = 100 * float(norm.cdf(math.sqrt(clusters / (clusters - 1)) * t.ppf(0.025, clusters - 1)))
    low, high = np.percentile(means, [tail, 100 - tail])
    return plain(low), plain(high)


def plain(value: SupportsFloat) -> float:
    """Return a number as stored in files: a Python float rounded to six digits."""
    # Adding 0.0 turns -0.0 into 0.0, so that equal scores have one spelling.
    return round(float(value), _DIGITS) + 0.0


def _differences(scores_a: Sequence[float], scores_b: Sequence[float]) -> Array:
    a, b = as_matrix([scores_a]), as_matrix([scores_b])
    if a.shape != b.shape:
        raise ValueError(f"both sides need the same seeds and rows; found {a.shape} and {b.shape}")
    differences: Array = (a - b)[0]
    return differences


def _is_binary(differences: Array) -> bool:
    import numpy as np

    return bool(np.isin(differences, (-1.0, 0.0, 1.0)).all())
