"""Finish reasons of gateways that are in no list, and texts that are a gateway's error and no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loopback import LoopbackServer, completion
from openai_client import make_config, use
from stepsynth.errors import TransientError
from stepsynth.teachers import answer_of
from stepsynth.teachers.anthropic import read_message
from stepsynth.teachers.completions import is_failure, read_completion
from stepsynth.teachers.failures import error_in_place_of
from stepsynth.testing import make_request
from stepsynth.types import Response, Usage

PAGE = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1>nginx</body>\r\n</html>\r\n"
SAID = '{"error": {"message": "upstream failed", "type": "server_error", "code": 500}}'
OVERLOADED = "The server is currently overloaded. Please try again later."


def body(reason: object, text: str = "The tram was") -> str:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": reason}]})


@pytest.mark.parametrize(
    "reason",
    [
        *("server_error", "internal_error", "upstream_error", "provider_error", "rate_limit", "interrupted", "disconnect"),
        *("incomplete", "Internal Server Error", "ConnectionClosed", "timed_out", "request-failed", "rate_limited"),
    ],
)
def test_an_end_named_like_a_failure_is_asked_again(reason: str) -> None:
    with pytest.raises(TransientError):
        read_completion(body(reason))
    assert not is_failure(Response("The tram was", "stop", Usage(), body(reason)))


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        *(
            (name, "length")
            for name in ("max_total_tokens", "time_limit", "context_length_exceeded", "MaxTokens", "stopped_limit")
        ),
        *((name, "refusal") for name in ("blocked", "content_policy", "content_policy_violation", "SafetyFilter")),
        *((name, "stop") for name in ("stop_token", "eos_token", "content_block_stop", "pause_turn", "done", "", None)),
    ],
)
def test_an_end_named_like_another_is_read_as_that(reason: str | None, finish: str) -> None:
    assert read_completion(body(reason))[0].finish_reason == finish


@pytest.mark.parametrize(("reason", "finish"), [("blocked", "refusal"), ("max_total_tokens", "length"), ("end_turn", "stop")])
def test_a_message_s_end_is_read_likewise(reason: str, finish: str) -> None:
    message = {"content": [{"type": "text", "text": "Half"}], "stop_reason": reason}
    assert read_message(json.dumps(message)).finish_reason == finish
    with pytest.raises(TransientError, match="stop_reason 'upstream_error'") as caught:
        read_message(json.dumps({**message, "stop_reason": "upstream_error"}))
    assert caught.value.kind == "damaged"


@pytest.mark.parametrize(
    "text",
    [
        *(PAGE, SAID, OVERLOADED, "Internal server error", "Internal Server Error.", "Error: upstream request timeout"),
        *("502 Bad Gateway", "HTTP 503: Service Unavailable", "no healthy upstream", "The model is overloaded, please try again"),
    ],
)
def test_a_text_that_is_an_error_and_nothing_else_is_a_failure(text: str) -> None:
    with pytest.raises(TransientError) as caught:
        read_completion(body("stop", text), asked="Write a review.")
    assert caught.value.kind == "damaged"


@pytest.mark.parametrize(
    "text",
    [
        "Our shop shows 'Internal server error' since noon, please help.",
        "Internal server error on the checkout page since this morning.",
        "The server is currently overloaded and my order is lost. Please try again later, it says.",
        '{"text": "Internal server error", "label": "outage"}',
        '{"error": "none", "text": "fine"}',
        "<p>502 Bad Gateway</p>",
        "<html><body>My page</body></html>",
        "",
    ],
)
def test_texts_about_errors_are_texts(text: str) -> None:
    assert not error_in_place_of(text, "Write a ticket.")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Internal server error", "Name one of: internal server error, timeout"),
        (SAID, 'Rows look like {"error": {"message": "x"}}'),
        (PAGE, "Write an error page that begins with <html>"),
    ],
)
def test_what_the_request_itself_shows_is_an_answer(text: str, asked: str) -> None:
    assert read_completion(body("stop", text), asked=asked)[0].text == text


def test_an_error_in_place_of_an_answer_is_none_at_the_server_too(loopback: LoopbackServer) -> None:
    loopback.answer = lambda sent: completion(OVERLOADED, sent)

    async def work(teacher: Any) -> Response:
        return await answer_of(teacher, make_request())

    with pytest.raises(TransientError, match="currently overloaded"):
        use(make_config(loopback), work)
