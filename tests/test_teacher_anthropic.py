"""The Messages API against a real loopback server: its fields, its errors, its limits, its secrets."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from loopback import Fault, LoopbackServer, completion
from stepsynth.config import TeacherConfig
from stepsynth.errors import ConfigError, PermanentError, TeacherError, TransientError
from stepsynth.teachers import answer_of, create_teacher, probe_teacher
from stepsynth.teachers.anthropic import AnthropicTeacher, read_message
from stepsynth.teachers.structured import INSTRUCTION, INSTRUCTION_OF_SEVERAL
from stepsynth.testing import make_request
from stepsynth.types import Message, Request, Response, Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

CANARY = "sk-ant-canary-7f3Kq9ZxW2mTb8Lr5Vh1Yd4"


def make_config(server: LoopbackServer, **changes: Any) -> TeacherConfig:
    values = {"backend": "anthropic", "model": "loopback", "base_url": server.anthropic_url, "timeout_s": 10.0, **changes}
    return TeacherConfig(**values)


def ask(config: TeacherConfig, *requests: Request) -> list[Response]:
    async def main(requests: Sequence[Request]) -> list[Response]:
        teacher = AnthropicTeacher(config)
        try:
            return [await answer_of(teacher, request) for request in requests]
        finally:
            await teacher.close()

    return asyncio.run(main(requests or [make_request()]))


def failure(config: TeacherConfig, **sampling: Any) -> TeacherError:
    with pytest.raises(TeacherError) as caught:
        ask(config, make_request(**sampling))
    return caught.value


def test_the_factory_makes_it(loopback: LoopbackServer) -> None:
    assert isinstance(create_teacher(make_config(loopback)), AnthropicTeacher)


def test_a_request_has_the_fields_that_the_api_knows_and_no_others(
    loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    turns = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Write."))
    ask(make_config(loopback, api_key_env="MY_KEY"), Request(turns, Sampling(0.5, 1.0, max_tokens=9), 0, "s", 0, ""))
    (seen,) = loopback.requests
    assert seen.path == "/v1/messages"
    assert (seen.headers["x-api-key"], seen.headers["anthropic-version"]) == (CANARY, "2023-06-01")
    assert "authorization" not in seen.headers
    assert seen.json == {
        "model": "loopback",
        "max_tokens": 9,
        "temperature": 0.5,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Write."},
        ],
    }


def test_an_answer_brings_text_finish_usage_and_the_raw_body(loopback: LoopbackServer) -> None:
    loopback.answer = lambda body: completion("two words", body, "length")
    (response,) = ask(make_config(loopback))
    assert (response.text, response.finish_reason) == ("two words", "length")
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (loopback.prompt_tokens, 2)
    assert json.loads(response.raw)["content"][0]["text"] == "two words"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("refusal", "refusal"),
        ("model_context_window_exceeded", "length"),
        (None, "stop"),
    ],
)
def test_stop_reasons_are_mapped(reason: str | None, finish: str) -> None:
    body = {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}], "stop_reason": reason}
    response = read_message(json.dumps(body))
    assert (response.text, response.finish_reason) == ("a", finish)


def test_tokens_that_came_from_the_providers_cache_are_counted_as_read() -> None:
    usage = {"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 7, "output_tokens": 2}
    found = read_message(json.dumps({"content": [], "usage": usage})).usage
    assert (found.prompt_tokens, found.completion_tokens) == (15, 2)


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"content": "x"}', "<html>", "[" * 100_000], ids=range(6))
def test_a_body_without_content_is_transient_and_damaged(body: str) -> None:
    with pytest.raises(TransientError) as caught:
        read_message(body)
    assert caught.value.kind == "damaged"


@pytest.mark.parametrize(("code", "kind"), [(429, "overload"), (529, "overload"), (500, "unavailable"), (504, "unavailable")])
def test_overload_is_transient_after_one_attempt(loopback: LoopbackServer, code: int, kind: str) -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    loopback.faults = {1: Fault.status(code, {"retry-after": "7"}, body)}
    error = failure(make_config(loopback))
    assert isinstance(error, TransientError)
    assert (error.kind, error.retry_after) == (kind, 7)
    assert "Overloaded" in error.message
    assert len(loopback.requests) == 1


@pytest.mark.parametrize("kind", ["reset", "close", "truncated", "malformed"])
def test_broken_connections_are_transient_after_one_attempt(loopback: LoopbackServer, kind: str) -> None:
    loopback.faults = {1: Fault(kind)}
    assert isinstance(failure(make_config(loopback)), TransientError)
    assert len(loopback.requests) == 1


def test_sampling_at_the_apis_own_default_is_not_sent(loopback: LoopbackServer) -> None:
    ask(make_config(loopback), make_request(temperature=1.0, top_p=1.0))
    assert not {"temperature", "top_p"} & set(loopback.completions[0].json)


def test_a_model_that_takes_only_one_of_temperature_and_top_p_says_which_to_set(loopback: LoopbackServer) -> None:
    said = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
    loopback.faults = {1: Fault.status(400, body={"error": {"type": "invalid_request_error", "message": said}})}
    error = failure(make_config(loopback, sampling={"temperature": 0.7, "top_p": 0.9}))
    assert isinstance(error, PermanentError)
    assert "teacher.sampling.top_p: 1.0" in error.hint
    assert len(loopback.requests) == 1


@pytest.mark.parametrize("sampling", [{"temperature": 1.5}, {"min_p": 0.1}, {"repetition_penalty": 1.2}])
def test_sampling_that_the_api_lacks_is_a_config_error(loopback: LoopbackServer, sampling: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(sampling))):
        AnthropicTeacher(make_config(loopback, sampling=sampling))


@pytest.mark.parametrize(("parts", "name", "said"), [(1, "text", INSTRUCTION), (3, "texts", INSTRUCTION_OF_SEVERAL)])
def test_json_is_asked_for_by_schema_and_in_words(loopback: LoopbackServer, parts: int, name: str, said: str) -> None:
    ask(make_config(loopback, structured="json"), replace(make_request(), parts=parts))
    body = loopback.completions[0].json
    assert body["output_config"]["format"]["type"] == "json_schema"
    assert body["output_config"]["format"]["schema"]["required"] == [name]
    assert body["messages"][-1]["content"].endswith(said)


def test_an_older_model_that_refuses_the_schema_is_asked_without_it_from_then_on(loopback: LoopbackServer) -> None:
    loopback.refuse = ("output_config",)
    assert len(ask(make_config(loopback, structured="json"), make_request(), make_request(replicate=1))) == 2
    assert ["output_config" in seen.json for seen in loopback.completions] == [True, False, False]


def test_probe_asks_for_the_model_alone(loopback: LoopbackServer) -> None:
    assert "'loopback'" in probe_teacher(make_config(loopback))
    assert [(seen.method, seen.path) for seen in loopback.requests] == [("GET", "/v1/models/loopback")]


def test_probe_names_the_nearest_model(loopback: LoopbackServer) -> None:
    assert "does not list 'lopback'" in (said := probe_teacher(make_config(loopback, model="lopback")))
    assert "Did you mean 'loopback'" in said
    assert loopback.completions == []


@pytest.mark.parametrize("status", [401, 403, 429, 500, 529])
def test_a_list_that_is_refused_ends_nothing_since_the_chat_may_work(loopback: LoopbackServer, status: int) -> None:
    loopback.list_fault = Fault.status(status)
    assert f"does not show its list of models (HTTP {status}" in probe_teacher(make_config(loopback))
    assert ask(make_config(loopback))[0].finish_reason in ("stop", "length")


def test_a_wrong_key_is_said_by_the_chat_and_named_by_its_variable(
    loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    loopback.api_key = "another"
    config = make_config(loopback, api_key_env="MY_KEY")
    assert CANARY not in probe_teacher(config)
    error = failure(config)
    assert "MY_KEY" in str(error)
    assert CANARY not in str(error)


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_the_address_may_end_in_v1(loopback: LoopbackServer, ending: str) -> None:
    ask(make_config(loopback, base_url=loopback.anthropic_url + ending))
    assert loopback.requests[0].path == "/v1/messages"


def test_an_echoed_key_is_cut_out_of_errors_and_answers(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    config = make_config(loopback, api_key_env="MY_KEY")
    loopback.faults = {1: Fault.status(400, body={"error": {"message": f"bad {CANARY}"}})}
    error = failure(config)
    assert CANARY not in str(error)
    assert error.__context__ is None
    loopback.answer = lambda body: completion(f"the key is {CANARY}", body)
    (response,) = ask(config)
    assert CANARY not in response.text + response.raw
