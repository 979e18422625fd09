"""The rules of SQuAD's scorer, with answers worked out by hand."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepsynth.evaluation import evaluate_extractive_qa, wilson
from stepsynth.evaluation.squad import exact_match, f1, normalise_answer
from stepsynth.types import Example, Prediction, Span


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat\n sat", "cat sat"),
        ("twenty-one", "twentyone"),
        ("U.S.", "us"),
        ("a.m.", "am"),  # marks go before articles, so no "a" stands alone
        ("A-team", "ateam"),
        ("the theatre", "theatre"),
        ("an apple a day", "apple day"),
        ("an", ""),
        ("$1,000.50", "100050"),
        ("\u201cquoted\u201d \u2014 so", "\u201cquoted\u201d \u2014 so"),  # only ASCII marks go
        ("the\u2019s", "\u2019s"),  # a typographic mark ends a word, so the article is one
        ("L'\u00c9TAT", "l\u00e9tat"),
        ("A\u00a0B", "b"),
        ("?!", ""),
    ],
)
def test_what_the_scorer_disregards(text: str, normal: str) -> None:
    assert normalise_answer(text) == normal


@given(st.text())
def test_normalising_leaves_single_spaces_and_no_articles(text: str) -> None:
    words = normalise_answer(text).split(" ")
    assert not {"a", "an", "the"} & set(words)
    assert words == [""] or all(words)


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "overlap"),
    [
        ("The Eiffel Tower!", ["Eiffel tower"], True, 1.0),
        ("Paris", ["London", "Paris, France", "paris"], True, 1.0),
        ("tower", ["Eiffel Tower"], False, 2 / 3),  # precision 1, recall 1/2
        ("in the old tower", ["Eiffel Tower"], False, 2 / 5),  # precision 1/3, recall 1/2
        ("york york", ["york"], False, 2 / 3),  # a word counts as often as both have it
        ("twenty-one", ["twenty one"], False, 0.0),  # the hyphen goes, the words join
        ("x y", ["y x"], False, 1.0),  # order does not count for F1
        ("the", ["a"], True, 1.0),  # nothing left of both (the 1.1 scorer says F1 = 0 here)
        ("", ["a"], True, 1.0),
        ("", ["Paris"], False, 0.0),
        ("the", ["Paris"], False, 0.0),
        ("Paris", ["the"], False, 0.0),
        ("Paris", [], False, 0.0),
    ],
)
def test_scores_worked_out_by_hand(prediction: str, answers: list[str], exact: bool, overlap: float) -> None:
    assert exact_match(prediction, answers) is exact
    assert f1(prediction, answers) == pytest.approx(overlap)


@given(st.text("ab the.-", max_size=12), st.lists(st.text("ab the.-", max_size=12), max_size=3))
def test_an_exact_match_has_full_overlap_and_more_answers_never_hurt(prediction: str, answers: list[str]) -> None:
    assert 0.0 <= f1(prediction, answers) <= 1.0
    assert f1(prediction, [*answers, "b"]) >= f1(prediction, answers)
    if exact_match(prediction, answers):
        assert f1(prediction, answers) == 1.0


def question(number: int, *answers: str) -> Example:
    return Example(f"test-{number}", "who?", context=f"passage {number}", answers=tuple(Span(text, 0) for text in answers))


def answer(number: int, text: str, sure: float = 0.5) -> Prediction:
    return Prediction(f"test-{number}", text, {text: sure}, 0)


def test_questions_are_scored_by_exact_match_first() -> None:
    gold = [question(0, "Eiffel Tower", "the tower"), question(1, "York"), question(2, "a red car"), question(3, "six")]
    result = evaluate_extractive_qa(gold, [answer(0, "Tower", 0.9), answer(1, "New York"), answer(2, "car", 0.1), answer(3, " ")])
    assert (result.metric, result.value, result.n, result.ci95) == ("exact_match", 0.25, 4, wilson(1, 4))
    assert result.details["f1"] == round((1 + 2 / 3 + 2 / 3 + 0) / 4, 6)
    assert result.details["f1_ci95"][0] <= result.details["f1"] <= result.details["f1_ci95"][1]
    assert (result.details["mean_confidence"], result.details["n_answered"]) == (0.5, 3)


def test_the_result_is_plain_json_and_byte_stable() -> None:
    gold, given_answers = [question(0, "x y"), question(1, "z")], [answer(0, "x"), answer(1, "z")]
    first, second = (json.dumps(dataclasses.asdict(evaluate_extractive_qa(gold, given_answers))) for _ in range(2))
    assert first == second


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        evaluate_extractive_qa([], [])
    with pytest.raises(ValueError, match="do not belong"):
        evaluate_extractive_qa([question(0, "x")], [answer(1, "x")])
    with pytest.raises(ValueError, match="'test-0'"):
        evaluate_extractive_qa([question(0)], [answer(0, "x")])
