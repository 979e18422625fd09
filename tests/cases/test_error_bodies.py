"""One reader of errors: what is shown, learned, waited for and given up comes from the same words and codes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loopback import Fault, LoopbackServer
from stepsynth.config import BudgetConfig, PriceConfig, TeacherConfig
from stepsynth.errors import PermanentError, TeacherError, TransientError
from stepsynth.generation import TeacherClient
from stepsynth.journal import Journal
from stepsynth.teachers import probe_teacher
from stepsynth.teachers.anthropic import read_message
from stepsynth.teachers.completions import is_failure, read_completion
from stepsynth.teachers.error_body import read_error, server_message
from stepsynth.teachers.refusals import classify, status_of
from stepsynth.teachers.replies import Reply, refusal_error
from stepsynth.testing import make_request
from stepsynth.types import Response, Usage

CONFIG = TeacherConfig(
    backend="openai", base_url="http://127.0.0.1:9/v1", model="m", api_key_env="SOME_KEY", price=PriceConfig(input=0, output=0)
)


def refused(reply: Reply) -> TeacherError:
    return refusal_error(reply, CONFIG, "http://127.0.0.1:9/v1")


def in_body(error: Any) -> dict[str, Any]:
    return {"id": "x", "error": error}


def in_choice(error: Any) -> dict[str, Any]:
    return {
        "id": "x",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": None, "error": error}],
    }


def in_string(error: Any) -> dict[str, Any]:
    return {"error": json.dumps({"error": error})}


@pytest.mark.parametrize("where", [in_body, in_choice, in_string])
@pytest.mark.parametrize(
    ("error", "kind", "final"),
    [
        ({"code": 402, "message": "no"}, PermanentError, True),
        ({"message": "no", "type": "insufficient_quota"}, PermanentError, True),
        ({"message": "Insufficient Balance"}, PermanentError, True),
        ({"code": 401, "message": "no"}, PermanentError, True),
        ({"message": "no", "code": "invalid_api_key"}, PermanentError, True),
        ({"code": 404, "message": "The model `m` does not exist"}, PermanentError, True),
        ({"code": 429, "message": "Rate limit reached, try again in 41s"}, TransientError, 41.0),
        ({"code": "rate_limit_exceeded", "message": "no", "retry_after": 7}, TransientError, 7.0),
        ({"code": 429, "message": "no", "metadata": {"headers": {"Retry-After": "12"}}}, TransientError, 12.0),
        ({"code": 502, "message": "Provider returned error", "metadata": {"raw": "upstream"}}, TransientError, None),
        ({"message": "odd"}, TransientError, None),
    ],
)
def test_a_failure_inside_a_200_is_the_failure_that_it_would_have_been(
    where: Callable[[Any], dict[str, Any]], error: dict[str, Any], kind: type[TeacherError], final: object
) -> None:
    with pytest.raises(kind) as caught:
        read_completion(json.dumps(where(error)), 1, refused)
    if isinstance(caught.value, PermanentError):
        assert caught.value.final is final
    elif isinstance(caught.value, TransientError):
        assert caught.value.retry_after == final


@pytest.mark.parametrize("where", [in_body, in_choice, in_string])
@pytest.mark.parametrize(
    "error",
    [
        {"message": "no", "code": "content_filter"},
        {"code": 400, "message": "Content Exists Risk"},
        {"code": 403, "message": "no", "metadata": {"reasons": ["hate"], "flagged_input": "x"}},
        {"message": "no", "type": "content_policy_violation"},
    ],
)
def test_a_moderation_inside_a_200_is_a_refusal(where: Callable[[Any], dict[str, Any]], error: dict[str, Any]) -> None:
    (answer,) = read_completion(json.dumps(where(error)), 1, refused)
    assert (answer.text, answer.finish_reason) == ("", "refusal")


@pytest.mark.parametrize(
    ("code", "status"), [(1002, 429), (1004, 401), (1008, 402), (1026, 400), (1027, 400), (1039, 429), (2049, 401), (1000, 502)]
)
def test_minimax_s_numbers_are_read_where_they_stand(code: int, status: int) -> None:
    assert status_of(read_error(json.dumps({"base_resp": {"status_code": code, "status_msg": "no"}}))) == status
    # Elsewhere they are other servers' numbers.
    assert status_of(read_error(json.dumps({"error": {"code": code, "message": "no"}}))) == 502


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "billing_error", "message": "no"}, PermanentError),
        ({"type": "authentication_error", "message": "no"}, PermanentError),
        ({"type": "overloaded_error", "message": "no"}, TransientError),
        ({"type": "api_error", "message": "no"}, TransientError),
    ],
)
def test_a_failure_inside_a_message_is_classified_too(error: dict[str, str], kind: type[TeacherError]) -> None:
    with pytest.raises(kind):
        read_message(json.dumps({"type": "error", "error": error}), refused)


@pytest.mark.parametrize(
    ("status", "body", "about"),
    [
        (498, {"error": {"message": "Flex tier capacity exceeded", "code": "capacity_exceeded"}}, "busy"),
        (498, {"error": {"message": "Invalid API key", "code": "invalid_api_key"}}, "key"),
        (403, {"error": {"message": "no", "code": "rate_limit_exceeded"}}, "busy"),
        (400, {"error": {"message": "no", "code": "blocked_api_access"}}, "money"),
        (400, {"error": {"message": "The monthly spend limit of this project is reached."}}, "money"),
        (
            400,
            {"error": {"message": "You have reached your specified API usage limits. You will regain access on 2026-12-01."}},
            "money",
        ),
        (401, {"detail": "Your plan does not allow more requests this month."}, "money"),
        (401, {"detail": "Unauthorized"}, "key"),
        (401, {"error": {"message": "Access denied due to invalid subscription key or wrong API endpoint."}}, "key"),
        (400, [{"error": {"message": "no", "details": [{"reason": "API_KEY_INVALID"}]}}], "key"),
        (500, {"error": {"message": "Insufficient Balance"}}, ""),
    ],
)
def test_what_a_refusal_is_about(status: int, body: object, about: str) -> None:
    assert classify(status, json.dumps(body)) == about


@pytest.mark.parametrize("status", [400, 403, 498])
def test_a_page_says_nothing_of_the_prompt(status: int) -> None:
    """A company's web filter, for instance. Pages that an earlier version kept as refusals are set aside."""
    page = "<!DOCTYPE html><html><title>Web Filter Violation</title><p>Blocked: in violation of your Internet usage policy."
    assert classify(status, page) == ""
    assert classify(status, json.dumps({"error": {"message": "in violation of our usage policy"}})) == "withheld"
    kept = Response("", "refusal", Usage(0, 0), page)
    assert is_failure(kept)
    assert not is_failure(replace(kept, raw="<html>Unavailable For Legal Reasons</html>"))
    assert not is_failure(replace(kept, raw='{"error": {"message": "in violation of our usage policy"}}'))


def test_a_used_up_plan_is_not_called_a_wrong_key_and_its_words_are_shown() -> None:
    error = refused(Reply(401, json.dumps({"detail": "Your plan is used up, sk-12345678 must pay."})))
    assert isinstance(error, PermanentError)
    assert error.final
    assert "SOME_KEY" not in str(error)
    assert "Your plan is used up" in str(error)
    assert "sk-12345678" not in str(error)


def test_gemini_s_wrong_key_is_noted_and_ends_nothing(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "wrong")
    body = [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}}]
    loopback.list_fault = Fault.status(400, body=body)
    said = probe_teacher(CONFIG.model_copy(update={"base_url": loopback.base_url}))
    assert "HTTP 400: 'API key not valid. Please pass a valid API key.'" in said
    assert not loopback.completions


@pytest.mark.parametrize("body", [{"data": [{"id": "m"}]}, [{"id": "m"}], {"object": "list", "data": [{"id": "models/m"}]}])
def test_a_list_is_read_in_each_of_its_shapes(loopback: LoopbackServer, body: Any) -> None:
    loopback.list_fault = Fault.status(200, body=body)
    config = CONFIG.model_copy(update={"base_url": loopback.base_url, "api_key_env": None})
    assert "serves 'm'" in str(probe_teacher(config))


def test_llama_cpp_s_500_for_several_choices_is_learned(loopback: LoopbackServer, tmp_path: Path) -> None:
    body = {"error": {"code": 500, "message": "Only one completion choice is allowed", "type": "server_error"}}
    loopback.faults = lambda seen: Fault.status(500, body=body) if seen.json.get("n") else None
    loopback.models = None
    loopback.answer = lambda body: "A text."
    config = CONFIG.model_copy(update={"base_url": loopback.base_url, "api_key_env": None, "rows_per_request": 3})
    journal = Journal(tmp_path / "journal.db")
    client = TeacherClient(config, journal, BudgetConfig(), pause=lambda _: pytest.fail("nothing is overloaded"))
    answers = client.run([make_request("Write.", n) for n in range(4)])
    journal.close()
    assert all(isinstance(answer, Response) and answer.text == "A text." for answer in answers.values())
    assert len(loopback.completions) == 5


def test_an_answer_after_blank_lines_is_an_answer() -> None:
    """DeepSeek keeps a connection alive with them."""
    body = {"choices": [{"message": {"content": "A text."}, "finish_reason": "stop"}]}
    assert read_completion("\n\n \n" + json.dumps(body))[0].text == "A text."


@pytest.mark.parametrize("count", [10**30, 10**400, 2**63, -5, True, 1.5, "7", None])
def test_no_count_of_tokens_breaks_the_ledger(count: object) -> None:
    body = {"choices": [{"message": {"content": "A text."}, "finish_reason": "stop"}], "usage": {"completion_tokens": count}}
    message = {"content": [{"type": "text", "text": "A text."}], "usage": {"output_tokens": count}}
    for usage in (read_completion(json.dumps(body))[0].usage, read_message(json.dumps(message)).usage):
        assert type(usage.completion_tokens) is int
        assert 0 <= usage.completion_tokens < 2**40


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        json.dumps({"error": {"message": "x" * 10**6}}),
        json.dumps([{"error": {"message": f"m{n}"}} for n in range(20_000)]),
        json.dumps({"error": {f"k{n}": {"message": f"m{n}"} for n in range(20_000)}}),
        '{"error": ' * 500 + '"deep"' + "}" * 500,
        json.dumps({"error": {"code": 10**400, "message": "a number", "loc": list(range(10**5))}}),
        "<title>" * 10**5,
        "<" * 10**6,
    ],
    ids=["brackets", "long", "many", "wide", "deep", "number", "titles", "signs"],
)
def test_a_hostile_error_is_read_quickly_and_in_one_line(body: str) -> None:
    before = time.process_time()
    line = server_message(body)
    classify(400, body)
    assert time.process_time() - before < 2.0
    assert len(line) <= 200
    assert "\n" not in line
