"""Intervals and paired tests: exact where a formula exists, resampled where rows and seeds both vary.

Resampling is done on counts of equal rows, not on rows: a bootstrap sample of n rows with k kinds
is one multinomial draw over k kinds, so ten thousand of them cost milliseconds at any n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsFloat

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = ["Interval", "PairedResult", "hierarchical_interval", "hierarchical_paired", "paired_difference", "wilson"]

Interval = tuple[float, float]
RESAMPLES = 10_000
_DIGITS = 6


@dataclass(frozen=True)
class PairedResult:
    """How much better a is than b on the same rows.

    Attributes:
        difference: mean of a minus mean of b, in [-1, 1].
        ci95: 95 % interval of the difference.
        p_value: two-sided, of no difference.
    """

    difference: float
    ci95: Interval
    p_value: float


def wilson(correct: int, n: int, level: float = 0.95) -> Interval:
    """Return the Wilson score interval of a share (Wilson 1927).

    Args:
        correct: number of right answers.
        n: number of answers, at least 1.
        level: of the interval.

    Raises:
        ValueError: ``n < 1``, or ``correct`` not in [0, n].
    """
    from scipy.stats import binomtest

    if n < 1:
        raise ValueError("an interval needs at least one answer")
    interval = binomtest(int(correct), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return _plain(interval.low), _plain(interval.high)


def paired_difference(correct_a: Sequence[bool], correct_b: Sequence[bool], seed: int) -> PairedResult:
    """Compare two students on the same rows.

    The p-value is McNemar's exact one (the sign test on the rows where they disagree), the
    interval a percentile bootstrap over rows.

    Args:
        correct_a: per row, whether a was right.
        correct_b: per row, whether b was right.
        seed: of the resampling.

    Raises:
        ValueError: no rows, or not equally many.
    """
    import numpy as np
    from scipy.stats import binomtest

    a, b = _matrix([correct_a]), _matrix([correct_b])
    _same_shape(a, b)
    only_a, only_b = int((a > b).sum()), int((a < b).sum())
    p_value = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    means = _resampled(a - b, np.random.default_rng(seed))
    return PairedResult(_plain((a - b).mean()), _percentiles(means), _plain(p_value))


def hierarchical_interval(per_seed_correct: Sequence[Sequence[bool]], seed: int) -> Interval:
    """Return the 95 % interval of mean accuracy over training seeds and test rows.

    Seeds and rows are resampled independently of one another (the pigeonhole bootstrap, Owen
    2007), since all seeds are tested on the same rows. With one seed only the rows vary.

    Args:
        per_seed_correct: per seed, per row, whether the answer was right; rows in one order.
        seed: of the resampling.

    Raises:
        ValueError: no seed, no rows, or seeds with different numbers of rows.
    """
    import numpy as np

    return _percentiles(_resampled(_matrix(per_seed_correct), np.random.default_rng(seed)))


def hierarchical_paired(per_seed_a: Sequence[Sequence[bool]], per_seed_b: Sequence[Sequence[bool]], seed: int) -> PairedResult:
    """Compare two methods, each trained with the same seeds and tested on the same rows.

    Seeds (in pairs) and rows are resampled as in `hierarchical_interval`; the p-value is twice
    the smaller share of resamples on one side of zero, at least ``2 / (resamples + 1)``.

    Args:
        per_seed_a: per seed, per row, whether method a was right.
        per_seed_b: the same for method b, seeds and rows in the same order.
        seed: of the resampling.

    Raises:
        ValueError: no seed, no rows, or shapes that differ.
    """
    import numpy as np

    a, b = _matrix(per_seed_a), _matrix(per_seed_b)
    _same_shape(a, b)
    means = _resampled(a - b, np.random.default_rng(seed))
    # Sums of exact thirds and the like miss zero by a rounding error, which must count as zero.
    tail = min(int((means <= 1e-12).sum()), int((means >= -1e-12).sum()))
    return PairedResult(_plain((a - b).mean()), _percentiles(means), _plain(min(1.0, 2 * (tail + 1) / (RESAMPLES + 1))))


def _matrix(per_seed: Sequence[Sequence[bool]]) -> Array:
    import numpy as np

    lengths = {len(rows) for rows in per_seed}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"every seed needs the same rows, at least one; found {sorted(lengths)} rows")
    return np.array([[bool(value) for value in rows] for rows in per_seed], dtype=np.float64)


def _same_shape(a: Array, b: Array) -> None:
    if a.shape != b.shape:
        raise ValueError(f"both sides need the same seeds and rows; found {a.shape} and {b.shape}")


def _resampled(values: Array, random: np.random.Generator) -> Array:
    """Return the means of ``RESAMPLES`` bootstrap samples over both axes of seeds x rows."""
    import numpy as np

    seeds, rows = values.shape
    kinds, counts = np.unique(values, axis=1, return_counts=True)
    by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    means = np.empty(RESAMPLES)
    step = max(1, 4_000_000 // len(counts))
    for start in range(0, RESAMPLES, step):
        part = by_seed[start : start + step]
        by_kind = random.multinomial(rows, counts / rows, size=len(part)) / rows
        means[start : start + step] = ((part @ kinds) * by_kind).sum(axis=1)
    return means


def _percentiles(means: Array) -> Interval:
    import numpy as np

    low, high = np.percentile(means, [2.5, 97.5])
    return _plain(low), _plain(high)


def _plain(value: SupportsFloat) -> float:
    return round(float(value), _DIGITS) + 0.0
