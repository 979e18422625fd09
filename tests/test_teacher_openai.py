"""The HTTP teacher against a real loopback server: every row of its error table, and its secrets."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import socket
import subprocess
import sys
import time
import traceback
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from loopback import Fault, LoopbackServer, Seen, completion
from openai_client import make_config, use
from stepsynth.config import TeacherConfig
from stepsynth.errors import ConfigError, PermanentError, TeacherError, TransientError
from stepsynth.teachers import AsyncTeacher, answer_of, create_teacher
from stepsynth.teachers.chat import request_seed
from stepsynth.teachers.openai import OpenAITeacher
from stepsynth.teachers.served import says_unlisted
from stepsynth.types import Message, Request, Response, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "sk-canary/7+f3Kq9ZxW2mTb8Lr5Vh1Yd4"
KEY_SPELLINGS = (CANARY, quote(CANARY, safe=""), base64.b64encode(CANARY.encode()).decode().rstrip("="), "7+f3Kq9ZxW2")


def make_request(text: str = "Write one sentence.", replicate: int = 0, **sampling: Any) -> Request:
    return Request((Message("user", text),), Sampling(**sampling), replicate, "round-0/seed", 0, "positive")


def ask(config: TeacherConfig, request: Request | None = None) -> Response:
    response = use(config, lambda teacher: teacher.generate(request or make_request()))
    assert isinstance(response, Response)
    return response


def answer_with(server: LoopbackServer, choice: dict[str, Any]) -> Response:
    server.answer = lambda body: {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    return ask(make_config(server))


def test_an_answer_brings_text_finish_usage_and_the_raw_body(loopback: LoopbackServer) -> None:
    loopback.answer = lambda body: completion("two words", body, "length")
    response = ask(make_config(loopback), make_request("one two three"))
    assert (response.text, response.finish_reason) == ("two words", "length")
    assert (response.usage.prompt_tokens, response.usage.completion_tokens, response.usage.cost_usd) == (3, 2, None)
    assert json.loads(response.raw)["choices"][0]["message"]["content"] == "two words"
    assert len(loopback.requests) == 1


def test_it_is_what_the_factory_makes_and_an_async_teacher(loopback: LoopbackServer) -> None:
    teacher = create_teacher(make_config(loopback))
    assert isinstance(teacher, OpenAITeacher)
    assert isinstance(teacher, AsyncTeacher)


def test_the_body_holds_only_what_openai_knows_unless_set(loopback: LoopbackServer) -> None:
    config = make_config(loopback)
    ask(config, make_request())
    ask(config, make_request(min_p=0.05, repetition_penalty=1.2, max_tokens=7, temperature=0.1, top_p=0.5))
    plain, extra = (seen.json for seen in loopback.completions)
    assert set(plain) == {"model", "messages", "temperature", "top_p", "max_tokens", "seed"}
    assert plain["messages"] == [{"role": "user", "content": "Write one sentence."}]
    assert {"min_p": 0.05, "repetition_penalty": 1.2, "max_tokens": 7, "temperature": 0.1, "top_p": 0.5}.items() <= extra.items()


def test_the_seed_repeats_for_a_request_and_differs_between_replicates(loopback: LoopbackServer) -> None:
    config = make_config(loopback)
    for replicate in (0, 0, 1):
        ask(config, make_request(replicate=replicate))
    first, again, other = (seen.json["seed"] for seen in loopback.completions)
    assert first == again == request_seed(make_request().key(config.identity()))
    assert first != other
    assert 0 <= first < 2**31


HOSTILE = "{{7*7}} ${HOME} {0.__class__} %s </s> \u2028\u2029\u0085 \x00\t\r\n é \U0001f680\U0001f468\u200d\U0001f469 \u202eabc"


def test_prompt_text_reaches_the_server_byte_identical(loopback: LoopbackServer) -> None:
    turns = (Message("system", HOSTILE), Message("assistant", HOSTILE[::-1]), Message("user", HOSTILE * 2))
    ask(make_config(loopback), Request(turns, Sampling(), 0, "round-0/seed", 0, "x"))
    sent = loopback.completions[0].json["messages"]
    assert [(turn["role"], turn["content"].encode()) for turn in sent] == [(m.role, m.content.encode()) for m in turns]


def test_answer_text_arrives_unchanged(loopback: LoopbackServer) -> None:
    loopback.answer = lambda body: completion(HOSTILE, body)
    assert ask(make_config(loopback)).text == HOSTILE


def test_a_lone_surrogate_is_sent_and_received_without_a_crash(loopback: LoopbackServer) -> None:
    loopback.answer = lambda body: completion("a \ud83d b", body)
    response = ask(make_config(loopback), make_request("x \udc00 y"))
    assert response.text == "a \ufffd b"
    assert "\\ud83d" in response.raw
    response.raw.encode()


@pytest.mark.parametrize("code", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_overload_and_server_errors_are_transient_after_one_attempt(loopback: LoopbackServer, code: int) -> None:
    loopback.faults = {1: Fault.status(code)}
    with pytest.raises(TransientError, match=str(code)) as caught:
        ask(make_config(loopback))
    assert caught.value.retry_after is None
    assert len(loopback.requests) == 1


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [("7", 7, 7), ("0.25", 0.25, 0.25), ("date+30", 25, 31), ("date-30", 0, 0)],
)
def test_retry_after_is_read_as_seconds_or_date(loopback: LoopbackServer, value: str, low: float, high: float) -> None:
    header = formatdate(time.time() + float(value[4:]), usegmt=True) if value.startswith("date") else value
    loopback.faults = {1: Fault.status(429, {"Retry-After": header})}
    with pytest.raises(TransientError) as caught:
        ask(make_config(loopback))
    assert caught.value.retry_after is not None
    assert low <= caught.value.retry_after <= high


@pytest.mark.parametrize("value", ["soon", "-3", "nan", "inf", "1e999", "", "Mon, 99 Foo 2020 00:00:00 GMT"])
def test_a_senseless_retry_after_is_ignored(loopback: LoopbackServer, value: str) -> None:
    loopback.faults = {1: Fault.status(503, {"Retry-After": value})}
    with pytest.raises(TransientError) as caught:
        ask(make_config(loopback))
    assert caught.value.retry_after is None


def test_an_exhausted_quota_is_not_worth_a_retry(loopback: LoopbackServer) -> None:
    loopback.faults = {1: Fault.status(429, body={"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}})}
    with pytest.raises(PermanentError, match="quota"):
        ask(make_config(loopback))


@pytest.mark.parametrize("kind", ["reset", "close", "truncated", "malformed"])
def test_broken_connections_and_bodies_are_transient_after_one_attempt(loopback: LoopbackServer, kind: str) -> None:
    loopback.faults = {1: Fault(kind)}
    with pytest.raises(TransientError):
        ask(make_config(loopback))
    assert len(loopback.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"choices": []}',
        '{"choices": [{}]}',
        '{"choices": [null]}',
        '{"choices": [{"message": null}]}',
        '{"choices": {"0": 1}}',
        "<html>hello</html>",
        "[" * 100_000,
        '{"error": {"message": "upstream failed", "code": 502}}',
    ],
    ids=range(12),
)
def test_an_answer_without_choices_is_transient(loopback: LoopbackServer, body: str) -> None:
    loopback.faults = {1: Fault("status", 200, body=body)}
    with pytest.raises(TransientError):
        ask(make_config(loopback))


def test_a_hanging_server_is_a_transient_time_out_that_says_it_may_be_billed(loopback: LoopbackServer) -> None:
    loopback.faults = {1: Fault("hang")}
    started = time.monotonic()
    with pytest.raises(TransientError, match=r"0\.3 s.*billed"):
        ask(make_config(loopback, timeout_s=0.3))
    # The server would hold the line for much longer.
    assert time.monotonic() - started < 30
    assert len(loopback.requests) == 1


def test_a_slow_answer_within_the_limit_is_an_answer(loopback: LoopbackServer) -> None:
    loopback.faults = {1: Fault("slow", seconds=0.3)}
    assert ask(make_config(loopback)).finish_reason in ("stop", "length")


def test_a_refused_connection_is_transient_and_says_to_check_the_server() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        config = make_config(f"http://127.0.0.1:{free.getsockname()[1]}/v1")
    with pytest.raises(TransientError) as caught:
        ask(config)
    assert "server runs" in caught.value.hint
    assert "base_url" in caught.value.hint


def test_a_body_without_end_is_cut_off_quickly(loopback: LoopbackServer) -> None:
    loopback.faults = {1: Fault("flood")}
    started = time.monotonic()
    with pytest.raises(PermanentError, match="16 MB"):
        ask(make_config(loopback))
    # The time limit of an answer is 120 seconds.
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirects_are_not_followed(loopback: LoopbackServer, code: int) -> None:
    loopback.faults = {1: Fault.status(code, {"Location": f"{loopback.base_url}/elsewhere"})}
    with pytest.raises(PermanentError, match="elsewhere"):
        ask(make_config(loopback))
    assert [seen.path for seen in loopback.requests] == ["/v1/chat/completions"]


@pytest.mark.parametrize("code", [400, 402, 413, 422])
def test_a_refused_request_shows_the_servers_words_in_200_characters(loopback: LoopbackServer, code: int) -> None:
    loopback.faults = {1: Fault.status(code, body={"error": {"message": "temperature\nis odd " + "x" * 900, "code": None}})}
    with pytest.raises(PermanentError, match="temperature is odd") as caught:
        ask(make_config(loopback))
    assert len(caught.value.message) < 320
    assert len(loopback.requests) == 1


@pytest.mark.parametrize("body", ['{"detail": [{"msg": "extra"}]}', '{"error": "extra"}', '{"message": "extra"}', "extra"])
def test_the_words_are_found_in_every_common_shape(loopback: LoopbackServer, body: str) -> None:
    loopback.faults = {1: Fault.status(422, body=body)}
    with pytest.raises(PermanentError, match="extra"):
        ask(make_config(loopback))


def test_a_config_without_a_model_is_told_that_it_names_none(loopback: LoopbackServer) -> None:
    config = TeacherConfig(backend="openai", base_url=loopback.base_url)
    with pytest.raises(PermanentError, match="has no model 'smollm2-135m'") as caught:
        ask(config)
    assert caught.value.hint == ("That is asked for where teacher.model is not set; name one of the server's. Known: loopback.")


def test_an_unknown_model_is_named_with_the_nearest_listed_one(loopback: LoopbackServer) -> None:
    with pytest.raises(PermanentError, match=r"no model 'lopback'.*Did you mean 'loopback'") as caught:
        ask(make_config(loopback, model="lopback"))
    assert not caught.value.retryable


def test_many_unknown_models_at_once_ask_for_the_list_once(loopback: LoopbackServer) -> None:
    async def work(teacher: OpenAITeacher) -> list[Any]:
        return await asyncio.gather(*(teacher.generate(make_request(replicate=i)) for i in range(8)), return_exceptions=True)

    errors = use(make_config(loopback, model="lopback"), work)
    assert all(isinstance(error, PermanentError) for error in errors)
    assert sum(seen.method == "GET" for seen in loopback.requests) == 1


def test_a_wrong_path_points_to_the_base_url(loopback: LoopbackServer) -> None:
    config = make_config(loopback.base_url.removesuffix("/v1"))
    with pytest.raises(PermanentError, match=r"not found.*base_url.*/v1"):
        ask(config)


def test_a_trailing_slash_in_base_url_does_no_harm(loopback: LoopbackServer) -> None:
    ask(make_config(loopback.base_url + "/"))
    assert loopback.requests[0].path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("choice", "text", "finish"),
    [
        ({"message": {"content": "a"}, "finish_reason": "stop"}, "a", "stop"),
        ({"message": {"content": "a"}, "finish_reason": "length"}, "a", "length"),
        ({"message": {"content": "a"}, "finish_reason": None}, "a", "stop"),
        ({"message": {"content": "a"}, "finish_reason": "tool_calls"}, "a", "stop"),
        ({"message": {"content": "half"}, "finish_reason": "content_filter"}, "half", "refusal"),
        ({"message": {"content": None, "refusal": "I can't."}, "finish_reason": "stop"}, "I can't.", "refusal"),
        ({"message": {"content": None}, "finish_reason": "stop"}, "", "stop"),
        ({"message": {"content": ""}, "finish_reason": "length"}, "", "length"),
        ({"message": {}, "finish_reason": "stop"}, "", "stop"),
        ({"message": {"content": "b", "reasoning_content": "hm"}, "finish_reason": "stop"}, "b", "stop"),
        ({"message": {"content": [{"type": "thinking"}, {"type": "text", "text": "c"}]}, "finish_reason": "stop"}, "c", "stop"),
    ],
)
def test_content_and_finish_reasons_are_mapped(loopback: LoopbackServer, choice: dict[str, Any], text: str, finish: str) -> None:
    response = answer_with(loopback, choice)
    assert (response.text, response.finish_reason) == (text, finish)
    assert response.usage.completion_tokens == 2


@pytest.mark.parametrize(
    ("told", "dollars"),
    [
        ({"cost": 0.00014}, 0.00014),
        ({"cost": 0.00014, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}, 0.00014),
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}, 0.021),
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, None),
        ({"cost": 0, "is_byok": False}, 0.0),
        ({"cost": 0}, None),
        ({"cost": -1}, None),
        ({"cost": True}, None),
        ({"cost": "0.1"}, None),
        ({"cost": {"total_cost": 0.1}}, None),
        ({"cost": float("inf")}, None),
        ({}, None),
    ],
)
def test_a_cost_that_the_server_reports_counts(loopback: LoopbackServer, told: dict[str, Any], dollars: float | None) -> None:
    """As OpenRouter does."""
    loopback.answer = lambda body: {**completion("a", body), "usage": {"prompt_tokens": 3, "completion_tokens": 2, **told}}
    response = ask(make_config(loopback))
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (3, 2)
    assert response.usage.cost_usd == (pytest.approx(dollars) if dollars else dollars)


@pytest.mark.parametrize("usage", [None, [], {"prompt_tokens": "3"}, {"prompt_tokens": -1, "completion_tokens": None}])
def test_odd_usage_counts_nothing(loopback: LoopbackServer, usage: object) -> None:
    loopback.answer = lambda body: {**completion("a", body), "usage": usage}
    loopback.faults = lambda seen: Fault.status(200, body=loopback.answer(seen.json))
    response = ask(make_config(loopback))
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (0, 0)


def test_a_prompt_withheld_by_a_content_filter_is_a_refusal(loopback: LoopbackServer) -> None:
    loopback.faults = {1: Fault.status(400, body={"error": {"message": "filtered", "code": "content_filter"}})}
    response = ask(make_config(loopback))
    assert (response.text, response.finish_reason) == ("", "refusal")
    assert "filtered" in response.raw


def test_max_completion_tokens_is_negotiated_once_and_remembered(loopback: LoopbackServer) -> None:
    loopback.refuse_max_tokens = True

    async def work(teacher: OpenAITeacher) -> None:
        for replicate in range(3):
            await answer_of(teacher, make_request(replicate=replicate, max_tokens=9))

    use(make_config(loopback), work)
    assert ["max_tokens" in seen.json for seen in loopback.completions] == [True, False, False, False]
    assert all(seen.json["max_completion_tokens"] == 9 for seen in loopback.completions[1:])


def test_no_more_requests_in_flight_than_connections(loopback: LoopbackServer) -> None:
    loopback.latency = 0.05

    async def work(teacher: OpenAITeacher) -> None:
        await asyncio.gather(*(teacher.generate(make_request(replicate=i)) for i in range(12)))

    use(make_config(loopback, concurrency=3), work)
    assert loopback.peak == 3
    assert len(loopback.completions) == 12


def test_a_teacher_works_again_after_close_and_in_another_loop(loopback: LoopbackServer) -> None:
    teacher = OpenAITeacher(make_config(loopback))

    async def once() -> Response:
        response = await teacher.generate(make_request())
        await teacher.close()
        return response

    assert asyncio.run(once()).text == asyncio.run(once()).text


def test_without_a_variable_no_authorization_is_sent(
    loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ask(make_config(loopback))
    assert "authorization" not in loopback.requests[0].headers


def test_a_proxy_is_used_for_other_hosts_only(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", loopback.base_url.removesuffix("/v1"))
    ask(make_config(loopback))
    with pytest.raises(PermanentError):
        ask(make_config("http://teacher.invalid/v1"))
    assert [seen.path for seen in loopback.completions] == ["/v1/chat/completions", "http://teacher.invalid/v1/chat/completions"]


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_missing_key_is_a_config_error_before_anything_is_sent(
    loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(ConfigError, match=r"'MY_KEY'.*export MY_KEY"):
        OpenAITeacher(make_config(loopback, api_key_env="MY_KEY"))


def test_a_key_with_a_line_break_inside_is_refused_without_showing_it(
    loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", f"{CANARY}\nX-Evil: 1")
    with pytest.raises(ConfigError, match="MY_KEY") as caught:
        OpenAITeacher(make_config(loopback, api_key_env="MY_KEY"))
    assert [known for known in KEY_SPELLINGS if known in shown(caught.value)] == []


def test_the_key_is_read_stripped_and_sent(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {CANARY}\n")
    loopback.api_key = CANARY
    ask(make_config(loopback, api_key_env="MY_KEY"))
    assert loopback.requests[0].headers["authorization"] == f"Bearer {CANARY}"


def shown(error: BaseException) -> str:
    """Return everything that a program could print of an error, local variables included."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "\n".join([str(error), repr(error), repr(error.args), *whole.format(chain=True), repr(vars(error))])


def echo(spelling: str) -> Callable[[Seen], Fault | None]:
    """Make every status say the key, in words, header and JSON."""
    codes = iter([400, 401, 403, 404, 409, 429, 500, 302, 200])
    message = f"bad key {spelling} given"

    def faults(seen: Seen) -> Fault:
        return Fault.status(next(codes), {"Location": f"/{spelling}", "X-Echo": spelling}, {"error": {"message": message}})

    return faults


@pytest.mark.parametrize("spelling", KEY_SPELLINGS[:3])
def test_the_key_is_in_no_error_whatever_the_server_echoes(
    loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, spelling: str
) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    caplog.set_level(logging.DEBUG)
    loopback.faults = echo(spelling)
    texts = []

    async def work(teacher: OpenAITeacher) -> None:
        texts.append(repr(teacher) + repr(vars(teacher)))
        for _ in range(9):
            try:
                await teacher.generate(make_request())
            except TeacherError as error:
                texts.append(shown(error))

    use(make_config(loopback, api_key_env="MY_KEY"), work)
    assert len(texts) == 10
    everything = "\n".join([*texts, caplog.text])
    assert [known for known in KEY_SPELLINGS if known in everything] == []
    assert sum("MY_KEY" in text for text in texts[1:]) >= 2


@pytest.mark.parametrize("kind", ["reset", "close", "truncated", "malformed", "hang"])
def test_the_key_is_in_no_connection_error(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    loopback.faults = {1: Fault(kind)}
    with pytest.raises(TransientError) as caught:
        ask(make_config(loopback, api_key_env="MY_KEY", timeout_s=0.5))
    assert [known for known in KEY_SPELLINGS if known in shown(caught.value)] == []
    assert caught.value.__context__ is None


def test_a_key_echoed_in_an_answer_is_cut_out_of_text_and_raw(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    loopback.answer = lambda body: completion(f"the key is {CANARY}.", body)
    response = ask(make_config(loopback, api_key_env="MY_KEY"))
    assert response.text == "the key is [key]."
    assert CANARY not in response.raw


def test_a_placeholder_key_of_a_local_server_damages_no_answer(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "EMPTY")
    loopback.answer = lambda body: completion("An EMPTY room.", body)
    assert ask(make_config(loopback, api_key_env="MY_KEY")).text == "An EMPTY room."


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_key_names_its_variable(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    loopback.faults = {1: Fault.status(code)}
    with pytest.raises(PermanentError, match="MY_KEY"):
        ask(make_config(loopback, api_key_env="MY_KEY"))


def test_a_partly_masked_key_of_a_401_is_not_repeated(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", CANARY)
    loopback.faults = {1: Fault.status(401, body={"error": {"message": "Incorrect key canary/7+f****Yd4"}})}
    with pytest.raises(PermanentError) as caught:
        ask(make_config(loopback, api_key_env="MY_KEY"))
    assert "canary/7+f" not in str(caught.value)


def test_a_server_that_wants_a_key_when_none_is_set_says_which_setting(loopback: LoopbackServer) -> None:
    loopback.api_key = CANARY
    with pytest.raises(PermanentError, match="api_key_env"):
        ask(make_config(loopback))


def probe(config: TeacherConfig) -> str:
    return str(use(config, lambda teacher: teacher.probe()))


def test_probe_asks_for_the_list_alone(loopback: LoopbackServer) -> None:
    assert "serves 'loopback'" in probe(make_config(loopback))
    assert [(seen.method, seen.path) for seen in loopback.requests] == [("GET", "/v1/models")]


@pytest.mark.parametrize(("model", "listed"), [("gemma", "models/gemma"), ("llama3", "llama3:latest"), ("a/b:c", "a/b:c")])
def test_probe_knows_the_spellings_of_gemini_and_ollama(loopback: LoopbackServer, model: str, listed: str) -> None:
    loopback.models = [listed]
    assert model in probe(make_config(loopback, model=model))


def test_probe_warns_of_a_model_that_is_not_listed(loopback: LoopbackServer) -> None:
    said = probe(make_config(loopback, model="loopbac"))
    assert "does not list 'loopbac'; a request will show whether it serves it. Did you mean 'loopback'?" in said
    assert loopback.completions == []


@pytest.mark.parametrize("fault", [Fault.status(404), Fault.status(405), Fault("status", 200, body="<html>"), Fault("malformed")])
def test_probe_without_a_list_says_so_and_asks_nothing_that_costs(loopback: LoopbackServer, fault: Fault) -> None:
    loopback.list_fault = fault
    assert "lists no models: a request will show whether it serves 'loopback'" in probe(make_config(loopback))
    assert loopback.completions == []


def test_probe_does_not_trust_a_partial_or_empty_list(loopback: LoopbackServer) -> None:
    bodies: list[dict[str, Any]] = [{"data": []}, {"data": [{"id": "other"}], "has_more": True}]
    for body in bodies:
        loopback.list_fault = Fault.status(200, body=body)
        assert "lists no models" in probe(make_config(loopback))
    assert loopback.completions == []


@pytest.mark.parametrize("status", [401, 402, 403, 429, 500, 503])
def test_a_list_that_is_refused_ends_nothing_since_the_chat_may_work(loopback: LoopbackServer, status: int) -> None:
    loopback.list_fault = Fault.status(status)
    said = probe(make_config(loopback))
    assert says_unlisted(said)
    assert f"does not show its list of models (HTTP {status}" in said
    assert ("scripted" in said) == (status != 401)
    assert ask(make_config(loopback)).finish_reason in ("stop", "length")


def test_a_wrong_key_is_said_by_the_chat_and_its_echo_by_nobody(
    loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-" + "w" * 30)
    loopback.api_key = CANARY
    config = make_config(loopback, api_key_env="MY_KEY")
    assert "sk-" not in probe(config)
    with pytest.raises(PermanentError, match="refused the key in MY_KEY"):
        ask(config)


def test_probe_of_a_host_that_nobody_listens_at_is_transient(loopback: LoopbackServer) -> None:
    config = make_config(loopback)
    loopback.stop()
    with pytest.raises(TransientError, match="cannot connect"):
        probe(config)


def test_importing_the_module_loads_no_http_library() -> None:
    code = "import sys, stepsynth.teachers.openai; sys.exit('aiohttp' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60).returncode == 0


def test_the_network_guard_sees_another_machine_even_when_the_error_is_swallowed(network_guard: list[str]) -> None:
    with pytest.raises(TransientError):
        ask(make_config("http://192.0.2.1:9/v1", timeout_s=1))
    assert network_guard == ["socket.connect '192.0.2.1'"]
    network_guard.clear()
