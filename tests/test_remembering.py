"""Results that are kept: equal arguments give equal results without a second computation, others never."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from stepsynth.runtime.remembering import Remembered, remembered


@dataclass(frozen=True, slots=True)
class Point:
    at: int
    vector: Any = None


@dataclass(frozen=True, slots=True)
class Place:
    at: int
    vector: Any = None


def counting(most: int = 8) -> tuple[Remembered[[Any], list[Any]], list[Any]]:
    asked: list[Any] = []

    @remembered(most=most)
    def twice(value: Any) -> list[Any]:
        """Say it twice."""
        asked.append(value)
        return [value, value]

    return twice, asked


def test_equal_arguments_are_computed_once_and_a_caller_may_change_what_it_got() -> None:
    twice, asked = counting()
    first = twice([1, "ä\ud800"])
    first.append("more")
    assert twice([1, "ä\ud800"]) == [[1, "ä\ud800"]] * 2
    twice([1, "ä\ud800"])[0].append("more")
    assert twice([1, "ä\ud800"]) == [[1, "ä\ud800"]] * 2
    assert len(asked) == 1
    assert twice.__doc__ == "Say it twice."


OTHERS = [
    1,
    1.0,
    True,
    "1",
    None,
    [1, 2],
    {1, 2},
    {"a": 1, "b": 2},
    Point(1),
    Place(1),
    Point(1, np.zeros(2)),
    Point(1, np.zeros(2, dtype=np.float32)),
    Point(1, np.zeros((1, 2))),
    Point(1, np.array([0.0, 1e-300])),
]


def test_other_arguments_are_others() -> None:
    twice, asked = counting(most=50)
    for value in (*OTHERS, *OTHERS):
        twice(value)
    assert len(asked) == len(OTHERS)


def test_the_order_of_keys_and_members_does_not_matter() -> None:
    twice, asked = counting()
    for value in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"x", "y", "z"}, {"z", "y", "x"}):
        twice(value)
    assert len(asked) == 2


def test_what_was_used_longest_ago_goes_first() -> None:
    twice, asked = counting(most=2)
    for value in (1, 2, 1, 3, 1, 2):
        twice(value)
    assert asked == [1, 2, 3, 2]
    twice.forget()
    twice(1)
    assert asked[-1] == 1


def test_an_error_is_not_kept() -> None:
    answers = iter([ValueError("no"), None])

    @remembered(most=2)
    def once(_: int) -> str:
        if found := next(answers):
            raise found
        return "yes"

    with pytest.raises(ValueError, match="no"):
        once(1)
    assert once(1) == "yes"
    assert once(1) == "yes"


def test_what_cannot_be_compared_is_refused() -> None:
    twice, _ = counting()
    with pytest.raises(TypeError, match="a object is no value"):
        twice(object())
