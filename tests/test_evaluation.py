"""Scores and their tables against known answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepsynth.evaluation import evaluate_classification, evaluate_multi_label, wilson
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


# several labels


def several(gold: Sequence[str], predicted: Sequence[str]) -> Evaluation:
    examples = [Example(f"test-{i}", f"text {i}", label) for i, label in enumerate(gold)]
    predictions = [
        Prediction(row.id, label, {name: 0.9 if name in label.split("|") else 0.2 for name in LABELS})
        for row, label in zip(examples, predicted, strict=True)
    ]
    return evaluate_multi_label(examples, predictions, LABELS)


def test_several_labels_worked_out_by_hand() -> None:
    result = several(["wet|foggy", "dry", "", "wet"], ["wet|foggy", "dry|wet", "dry", ""])
    assert (result.metric, result.value, result.n, result.ci95) == ("subset_accuracy", 0.25, 4, wilson(1, 4))
    # wet: gold 2, predicted 2, both 1; dry: gold 1, predicted 2, both 1; foggy: 1, 1, 1.
    assert result.details["per_label"] == [
        {"label": "wet", "n": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5},
        {"label": "dry", "n": 1, "precision": 0.5, "recall": 1.0, "f1": 0.666667},
        {"label": "foggy", "n": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0},
    ]
    assert result.details["micro_f1"] == round(2 * 3 / (4 + 5), 6)
    assert result.details["macro_f1"] == round((0.5 + 2 / 3 + 1) / 3, 6)
    assert result.details["hamming"] == 0.25  # wet of rows 2 and 4, dry of row 3, of 12 decisions
    # A label that is left out at 0.2 is the least sure decision of every row.
    assert result.details["mean_confidence"] == 0.8


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.sets(st.sampled_from(LABELS))] * 2), min_size=1, max_size=30))
def test_several_labels_agree_with_scikit_learn(rows: list[tuple[set[str], set[str]]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score, hamming_loss

    truth, predicted = (np.array([[name in row[side] for name in LABELS] for row in rows]) for side in (0, 1))
    joined = [["|".join(name for name in LABELS if name in row[side]) for row in rows] for side in (0, 1)]
    result = several(*joined)
    occurring = [i for i in range(len(LABELS)) if truth[:, i].any() or predicted[:, i].any()]
    assert result.value == pytest.approx(accuracy_score(truth, predicted), abs=1e-6)
    assert result.details["hamming"] == pytest.approx(hamming_loss(truth, predicted), abs=1e-6)
    assert result.details["micro_f1"] == pytest.approx(f1_score(truth, predicted, average="micro", zero_division=0), abs=1e-6)
    if occurring:
        expected = f1_score(truth, predicted, average="macro", labels=occurring, zero_division=0)
        assert result.details["macro_f1"] == pytest.approx(expected, abs=1e-6)


def test_the_order_in_which_labels_are_joined_does_not_matter() -> None:
    assert several(["wet|dry"], ["dry|wet"]).value == 1.0


def test_an_unknown_label_among_several_is_refused() -> None:
    with pytest.raises(ValueError, match="'sunny'"):
        several(["wet|sunny"], ["wet"])
