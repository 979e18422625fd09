"""A sample that a rate limit holds up: a short wait is waited for, a long one is said, and neither is taken for slowness."""

from __future__ import annotations

import time

import pytest

from loopback import Fault, LoopbackServer
from openai_client import make_config
from stepsynth.errors import TransientError
from stepsynth.generation import ask_sample
from stepsynth.teachers.openai import OpenAITeacher
from stepsynth.testing import make_request


@pytest.mark.parametrize("status", [429, 503])
def test_a_short_wait_that_the_server_asks_for_is_waited_for(loopback: LoopbackServer, status: int) -> None:
    loopback.answer = lambda _: "a text"
    loopback.faults = {1: Fault.status(status, {"Retry-After": "1"}), 2: Fault.status(status, {"Retry-After": "0"})}
    config = make_config(loopback)
    waits: list[float] = []
    started = time.monotonic()
    (answer,) = ask_sample(config, OpenAITeacher(config), [make_request()], waits.append)
    assert answer.text
    assert (waits, len(loopback.completions)) == ([1.0, 0.0], 3)
    assert time.monotonic() - started >= 1.0


def test_a_long_wait_is_said_and_ends_the_sample(loopback: LoopbackServer) -> None:
    loopback.faults = {1: Fault.status(429, {"Retry-After": "600"})}
    config = make_config(loopback)
    with pytest.raises(TransientError) as caught:
        ask_sample(config, OpenAITeacher(config), [make_request()])
    assert caught.value.hint == "The server asks to wait 600 s: run it again after that."
    assert "concurrency" not in str(caught.value)


def test_waits_come_to_an_end_and_a_failure_without_one_is_not_tried_again(loopback: LoopbackServer) -> None:
    config = make_config(loopback)
    loopback.faults = lambda _: Fault.status(429, {"Retry-After": "0"})
    with pytest.raises(TransientError):
        ask_sample(config, OpenAITeacher(config), [make_request()])
    assert len(loopback.completions) == 4
    loopback.faults = lambda _: Fault.status(500)
    with pytest.raises(TransientError):
        ask_sample(config, OpenAITeacher(config), [make_request()])
    assert len(loopback.completions) == 5
