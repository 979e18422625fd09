"""The smallest difference that a test set can show: a smaller one may be chance."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from stepsynth.evaluation.clusters import Clusters, count_clusters, design_effect
from stepsynth.evaluation.statistics import as_matrix, plain
from stepsynth.runtime.counting import counted
from stepsynth.runtime.imports import importing

__all__ = ["detectable_difference", "rows_needed", "seeds_power", "seeds_power_line", "too_small_for", "typical_power"]

# A round figure: two methods with the same seed differ on 8 to 32 % of the test rows in benchmarks/results/cells, median 25 %.
_TYPICAL = 0.2
# How differences between two methods vary from seed to seed (standard deviation), without what the rows add. The 12 pairs of
# methods in benchmarks/results/comparison-*-small.json and the 6 in cells/trec-small.jsonl, two or three seeds each, have 0 to
# 15.7 points, median 3.2; disagreement on a fifth of 500 to 1,114 rows explains 1.3 to 2.0 of that.
_SEED_SD = 0.025
# The share of a row's variance that all seeds have in common: 15, 5 and 9 % for s3, zerogen and s3+gold against gold in
# cells/trec-small.jsonl.
_COMMON = 0.1
# A gain worth knowing of.
_WANTED = 0.03
_OFTEN = 0.8
_MOST_SEEDS, _MOST_ROWS = 100, 1_000_000


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
        f"About {math.ceil(effect * _rows_enough(claimed, disagreement, round(n / effect) + 1)):,} rows would be enough."
    )


def _rows_enough(difference: float, disagreement: float, more: int) -> int:
    """Return `rows_needed`, raised until the exact test finds the difference, too, and at least ``more``.

    With very many rows the two agree, and the exact test takes long.
    """
    rows = max(more, rows_needed(difference, disagreement))
    while rows < _MOST_ROWS and detectable_difference(rows, disagreement) > difference:
        rows += max(1, rows // 100)
    return rows


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


def seeds_power(rows: int, seeds: int) -> dict[str, Any]:
    """Return what a comparison of two methods can show with so many test rows and seeds.

    With several seeds the interval is that of `stepsynth.evaluation.seeds`, with typical variances: two methods with
    the same seed differ on a fifth of the rows, and their difference varies by 2.5 points from seed to seed. With one
    seed two students are compared, by McNemar's test. Holm's correction for further methods is left out.

    Args:
        rows: number of test rows, at least 1.
        seeds: number of seeds, at least 1.

    Returns:
        ``rows``, ``seeds``, ``disagreement``, ``seed_sd`` (``None`` for one seed); ``detectable``: the smallest difference
        that is established in 80 % of comparisons, ``None`` if there is none; ``wanted``: a difference worth finding;
        ``rows_needed`` for it with these seeds, and ``seeds_needed`` with these rows, ``None`` if none are enough.
    """
    if seeds == 1:
        alone = typical_power(rows)
        least, needed = alone["detectable"], alone["rows_needed"]
    else:
        least = _least(rows, seeds)
        needed = _smallest(lambda n: _seeds_power(n, seeds, _WANTED) >= _OFTEN, _MOST_ROWS)
    return {
        "rows": rows,
        "seeds": seeds,
        "disagreement": _TYPICAL,
        "seed_sd": None if seeds == 1 else _SEED_SD,
        "detectable": least,
        "wanted": _WANTED,
        "rows_needed": needed,
        "seeds_needed": _smallest(lambda n: n > 1 and _seeds_power(rows, n, _WANTED) >= _OFTEN, _MOST_SEEDS),
    }


def seeds_power_line(power: dict[str, Any]) -> str:
    """Return `seeds_power` in one line."""
    seeds, least, wanted = power["seeds"], power["detectable"], power["wanted"]
    size, kind = f"{counted(power['rows'], 'test row')} and {counted(seeds, 'seed')}", "methods" if seeds > 1 else "students"
    said = [
        f"With {size}, a true difference of {100 * least:.1f} points between two {kind} is established 4 times in 5."
        if least
        else f"{size} are too few to establish any difference."
    ]
    if seeds == 1:
        said.append("One seed says nothing about methods.")
    if not least or least > wanted:
        needs = []
        # For one seed the number is an approximation, and may be just below the rows that are there.
        if power["rows_needed"] and power["rows_needed"] > power["rows"]:
            needs.append(f"about {power['rows_needed']:,} rows with {'these seeds' if seeds > 1 else 'one seed'}")
        if power["seeds_needed"]:
            needs.append(f"{power['seeds_needed']} seeds with these rows")
        said.append(f"For {100 * wanted:.0f} points it takes {' or '.join(needs) or 'more rows and more seeds'}.")
    return " ".join([*said, "Typical variances are assumed."])


def _least(rows: int, seeds: int) -> float | None:
    with importing():
        from scipy.optimize import brentq

    if _seeds_power(rows, seeds, 1.0) < _OFTEN:
        return None
    least = float(brentq(lambda found: _seeds_power(rows, seeds, found) - _OFTEN, 1e-6, 1.0, xtol=1e-6))
    # Two methods cannot be further apart than the rows on which they differ.
    return round(least, 4) if least <= _TYPICAL else None


def _smallest(enough: Callable[[int], bool], most: int) -> int | None:
    """Return the smallest number that is enough, by bisection; ``None`` if ``most`` is not."""
    if not enough(most):
        return None
    return bisect_left(range(1, most), x=True, key=enough) + 1


def _seeds_power(rows: int, seeds: int, difference: float) -> float:
    """Return how often the interval of `hierarchical_paired` is above zero, given typical variances and a true difference."""
    import numpy as np

    with importing():
        from scipy.stats import chi2, norm, t

    noise = _TYPICAL * (1 - _COMMON) / rows
    common = _TYPICAL * _COMMON / rows
    by_seed = (_SEED_SD**2 + noise) / seeds
    # The seeds' variance is estimated from a few seeds: average over what that may come to.
    found = by_seed * chi2.ppf((np.arange(400) + 0.5) / 400, seeds - 1) / (seeds - 1)
    half = (found * t.ppf(0.975, seeds - 1) + common * norm.ppf(0.975)) / np.sqrt(found + common)
    half = np.maximum(half, norm.ppf(0.975) * math.sqrt(common + noise / seeds))
    return float(norm.cdf((difference - half) / math.sqrt(by_seed + common)).mean())


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
