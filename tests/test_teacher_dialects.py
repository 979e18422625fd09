"""What servers of OpenAI's format differ in: parameters, JSON, several choices, Azure; and what a failure may have cost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from loopback import Fault, LoopbackServer, completion
from openai_client import make_config, use
from providers import play
from stepsynth.config import TeacherConfig
from stepsynth.errors import PermanentError, RetryModifiedError, TeacherError, TransientError
from stepsynth.teachers import answer_of, probe_teacher
from stepsynth.teachers.openai import OpenAITeacher
from stepsynth.teachers.retry_after import retry_after
from stepsynth.teachers.structured import INSTRUCTION, INSTRUCTION_OF_SEVERAL
from stepsynth.testing import make_request

if TYPE_CHECKING:
    from stepsynth.types import Response


def ask(config: TeacherConfig, times: int = 1, **sampling: Any) -> list[Response]:
    async def work(teacher: OpenAITeacher) -> list[Response]:
        return [await answer_of(teacher, make_request(replicate=i, **sampling)) for i in range(times)]

    found: list[Response] = use(config, work)
    return found


def failure(config: TeacherConfig, **sampling: Any) -> TeacherError:
    with pytest.raises(TeacherError) as caught:
        ask(config, **sampling)
    return caught.value


# parameters ------------------------------------------------------------------------------


def test_a_refused_seed_is_left_out_and_that_is_remembered(loopback: LoopbackServer) -> None:
    loopback.refuse = ("seed",)
    assert len(ask(make_config(loopback), times=3)) == 3
    assert ["seed" in seen.json for seen in loopback.completions] == [True, False, False, False]


@pytest.mark.parametrize("name", ["temperature", "top_p"])
def test_a_refused_sampling_setting_is_left_out_only_where_that_changes_nothing(loopback: LoopbackServer, name: str) -> None:
    loopback.refuse = (name,)
    ask(make_config(loopback), temperature=1.0, top_p=1.0)
    assert [name in seen.json for seen in loopback.completions] == [True, False]
    # What the user set is never left out; the model that fixes one setting fixes the other, too.
    config = make_config(loopback, sampling={"temperature": 0.5, "top_p": 0.5})
    error = failure(config, temperature=0.5, top_p=0.5)
    assert isinstance(error, PermanentError)
    assert "teacher.sampling.temperature: 1.0" in error.hint
    assert "teacher.sampling.top_p: 1.0" in error.hint
    assert len(loopback.completions) == 3


def test_several_refusals_are_learned_one_after_the_other(loopback: LoopbackServer) -> None:
    loopback.refuse_max_tokens = True
    loopback.refuse = (
        "seed",
        "top_p",
    )
    ask(make_config(loopback), top_p=1.0)
    last = loopback.completions[-1].json
    assert {"max_completion_tokens", "temperature"} <= set(last)
    assert not {"max_tokens", "seed", "top_p"} & set(last)


def test_requests_in_flight_together_learn_from_one_another_and_all_end(loopback: LoopbackServer) -> None:
    loopback.refuse_max_tokens = True
    loopback.refuse = ("seed",)

    async def work(teacher: OpenAITeacher) -> Any:
        return await asyncio.gather(*(answer_of(teacher, make_request(replicate=i)) for i in range(6)))

    assert len(use(make_config(loopback), work)) == 6
    assert len(loopback.completions) <= 18


def test_a_server_that_refuses_everything_is_asked_a_bounded_number_of_times(loopback: LoopbackServer) -> None:
    loopback.faults = lambda seen: Fault.status(400, body={"error": {"message": "seed temperature top_p response_format n"}})
    assert isinstance(failure(make_config(loopback, structured="json"), temperature=1.0, top_p=1.0), PermanentError)
    assert len(loopback.completions) <= 6


# several choices ---------------------------------------------------------------------------


def many(config: TeacherConfig, *sizes: int) -> list[list[Response]]:
    async def work(teacher: OpenAITeacher) -> list[list[Response]]:
        return [await teacher.generate_many([make_request(replicate=i) for i in range(size)]) for size in sizes]

    found: list[list[Response]] = use(config, work)
    return found


def test_several_rows_come_with_one_request_and_the_servers_count_of_tokens(loopback: LoopbackServer) -> None:
    (answers,) = many(make_config(loopback, rows_per_request=5), 5)
    assert [seen.json["n"] for seen in loopback.completions] == [5]
    assert len({answer.text for answer in answers}) > 1
    assert sum(answer.usage.prompt_tokens for answer in answers) == loopback.prompt_tokens
    assert sum(answer.usage.completion_tokens for answer in answers) == loopback.completion_tokens
    for answer in answers:
        assert [choice["message"]["content"] for choice in json.loads(answer.raw)["choices"]] == [answer.text]


@pytest.mark.parametrize("refuses", [False, True])
def test_a_server_without_n_answers_the_first_and_is_asked_one_by_one_from_then_on(
    loopback: LoopbackServer, refuses: bool
) -> None:
    loopback.most_choices = 1
    loopback.refuse = ("n",) if refuses else ()
    teacher_limits = []

    async def work(teacher: OpenAITeacher) -> int:
        requests = [make_request(replicate=i) for i in range(3)]
        with pytest.raises(RetryModifiedError) if refuses else nullcontext():
            assert len(await teacher.generate_many(requests)) == 1
        teacher_limits.append(teacher.rows_limit)
        return len(await teacher.generate_many(requests[1:]))

    assert use(make_config(loopback, rows_per_request=3), work) == 1
    assert teacher_limits == [1]
    assert ["n" in seen.json for seen in loopback.completions] == [True, False]


def test_a_server_that_names_how_many_it_gives_is_asked_for_as_many() -> None:
    asked: list[int] = []

    async def work(teacher: OpenAITeacher) -> None:
        groups = [[make_request(replicate=10 * group + i) for i in range(6)] for group in range(3)]
        with pytest.raises(RetryModifiedError):
            await teacher.generate_many(groups[0])
        assert teacher.rows_limit == 4
        found = await asyncio.gather(*(teacher.generate_many(group[: teacher.rows_limit]) for group in groups))
        assert [len(answers) for answers in found] == [4, 4, 4]

    with play("llama.cpp") as server:
        use(make_config(server, model=server.served[0], rows_per_request=6), work)
        asked += [seen.json["n"] for seen in server.completions]
    assert asked == [6, 4, 4, 4]


def test_a_refusal_that_allows_as_many_as_it_refused_ends() -> None:
    said = {"error": {"code": 400, "message": "Field 'n': Value must be between 1 <= value <= 8, but got 3"}}
    limits: list[int] = []

    async def work(teacher: OpenAITeacher) -> None:
        for _ in range(3):
            with contextlib.suppress(RetryModifiedError):
                await teacher.generate_many([make_request(replicate=i) for i in range(3)])
            limits.append(teacher.rows_limit)

    with LoopbackServer(faults=lambda seen: Fault.status(400, body=said) if "n" in seen.json else None) as server:
        use(make_config(server, rows_per_request=3), work)
    assert limits == [2, 1, 1]


def test_tokens_that_were_counted_for_the_first_choice_only_are_counted_for_all() -> None:
    with play("llama.cpp") as server:
        (answers,) = many(make_config(server, model=server.served[0], rows_per_request=4), 4)
    counted = sum(answer.usage.completion_tokens for answer in answers)
    assert counted >= sum(len(answer.text.split()) for answer in answers)
    assert counted > 2 * json.loads(answers[0].raw)["usage"]["completion_tokens"]


def test_fewer_tokens_than_words_are_the_count_of_one_choice(loopback: LoopbackServer) -> None:
    def body(seen: Any, counted: int) -> Fault:
        choices = [{"index": i, "message": {"content": "one two three four"}, "finish_reason": "stop"} for i in range(3)]
        return Fault.status(200, body={"choices": choices, "usage": {"prompt_tokens": 9, "completion_tokens": counted}})

    for counted, expected in ((5, 15), (12, 12), (20, 20), (0, 0)):
        loopback.faults = lambda seen, counted=counted: body(seen, counted)
        (answers,) = many(make_config(loopback, rows_per_request=3), 3)
        assert sum(answer.usage.completion_tokens for answer in answers) == expected
        assert sum(answer.usage.prompt_tokens for answer in answers) == 9


def test_the_repetition_penalty_is_sent_by_both_of_its_names(loopback: LoopbackServer) -> None:
    config = make_config(loopback, options={}, sampling={"repetition_penalty": 1.2})
    ask(config, repetition_penalty=1.2)
    # Named otherwise by the user, it is the user's.
    ask(make_config(loopback, options={"repeat_penalty": 1.1}), repetition_penalty=1.2)
    both = [(seen.json["repetition_penalty"], seen.json["repeat_penalty"]) for seen in loopback.completions]
    assert both == [(1.2, 1.2), (1.2, 1.1)]


def test_a_server_that_takes_one_name_of_the_repetition_penalty_is_sent_that(loopback: LoopbackServer) -> None:
    loopback.refuse = ("repeat_penalty",)
    config = make_config(loopback, sampling={"repetition_penalty": 1.2})
    ask(config, times=2, repetition_penalty=1.2)
    assert ["repeat_penalty" in seen.json for seen in loopback.completions] == [True, False, False]
    assert all(seen.json["repetition_penalty"] == 1.2 for seen in loopback.completions)
    # One that takes neither is a matter of the setting.
    loopback.refuse = ("repeat_penalty", "repetition_penalty")
    assert "teacher.sampling.repetition_penalty: 1.0" in failure(config, repetition_penalty=1.2).hint


def test_until_n_is_known_to_work_only_one_request_asks_for_it(loopback: LoopbackServer) -> None:
    loopback.latency = 0.02
    loopback.most_choices = 1

    async def work(teacher: OpenAITeacher) -> None:
        groups = [[make_request(replicate=10 * group + i) for i in range(3)] for group in range(4)]
        await asyncio.gather(*map(teacher.generate_many, groups))

    use(make_config(loopback, rows_per_request=3), work)
    assert sum("n" in seen.json for seen in loopback.completions) == 1


def test_a_failed_group_fails_with_one_attempt(loopback: LoopbackServer) -> None:
    loopback.faults = {1: Fault.status(503)}
    with pytest.raises(TransientError):
        many(make_config(loopback, rows_per_request=3), 3)
    assert len(loopback.completions) == 1


# JSON ----------------------------------------------------------------------------------------


def test_json_is_asked_for_by_schema_and_handed_on_as_it_came(loopback: LoopbackServer) -> None:
    loopback.answer = lambda body: completion('{"text": "A good film."}', body)
    (answer,) = ask(make_config(loopback, structured="json"))
    body = loopback.completions[0].json
    assert body["response_format"]["json_schema"]["strict"] is True
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["text"]
    assert body["messages"][-1]["content"] == f"{make_request().messages[-1].content}\n\n{INSTRUCTION}"
    assert answer.text == '{"text": "A good film."}'


def test_several_texts_are_asked_for_as_a_json_list(loopback: LoopbackServer) -> None:
    request = replace(make_request(), parts=3)
    use(make_config(loopback, structured="json"), lambda teacher: teacher.generate(request))
    body = loopback.completions[0].json
    assert body["response_format"]["json_schema"]["schema"]["properties"] == {
        "texts": {"type": "array", "items": {"type": "string"}}
    }
    assert body["messages"][-1]["content"] == f"{request.messages[-1].content}\n\n{INSTRUCTION_OF_SEVERAL}"


@pytest.mark.parametrize(
    ("refused", "types"),
    [
        (["json_schema"], ["json_schema", "json_object", "json_object"]),
        (["response_format"], ["json_schema", "json_object", None, None]),
    ],
)
def test_a_server_without_schemas_is_asked_in_the_next_best_way(
    loopback: LoopbackServer, refused: list[str], types: list[str | None]
) -> None:
    loopback.refuse = tuple(refused)
    ask(make_config(loopback, structured="json"), times=2)
    assert [seen.json.get("response_format", {}).get("type") for seen in loopback.completions] == types


# Azure -----------------------------------------------------------------------------------------


def test_azure_is_asked_at_the_deployments_address_with_its_own_header(
    loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "0123456789abcdef0123456789abcdef")
    loopback.api_key = "0123456789abcdef0123456789abcdef"
    ask(make_config(loopback, base_url=loopback.azure_url, api_version="2024-10-21", api_key_env="MY_KEY"))
    (seen,) = loopback.requests
    assert seen.path == "/openai/deployments/loopback/chat/completions?api-version=2024-10-21"
    assert seen.headers["api-key"] == loopback.api_key
    assert "authorization" not in seen.headers


def test_azure_with_its_newer_address_keeps_the_path(loopback: LoopbackServer) -> None:
    loopback.faults = {1: Fault.status(404)}
    failure(make_config(loopback, api_version="preview"))
    assert loopback.requests[0].path == "/v1/chat/completions?api-version=preview"


def test_an_unknown_deployment_is_said_with_what_to_check(loopback: LoopbackServer) -> None:
    error = failure(make_config(loopback, base_url=loopback.azure_url, api_version="2024-10-21", model="other"))
    assert "name of the deployment" in error.hint
    assert all(seen.method == "POST" for seen in loopback.requests)


def test_a_probe_of_azure_asks_nothing_since_its_list_names_no_deployments(loopback: LoopbackServer) -> None:
    said = probe_teacher(make_config(loopback, base_url=loopback.azure_url, api_version="2024-10-21"))
    assert "a request will show whether it serves 'loopback'" in said
    assert loopback.requests == []


# what a failure was and may have cost -------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "billed"),
    [
        (Fault.status(429), "overload", False),
        (Fault.status(529), "overload", False),
        (Fault.status(408), "timeout", False),
        (Fault.status(500), "unavailable", False),
        (Fault.status(503), "unavailable", False),
        (Fault("reset"), "connection", True),
        (Fault("close"), "connection", True),
        (Fault("truncated"), "damaged", True),
        (Fault("malformed"), "damaged", False),
        (Fault("hang"), "timeout", True),
    ],
    ids=lambda value: f"{value.kind}-{value.code}" if isinstance(value, Fault) else str(value),
)
def test_a_transient_failure_says_its_kind_and_whether_it_may_be_billed(
    loopback: LoopbackServer, fault: Fault, kind: str, billed: bool
) -> None:
    loopback.faults = {1: fault}
    error = failure(make_config(loopback, timeout_s=0.3 if fault.kind == "hang" else 10.0))
    assert isinstance(error, TransientError)
    assert (error.kind, error.maybe_billed) == (kind, billed)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_a_refusal_says_so(loopback: LoopbackServer, code: int) -> None:
    loopback.faults = {1: Fault.status(code)}
    assert failure(make_config(loopback)).kind == "refused"


def test_a_refused_connection_was_not_billed() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    error = failure(TeacherConfig(backend="openai", model="m", base_url=url))
    assert isinstance(error, TransientError)
    assert (error.kind, error.maybe_billed) == ("connection", False)


def test_a_connection_that_is_not_accepted_in_time_was_not_billed() -> None:
    with socket.socket() as deaf, socket.socket() as first:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        # The queue of one is full: the system answers no further connection.
        first.connect(deaf.getsockname())
        second = socket.socket()
        second.setblocking(False)
        second.connect_ex(deaf.getsockname())
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        started = time.monotonic()
        error = failure(TeacherConfig(backend="openai", model="m", base_url=url, connect_timeout_s=0.2, timeout_s=30))
        second.close()
    assert isinstance(error, TransientError)
    assert (error.kind, error.maybe_billed) == ("timeout", False)
    assert "within 0.2 s" in error.message
    assert time.monotonic() - started < 10


def test_a_compressed_answer_is_refused_rather_than_unpacked(loopback: LoopbackServer) -> None:
    loopback.faults = {1: Fault("status", 200, {"Content-Encoding": "gzip"}, "x")}
    assert isinstance(failure(make_config(loopback)), PermanentError)
    assert loopback.requests[0].headers["accept-encoding"] == "identity"


# how long to wait -----------------------------------------------------------------------------------


NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "2026-05-01T12:00:30Z"}, 30),
        ({"retry-after": "Fri, 01 May 2026 12:00:07 GMT"}, 7),
        ({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "2026-05-01T11:59:00Z"}, 0),
    ],
    ids=range(8),
)
def test_a_wait_is_read_in_every_documented_form(
    headers: dict[str, str], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepsynth.teachers.retry_after.time", SimpleNamespace(time=NOW.timestamp))
    assert retry_after(headers) == pytest.approx(expected)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "6m0s"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "later"},
        {"x-ratelimit-remaining-requests": "0"},
        {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-01-01T00:00:00"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": ""},
    ],
    ids=range(6),
)
def test_a_limit_that_is_not_used_up_or_makes_no_sense_asks_for_no_wait(headers: dict[str, str]) -> None:
    assert retry_after(headers) is None


# bodies of any length -------------------------------------------------------------------------------


def lines_of(server: LoopbackServer, fault: Fault) -> list[str]:
    server.list_fault = fault

    async def work(teacher: OpenAITeacher) -> list[str]:
        found: list[str] = []
        try:
            async for line in teacher.http.lines("/files/x/content"):
                found.append(line)
        except TeacherError as error:
            found.append(error.kind if error.__context__ is None else "a frame of the library")
        return found

    found: list[str] = use(make_config(server, timeout_s=5.0), work)
    return found


@pytest.mark.parametrize(
    ("body", "lines"),
    [("a\nb\r\n\nc", ["a", "b", "", "c"]), ("a\n", ["a"]), ("", []), ("\u00e9\n" * 3, ["\u00e9"] * 3)],
    ids=range(4),
)
def test_a_body_is_handed_out_line_by_line(loopback: LoopbackServer, body: str, lines: list[str]) -> None:
    assert lines_of(loopback, Fault("status", 200, body=body)) == lines


def test_many_lines_come_whole_and_in_order(loopback: LoopbackServer) -> None:
    lines = [json.dumps({"index": index, "text": "x" * (index % 977)}) for index in range(5000)]
    assert lines_of(loopback, Fault("status", 200, body="\n".join(lines))) == lines


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(Fault.status(503), "unavailable"), (Fault("flood"), "damaged"), (Fault("reset"), "connection")],
    ids=range(3),
)
def test_a_long_body_that_fails_raises_our_error(loopback: LoopbackServer, fault: Fault, kind: str) -> None:
    assert lines_of(loopback, fault)[-1] == kind
