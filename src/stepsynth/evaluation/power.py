"""The smallest difference that a test set can show: a smaller one may be chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepsynth.evaluation.clusters import Clusters, count_clusters, design_effect
from stepsynth.evaluation.statistics import as_matrix, plain
from stepsynth.runtime.imports import importing

__all__ = ["detectable_difference", "rows_needed", "too_small_for", "typical_power"]

# A round figure: two methods with the same seed differ on 8 to 32 % of the test rows in benchmarks/results/cells, median 25 %.
_TYPICAL = 0.2
# A gain worth knowing of.
_WANTED = 0.03


def detectable_difference(n: int, disagreement: float, power: float = 0.8, level: float = 0.05) -> float:
    """Return the smallest true difference in accuracy that the exact McNemar test detects with the given power.

    Args:
        n: number of test rows, at least 1.
        disagreement: share of rows where exactly one of the two students is right, in (0, 1].
        power: how often the test should detect it, in (0, 1).
        level: two-sided significance level.

    Returns:
        The difference, at most ``disagreement``; ``math.inf`` if even a student that is right in every
        row of disagreement would not be detected that often.

    Raises:
        ValueError: an argument out of range.
    """
    with importing():
        from scipy.optimize import brentq

    if n < 1 or not 0 < disagreement <= 1 or not 0 < power < 1 or not 0 < level < 1:
        raise ValueError(f"no power for n={n!r}, disagreement={disagreement!r}, power={power!r}, level={level!r}")

    def lacking(difference: float) -> float:
        return power - _power(n, disagreement, difference, level)

    if lacking(disagreement) > 0:
        return math.inf
    if lacking(0.0) <= 0:
        return 0.0
    return plain(brentq(lacking, 0.0, disagreement, xtol=1e-7))


def rows_needed(difference: float, disagreement: float, power: float = 0.8, level: float = 0.05) -> int:
    """Return the approximate number of test rows needed to detect a difference (Connor 1987).

    Args:
        difference: the true difference in accuracy, not 0.
        disagreement: share of rows where exactly one of the two students is right.
        power: how often the test should detect it.
        level: two-sided significance level.
    """
    with importing():
        from scipy.stats import norm

    share = max(disagreement, abs(difference))
    root = norm.ppf(1 - level / 2) * math.sqrt(share) + norm.ppf(power) * math.sqrt(share - difference**2)
    return math.ceil(float(root / difference) ** 2)


def too_small_for(
    difference: float, correct_a: Sequence[bool], correct_b: Sequence[bool], clusters: Clusters = None
) -> str | None:
    """Return a warning if the test set is too small for a claimed difference, otherwise ``None``.

    Args:
        difference: the claimed difference in accuracy, a minus b; 0 claims nothing.
        correct_a: whether a was right, per test row.
        correct_b: whether b was right, per test row.
        clusters: the cluster of each row; the power is that of as many independent rows as have the same variance.

    Raises:
        ValueError: no rows, or different numbers of rows.
    """
    a, b = as_matrix([correct_a]), as_matrix([correct_b])
    if a.shape != b.shape:
        raise ValueError(f"both sides need the same rows; found {a.shape[1]} and {b.shape[1]}")
    n, claimed = a.shape[1], abs(difference)
    disagreement = max(float((a != b).mean()), claimed)
    if not claimed:
        return None
    effect = design_effect((a - b)[0], clusters)
    least = detectable_difference(max(1, round(n / effect)), disagreement)
    if claimed >= least:
        return None
    of = "" if clusters is None else f" of {count_clusters(clusters):,} contexts"
    finds = "none would be found so often" if math.isinf(least) else f"that takes {100 * least:.1f} points or more"
    return (
        f"The test set is too small: on {n:,} rows{of} a true difference of {100 * claimed:.1f} points would be found in less "
        f"than 80 % of repetitions ({finds}; the two differ on {100 * disagreement:.1f} % of the rows). "
        f"About {math.ceil(effect * rows_needed(claimed, disagreement)):,} rows would be enough."
    )


def typical_power(n: int) -> dict[str, float | int | None]:
    """Return what a test set can show of two students, assumed to differ on a fifth of its rows.

    Args:
        n: number of test rows, at least 1.

    Returns:
        ``disagreement``: the assumed share of rows where exactly one of them is right; ``detectable``: the smallest
        difference in accuracy that is found in 80 % of repetitions, ``None`` if there is none; ``wanted`` and
        ``rows_needed``: a difference worth finding, and the test rows that it takes.
    """
    least = detectable_difference(n, _TYPICAL)
    return {
        "disagreement": _TYPICAL,
        "detectable": None if math.isinf(least) else round(least, 4),
        "wanted": _WANTED,
        "rows_needed": rows_needed(_WANTED, _TYPICAL),
    }


def _power(n: int, disagreement: float, difference: float, level: float) -> float:
    """Return how often the test favours the better side; discordant rows and wins are binomial."""
    import numpy as np

    with importing():
        from scipy.stats import binom

    spread = 7 * math.sqrt(n * disagreement * (1 - disagreement)) + 1
    discordant = np.arange(max(0, math.floor(n * disagreement - spread)), min(n, math.ceil(n * disagreement + spread)) + 1)
    # One win more than the quantile of fair coin flips leaves a tail of at most level / 2.
    needed = binom.isf(level / 2, discordant, 0.5) + 1
    wins = binom.sf(needed - 1, discordant, min(1.0, (disagreement + difference) / (2 * disagreement)))
    return float((binom.pmf(discordant, n, disagreement) * wins).sum())
