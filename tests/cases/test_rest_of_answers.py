"""Ends that say nothing, signed labels, whose affair a 403 is, and daily limits without a wait."""

from __future__ import annotations

import json

import pytest

from stepsynth.config import TaskConfig, TeacherConfig
from stepsynth.data.readers.columnar import _names_in
from stepsynth.errors import PermanentError, TransientError
from stepsynth.generation.outcomes import Outcomes
from stepsynth.prompts import read_answer
from stepsynth.teachers.completions import is_failure, read_completion
from stepsynth.teachers.replies import Reply, refusal_error
from stepsynth.types import Example, Response, Usage

URL = "http://127.0.0.1:9/v1"
DAILY = '{"error": {"message": "Requests per day (RPD) limit reached: Limit 200, Used 200."}}'


def body(reason: object) -> str:
    return json.dumps({"error": None, "choices": [{"message": {"content": "The tram was"}, "finish_reason": reason}]})


@pytest.mark.parametrize(
    "reason", ["FINISH_REASON_UNSPECIFIED", "other", "OTHER", "unknown", "malformed_function_call", "MALFORMED_FUNCTION_CALL"]
)
def test_an_end_that_says_nothing_is_asked_again_and_a_kept_one_is_not(reason: str) -> None:
    with pytest.raises(TransientError):
        read_completion(body(reason))
    assert not is_failure(Response("The tram was", "stop", Usage(), body(reason)))


@pytest.mark.parametrize("reason", [None, "stop", "eos", "STOP", "stop_sequence", "end_turn"])
def test_other_ends_are_answers(reason: object) -> None:
    assert read_completion(body(reason))[0].finish_reason == "stop"


def read(text: str, *labels: str) -> str | None:
    task = TaskConfig(name="t", family="classification", instruction="Rate.", labels=dict.fromkeys(labels, "some label"))
    found = read_answer(text, task, Example("1", "A text", labels[0]))
    return found[0] if found else None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("minus 1", "-1"),
        # The prompt lists labels with a dash before each.
        ("- 1", None),
        ("\u2212 1", None),
        ("negative 1", "-1"),
        ("Minus 1.", "-1"),
        ("The answer is minus 1", "-1"),
        ("Answer: - 1", "-1"),
        ("-1", "-1"),
        ("1", "1"),
        ("+1", "1"),
        ("1/1", None),
        ("0-1", None),
        ("The score is 0", "0"),
    ],
)
def test_a_minus_in_any_form(text: str, label: str | None) -> None:
    assert read(text, "-1", "0", "1") == label


def test_a_scale_without_a_minus_is_read_as_before() -> None:
    assert read("Rating - 4", "3", "4", "5") == "4"
    assert read("4/5", "3", "4", "5") == "4"
    assert read("- 4", "3", "4", "5") == "4"


def refused(status: int, text: str) -> PermanentError:
    error = refusal_error(Reply(status, text), TeacherConfig(backend="openai", model="m", base_url=URL), URL)
    assert isinstance(error, PermanentError)
    return error


def test_a_403_after_an_answer_is_its_rows_affair_and_a_401_is_not() -> None:
    outcomes = Outcomes(answered_before=True)
    forbidden = refused(403, '{"error": "forbidden"}')
    assert outcomes.gave_up(forbidden) is forbidden
    outcomes.came(Response("A text.", "stop", Usage(), ""))
    assert outcomes.gave_up(forbidden) is None
    wrong = refused(401, "{}")
    assert outcomes.gave_up(wrong) is wrong


def test_a_daily_limit_without_a_wait_ends_the_run() -> None:
    error = refused(429, DAILY)
    assert error.final
    assert "daily limit" in str(error)
    assert "concurrency" not in str(error)


@pytest.mark.parametrize("words", ["Too many requests.", "Requests per minute reached; 200 per day in all."])
def test_other_limits_are_waited_for(words: str) -> None:
    text = json.dumps({"error": {"message": words}})
    config = TeacherConfig(backend="openai", model="m", base_url=URL)
    assert isinstance(refusal_error(Reply(429, text), config, URL), TransientError)


def test_names_of_classes_in_a_mapping() -> None:
    assert _names_in({"_type": "ClassLabel", "names": {"1": "billing", "0": "technical"}}) == ["technical", "billing"]
    assert _names_in({"_type": "ClassLabel", "names": {"0": "technical", "2": "billing"}}) is None
    assert _names_in({"_type": "ClassLabel", "names": ["technical", "billing"]}) == ["technical", "billing"]
