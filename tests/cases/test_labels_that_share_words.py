"""Answers where labels share words, differ in signs or are denied: never the opposite label."""

from __future__ import annotations

import pytest

from stepsynth.tasks.answers import read_label, read_labels


@pytest.mark.parametrize(
    ("answer", "labels", "label"),
    [
        ("not ok", ["not_ok", "not-ok", "ok"], None),
        ("It is not ok.", ["not_ok", "not-ok", "ok"], None),
        ("not_ok", ["not_ok", "not-ok", "ok"], "not_ok"),
        ("ok", ["not_ok", "not-ok", "ok"], "ok"),
        ("no spam", ["spam", "no-spam", "no_spam"], None),
        ("in stock", ["in-stock", "in_stock", "stock"], None),
        ("very-positive", ["positive", "negative", "very positive", "very_positive"], None),
        ("very positive", ["positive", "negative", "very positive", "very_positive"], "very positive"),
        ("non-entailment", ["entailment", "not entailment"], None),
        ("It is not an entailment.", ["entailment", "not entailment"], None),
        ("not entailment", ["entailment", "not entailment"], "not entailment"),
        ("This is not spam, because spam has links.", ["spam", "ham"], None),
        ("It is not spam but ham.", ["spam", "ham"], "ham"),
        ("un-related", ["related", "unrelated"], None),
        ("No, it is spam.", ["spam", "ham"], "spam"),
        ("no", ["yes", "no"], "no"),
        ("B -", ["B", "B-"], None),
        ("B - good work", ["B", "B-"], "B"),
        ("B minus", ["B", "B-"], "B-"),
        ("The grade is B minus because it is short.", ["B", "B-"], "B-"),
        ("A -", ["A", "A-", "A+"], None),
        ("A plus", ["A", "A-", "A+"], None),
        ("B plus.", ["B", "B+"], "B+"),
        ("C ++", ["c", "c++", "c#"], "c++"),
        ("C plus plus", ["c", "c++", "c#"], "c++"),
        ("C sharp", ["c", "c++", "c#"], "c#"),
        ("C", ["c", "c++", "c#"], "c"),
        ("1. -1", ["-1", "0", "1"], None),
        ("1. 0", ["-1", "0", "1"], None),
        ("< 5", ["<5", "5"], "<5"),
    ],
)
def test_an_answer_is_never_read_as_the_opposite_label(answer: str, labels: list[str], label: str | None) -> None:
    assert read_label(answer, labels) == label
    assert read_label(answer, labels[::-1]) == label


def test_of_several_labels_none_is_taken_where_one_may_be_another() -> None:
    labels = ["spam", "no-spam", "no_spam", "urgent"]
    assert read_labels("no spam, urgent", labels) is None
    assert read_labels("urgent, not spam", ["spam", "urgent"]) == "urgent"
