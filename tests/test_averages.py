"""Averages over data sets: their value, their interval, and how often that holds the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from simulated_averages import DATA_SETS, SEEDS, SPREADS, coverage
from stepsynth.evaluation.seeds import averaged_interval, averaged_paired, hierarchical_paired, other_data_sets


def scores(random: np.random.Generator, seeds: int, rows: int = 40, share: float = 0.7) -> list[list[float]]:
    return [[float(value) for value in row] for row in random.random((seeds, rows)) < share]


def test_one_data_set_is_its_own_average() -> None:
    random = np.random.default_rng(0)
    a, b = scores(random, 3), scores(random, 3, share=0.5)
    alone, average = hierarchical_paired(a, b, 0), averaged_paired([(a, b, None)])
    assert average.value == alone.difference
    assert average.ci95 == pytest.approx(alone.ci95, abs=1e-5)


def test_each_data_set_has_the_same_weight() -> None:
    few, many = [[1.0] * 10, [1.0] * 9 + [0.0]], [[0.0] * 900 + [1.0] * 100] * 2
    average = averaged_interval([(few, None), (many, None)])
    assert average.value == pytest.approx((0.95 + 0.1) / 2)
    assert average.ci95[0] < average.value < average.ci95[1]


def test_more_data_sets_make_a_narrower_interval() -> None:
    random = np.random.default_rng(1)
    groups = [(scores(random, 3), scores(random, 3), None) for _ in range(8)]
    widths = [math.dist(*([end] for end in averaged_paired(groups[:count]).ci95)) for count in (1, 2, 4, 8)]
    assert widths == sorted(widths, reverse=True)


def test_a_data_set_where_nothing_differs_widens_by_the_rule_of_three() -> None:
    same = [[1.0, 0.0] * 30] * 2
    average = averaged_paired([(same, same, None), (same, same, None)])
    assert (average.value, average.ci95) == (0.0, (-0.05, 0.05))


def test_of_one_row_or_one_context_nothing_is_known() -> None:
    assert averaged_paired([([[1.0]], [[0.0]], None)]).ci95 == (-1.0, 1.0)
    assert averaged_paired([([[1.0, 0.0]], [[0.0, 0.0]], (0, 0))]).ci95 == (-1.0, 1.0)


def test_rows_of_one_context_count_once() -> None:
    random = np.random.default_rng(2)
    a, b = scores(random, 3), scores(random, 3, share=0.5)
    twice = [[value for value in row for _ in range(2)] for row in a], [[value for value in row for _ in range(2)] for row in b]
    clusters = tuple(place // 2 for place in range(80))
    once, clustered = averaged_paired([(a, b, None)]), averaged_paired([(*twice, clusters)])
    assert clustered.ci95 == pytest.approx(once.ci95, abs=0.01)


def test_other_data_sets_are_students_interval() -> None:
    from scipy.stats import ttest_1samp

    means = [0.02, 0.05, -0.01, 0.04, 0.03, 0.0]
    expected = ttest_1samp(means, 0).confidence_interval(0.95)
    assert other_data_sets(means) == pytest.approx((expected.low, expected.high), abs=1e-6)
    with pytest.raises(ValueError, match="at least two"):
        other_data_sets([0.1])


@pytest.mark.parametrize(
    "groups", [[], [([[1.0]], [[1.0, 0.0]], None)], [([[2.0, 0.0]], [[1.0, 0.0]], None)]], ids=["none", "shape", "range"]
)
def test_wrong_scores_are_refused(groups: Any) -> None:
    with pytest.raises(ValueError, match=r"needs at least|same seeds and rows|lie in"):
        averaged_paired(groups)


@pytest.mark.slow
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("count", DATA_SETS)
def test_the_interval_holds_the_truth(count: int, seeds: int, spread: float) -> None:
    """docs/sweeps.md names what came out."""
    assert 0.92 <= coverage(count, seeds, spread) <= 1.0


def test_rows_whose_differences_vary_by_rounding_only_do_not_vary() -> None:
    """Shares of 0.1 apart: the differences are not equal in their last bit."""
    b = np.random.default_rng(3).uniform(0.0, 0.8, (3, 60))
    a = b + 0.1
    assert np.ptp(a - b) > 0
    average = averaged_paired([(a.tolist(), b.tolist(), None)] * 2)
    assert average.ci95 == pytest.approx((0.05, 0.15))
