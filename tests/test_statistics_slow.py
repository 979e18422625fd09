"""What the intervals promise, by simulation: the table in `stepsynth.evaluation.seeds` comes from here."""

from __future__ import annotations

import numpy as np
import pytest

from simulated_students import claims_over_looks, one_method, two_methods, two_methods_on_passages
from stepsynth.evaluation import hierarchical_interval, hierarchical_paired, paired_difference, wilson
from stepsynth.evaluation.stopping import should_stop

pytestmark = pytest.mark.slow

RUNS = 2_000
# Three binomial standard errors of a share of 0.95.
ERROR = 3 * (0.95 * 0.05 / RUNS) ** 0.5


@pytest.mark.parametrize("rows", [200, 1_000])
@pytest.mark.parametrize("seed_sd", [0.06, 0.2, 0.4, 0.8])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_the_interval_of_a_method_holds_the_truth(seeds: int, seed_sd: float, rows: int) -> None:
    runs = RUNS if rows == 200 else RUNS // 4
    answered, truth = one_method(np.random.default_rng(seeds), runs, seeds, rows, seed_sd)
    intervals = [hierarchical_interval(run, 0) for run in answered.tolist()]
    held = np.mean([low <= truth <= high for low, high in intervals])
    # Two seeds 12 points apart bend a logit's scale, which no symmetric interval follows.
    lowest = 0.92 if seeds == 2 and seed_sd > 0.2 else 0.93
    assert lowest - ERROR * (RUNS / runs) ** 0.5 <= held <= (0.97 if seeds > 3 else 0.995) + ERROR


@pytest.mark.parametrize("effect", [0.0, 0.3])
@pytest.mark.parametrize("seed_sd", [0.06, 0.2, 0.4, 0.8])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_the_interval_of_a_difference_holds_the_truth(seeds: int, seed_sd: float, effect: float) -> None:
    a, b, truth = two_methods(np.random.default_rng(50 + seeds), RUNS, seeds, 200, seed_sd, effect)
    results = [hierarchical_paired(x, y, 0) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    held = np.mean([result.ci95[0] <= truth <= result.ci95[1] for result in results])
    assert 0.93 - ERROR <= held <= (0.97 if seeds > 3 else 0.995) + ERROR
    if not effect:
        assert np.mean([result.p_value < 0.05 for result in results]) <= 0.06 + ERROR


def test_one_seed_speaks_of_one_student_only() -> None:
    """Its interval covers the truth where seeds do not differ, and far from it where they do."""
    random = np.random.default_rng(0)
    shares = []
    for seed_sd in (0.0, 0.4):
        answered, truth = one_method(random, RUNS, 1, 200, seed_sd)
        intervals = [wilson(int(run.sum()), 200) for run in answered]
        shares.append(np.mean([low <= truth <= high for low, high in intervals]))
    assert 0.93 <= shares[0] <= 0.97
    assert shares[1] < 0.8


@pytest.mark.parametrize("rows", [50, 277, 1_000])
def test_two_equal_students_are_called_different_no_more_often_than_five_percent(rows: int) -> None:
    a, b, _ = two_methods(np.random.default_rng(rows), RUNS // 2, 1, rows, 0.0, 0.0)
    results = [paired_difference(x[0], y[0], 0) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert np.mean([result.p_value < 0.05 for result in results]) <= 0.05 + 1.5 * ERROR
    assert 0.93 - 1.5 * ERROR <= np.mean([result.ci95[0] <= 0 <= result.ci95[1] for result in results]) <= 0.97 + ERROR


def test_a_loop_that_gains_nothing_stops_at_the_first_chance_nine_times_in_ten() -> None:
    random = np.random.default_rng(0)
    ease = random.normal(1, 1.5, (RUNS, 1, 150))
    rounds = random.random((RUNS, 3, 150)) < 1 / (1 + np.exp(-ease))
    assert np.mean([should_stop(run) for run in rounds.tolist()]) >= 0.9


@pytest.mark.parametrize("counts", [(3, 5, 10), (2, 3, 4, 5, 6, 7, 8)])
@pytest.mark.parametrize("seed_sd", [0.06, 0.2, 0.4, 0.8])
def test_adding_seeds_until_established_is_false_in_five_percent_at_most(seed_sd: float, counts: tuple[int, ...]) -> None:
    found = claims_over_looks(np.random.default_rng(len(counts)), RUNS // 2, counts, seed_sd, rows=200)
    assert max(found["planned"], found["unplanned"]) <= 0.05 + 1.4 * ERROR, found
    assert found["uncorrected"] > found["planned"]


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("passage_sd", [0.0, 0.7, 1.5])
@pytest.mark.parametrize("passages", [20, 48])
def test_intervals_over_passages_hold_the_truth(passages: int, passage_sd: float, seeds: int) -> None:
    # One seed is about these very students, so nothing varies from seed to seed there.
    seed_sd = 0.2 if seeds > 1 else 0.0
    a, b, places = two_methods_on_passages(np.random.default_rng(seeds), RUNS // 2, seeds, passages, seed_sd, passage_sd)
    results = [hierarchical_paired(x, y, 0, places) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    held = np.mean([low <= 0 <= high for low, high in (result.ci95 for result in results)])
    assert held >= 0.93 - 1.4 * ERROR
    if seeds > 1:
        assert np.mean([result.p_value < 0.05 for result in results]) <= 0.06 + 1.4 * ERROR
