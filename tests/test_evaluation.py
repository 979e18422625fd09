"""Scores, intervals and paired tests against known answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepsynth.evaluation import evaluate_classification, hierarchical_interval, hierarchical_paired, paired_difference, wilson
from stepsynth.types import Evaluation, Example, Prediction

LABELS = ["wet", "dry", "foggy"]


def evaluate(gold: Sequence[str], predicted: Sequence[str], confidence: Sequence[float] | None = None) -> Evaluation:
    sure = confidence or [0.8] * len(gold)
    examples = [Example(f"test-{i}", f"text {i}", label) for i, label in enumerate(gold)]
    predictions = [
        Prediction(row.id, label, {name: p if name == label else (1 - p) / 2 for name in LABELS})
        for row, label, p in zip(examples, predicted, sure, strict=True)
    ]
    return evaluate_classification(examples, predictions, LABELS)


# metrics


def test_a_small_case_worked_out_by_hand() -> None:
    result = evaluate(["wet", "wet", "wet", "dry", "dry", "foggy"], ["wet", "wet", "dry", "dry", "wet", "foggy"])
    assert (result.metric, result.value, result.n) == ("accuracy", 0.666667, 6)
    assert result.ci95 == wilson(4, 6)
    assert result.details["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert result.details["per_label"] == [
        {"label": "wet", "n": 3, "precision": 0.666667, "recall": 0.666667, "f1": 0.666667},
        {"label": "dry", "n": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5},
        {"label": "foggy", "n": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0},
    ]
    assert result.details["macro_f1"] == 0.722222
    # (c * s - sum p t) / sqrt((s^2 - sum p^2)(s^2 - sum t^2)) with c=4, s=6, p=t=(3, 2, 1)
    assert result.details["mcc"] == round((4 * 6 - 14) / (36 - 14), 6)


def test_perfect_answers_score_one_even_where_a_label_does_not_occur() -> None:
    result = evaluate(["wet", "dry"], ["wet", "dry"], [1.0, 1.0])
    assert (result.value, result.details["macro_f1"], result.details["mcc"], result.details["ece"]) == (1.0, 1.0, 1.0, 0.0)
    assert result.details["per_label"][2] == {"label": "foggy", "n": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_a_constant_student_has_no_correlation() -> None:
    result = evaluate(["wet", "dry", "wet", "dry"], ["wet"] * 4)
    assert (result.value, result.details["mcc"]) == (0.5, 0.0)


def test_all_wrong_with_one_label_is_a_score_not_a_crash() -> None:
    result = evaluate(["wet"], ["dry"])
    assert (result.value, result.details["macro_f1"]) == (0.0, 0.0)


def test_calibration_error_is_the_weighted_gap_per_bin() -> None:
    result = evaluate(["wet"] * 4, ["wet", "wet", "wet", "dry"], [0.95, 0.95, 0.95, 0.55])
    assert result.details["mean_confidence"] == 0.85
    assert result.details["ece"] == pytest.approx((3 * 0.05 + 0.55) / 4)


def test_a_confidence_a_hair_above_one_is_counted() -> None:
    assert evaluate(["wet", "dry"], ["dry", "wet"], [1.0000001, 1.0]).details["ece"] == 1.0


def test_the_result_is_plain_json_and_byte_stable() -> None:
    arguments: list[Any] = [["wet", "dry", "foggy", "wet"], ["wet", "wet", "foggy", "dry"]]
    first, second = (json.dumps(dataclasses.asdict(evaluate(*arguments))) for _ in range(2))
    assert first == second
    assert "e-" not in first


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40))
def test_the_tables_agree_with_one_another(answers: list[tuple[str, str]]) -> None:
    result = evaluate([gold for gold, _ in answers], [predicted for _, predicted in answers])
    confusion = np.array(result.details["confusion"])
    assert confusion.sum() == result.n == len(answers)
    assert confusion.trace() / result.n == pytest.approx(result.value, abs=1e-6)
    assert [row["n"] for row in result.details["per_label"]] == confusion.sum(axis=1).tolist()
    assert result.ci95[0] <= result.value <= result.ci95[1]


def test_what_does_not_belong_together_is_refused() -> None:
    row, right = Example("test-0", "a", "wet"), Prediction("test-0", "wet", {"wet": 1.0})
    with pytest.raises(ValueError, match="no rows"):
        evaluate_classification([], [], LABELS)
    with pytest.raises(ValueError, match="do not belong"):
        evaluate_classification([row], [dataclasses.replace(right, example_id="test-1")], LABELS)
    with pytest.raises(ValueError, match="do not belong"):
        evaluate_classification([row], [right, right], LABELS)
    with pytest.raises(ValueError, match="'sunny'"):
        evaluate_classification([dataclasses.replace(row, label="sunny")], [right], LABELS)


# intervals


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (10, 10), (1, 1), (7, 10), (748, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_agrees_with_statsmodels(correct: int, n: int, level: float) -> None:
    from statsmodels.stats.proportion import proportion_confint

    assert wilson(correct, n, level) == pytest.approx(proportion_confint(correct, n, alpha=1 - level, method="wilson"), abs=1e-6)


def test_wilson_needs_an_answer() -> None:
    with pytest.raises(ValueError, match="at least one"):
        wilson(0, 0)


def answers(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[bool], list[bool]]:
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return a, b


@pytest.mark.parametrize("table", [(50, 12, 3, 35), (10, 1, 0, 4), (0, 5, 5, 0), (400, 60, 33, 107)])
def test_the_paired_p_value_is_mcnemar_s_exact_one(table: tuple[int, int, int, int]) -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    both, only_a, only_b, neither = table
    result = paired_difference(*answers(*table), seed=0)
    assert result.p_value == pytest.approx(mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue, abs=1e-6)
    assert result.difference == round((only_a - only_b) / sum(table), 6)


def test_the_paired_interval_agrees_with_scipy_s_bootstrap() -> None:
    from scipy.stats import bootstrap

    a, b = answers(150, 40, 15, 95)
    reference = bootstrap((np.array(a, float) - np.array(b, float),), np.mean, n_resamples=10_000, method="percentile", rng=0)
    expected = reference.confidence_interval
    assert paired_difference(a, b, seed=0).ci95 == pytest.approx((expected.low, expected.high), abs=0.006)


def test_equal_students_differ_by_nothing() -> None:
    result = paired_difference([True, False, True], [True, False, True], seed=0)
    assert (result.difference, result.ci95, result.p_value) == (0.0, (0.0, 0.0), 1.0)
    assert hierarchical_paired([[True, False]] * 3, [[True, False]] * 3, seed=0).p_value == 1.0


def test_swapping_the_sides_swaps_the_sign() -> None:
    a, b = answers(30, 12, 3, 5)
    assert paired_difference(a, b, seed=0).difference == -paired_difference(b, a, seed=0).difference
    assert paired_difference(a, b, seed=0).p_value == paired_difference(b, a, seed=0).p_value


def simulated(random: np.random.Generator, seeds: int, rows: int, shift: float = 0.0) -> list[list[bool]]:
    """Rows differ in difficulty, seeds in skill; the expected accuracy is 0.7 + shift."""
    chance = 0.7 + shift + random.uniform(-0.2, 0.2, (1, rows)) + random.normal(0, 0.03, (seeds, 1))
    drawn: list[list[bool]] = (random.random((seeds, rows)) < chance).tolist()
    return drawn


def test_the_hierarchical_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    intervals = [hierarchical_interval(simulated(random, 5, 100), seed) for seed in range(60)]
    held = sum(low <= 0.7 <= high for low, high in intervals) / len(intervals)
    assert 0.9 <= held <= 1.0
    assert np.mean([high - low for low, high in intervals]) < 0.2


def test_the_hierarchical_test_is_rarely_fooled_and_sees_a_real_difference() -> None:
    random = np.random.default_rng(1)
    null = [hierarchical_paired(simulated(random, 5, 80), simulated(random, 5, 80), seed).p_value for seed in range(40)]
    real = [hierarchical_paired(simulated(random, 5, 80, 0.2), simulated(random, 5, 80), seed).p_value for seed in range(8)]
    assert np.mean(np.array(null) < 0.05) <= 0.1
    assert np.mean(np.array(real) < 0.05) >= 0.8


def test_one_seed_gives_the_plain_bootstrap_of_the_rows() -> None:
    correct = [True] * 70 + [False] * 30
    low, high = hierarchical_interval([correct], seed=0)
    # normal approximation: 0.7 +- 1.96 * sqrt(0.7 * 0.3 / 100)
    assert (low, high) == pytest.approx((0.61, 0.79), abs=0.015)


def test_seeds_that_disagree_widen_the_interval() -> None:
    alike = [[True] * 70 + [False] * 30] * 4
    apart = [[True] * n + [False] * (100 - n) for n in (40, 60, 80, 100)]
    (low_a, high_a), (low_b, high_b) = hierarchical_interval(alike, 0), hierarchical_interval(apart, 0)
    assert high_b - low_b > 1.5 * (high_a - low_a)


def test_a_difference_that_is_always_there_has_the_smallest_p_value() -> None:
    result = hierarchical_paired([[True] * 50] * 3, [[False] * 50] * 3, seed=0)
    assert (result.difference, result.ci95, result.p_value) == (1.0, (1.0, 1.0), round(2 / 10_001, 6))


def test_resampling_is_seeded() -> None:
    rows = simulated(np.random.default_rng(2), 3, 60)
    assert hierarchical_interval(rows, 5) == hierarchical_interval(rows, 5)
    assert hierarchical_interval(rows, 5) != hierarchical_interval(rows, 6)


@pytest.mark.parametrize("bad", [[], [[]], [[True], [True, False]]])
def test_ragged_or_empty_seeds_are_refused(bad: list[list[bool]]) -> None:
    with pytest.raises(ValueError, match="same rows, at least one"):
        hierarchical_interval(bad, 0)


def test_sides_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="same seeds and rows"):
        paired_difference([True], [True, False], 0)
    with pytest.raises(ValueError, match="same seeds and rows"):
        hierarchical_paired([[True]], [[True], [False]], 0)
