"""Bodies of a 200 that are no plain completion: refusals to learn from, event streams, and gateways with codes of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from loopback import Fault, LoopbackServer, completion
from openai_client import make_config, use
from stepsynth.errors import PermanentError, TeacherError, TransientError
from stepsynth.teachers import answer_of
from stepsynth.teachers.anthropic import read_message
from stepsynth.teachers.completions import read_completion
from stepsynth.testing import make_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepsynth.config import TeacherConfig
    from stepsynth.types import Response


def ask(config: TeacherConfig, times: int = 1, **sampling: Any) -> list[Response]:
    async def work(teacher: Any) -> list[Response]:
        return [await answer_of(teacher, make_request(replicate=i, **sampling)) for i in range(times)]

    found: list[Response] = use(config, work)
    return found


# refusals ------------------------------------------------------------------------------------------


def behind_a_gateway(said: str, _: str) -> dict[str, Any]:
    raw = json.dumps({"error": {"message": f"Unknown parameter: {said}"}})
    return {"message": "Provider returned error", "metadata": {"raw": raw}}


@pytest.mark.parametrize("name", ["seed", "temperature", "max_tokens"])
@pytest.mark.parametrize(
    "error",
    [
        lambda said, _: {"code": 400, "message": f"Unsupported parameter: {said}"},
        lambda said, name: {"code": "unsupported_parameter", "param": name, "message": f"Not taken, unsupported: {said}"},
        lambda said, _: {"message": f"This model does not support the parameter {said}"},
        behind_a_gateway,
    ],
    ids=["number", "code", "words", "behind-a-gateway"],
)
def test_a_parameter_refused_inside_a_200_is_left_out_from_then_on(
    loopback: LoopbackServer, name: str, error: Callable[[str, str], dict[str, Any]]
) -> None:
    more = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
    body = {"error": error(f"{name}.{more}", name)}
    loopback.answer = lambda sent: body if name in loopback.completions[-1].json else completion("A quiet place.", sent)
    assert [answer.text for answer in ask(make_config(loopback), times=2)] == ["A quiet place."] * 2
    assert [name in seen.json for seen in loopback.completions] == [True, False, False]


def test_what_the_user_set_and_a_200_refuses_names_the_setting(loopback: LoopbackServer) -> None:
    loopback.answer = lambda _: {"error": {"code": "unsupported_value", "message": "temperature: only the default is supported"}}
    with pytest.raises(PermanentError) as caught:
        ask(make_config(loopback, sampling={"temperature": 0.5}), temperature=0.5)
    assert "teacher.sampling.temperature: 1.0" in caught.value.hint


# event streams -------------------------------------------------------------------------------------


def event(**choice: Any) -> str:
    return "data: " + json.dumps({"id": "x", "choices": [{"index": 0, **choice}]}) + "\n\n"


USAGE = "data: " + json.dumps({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}) + "\n\n"
STREAM = (
    event(delta={"role": "assistant", "content": "A quiet "}) + event(delta={"content": "place."}) + event(finish_reason="stop")
)


@pytest.mark.parametrize(
    "raw",
    [
        STREAM + USAGE + "data: [DONE]\n\n",
        ": keep-alive\n\nevent: message\n" + STREAM.replace("\n", "\r\n") + USAGE,
        event(message={"content": "A quiet place."}, finish_reason="stop") + USAGE + "data: [DONE]",
        STREAM.replace("data: ", "data:") + USAGE,
    ],
)
def test_an_event_stream_is_put_together(loopback: LoopbackServer, raw: str) -> None:
    loopback.faults = {1: Fault("status", 200, {"Content-Type": "text/event-stream"}, raw)}
    (answer,) = ask(make_config(loopback))
    assert (answer.text, answer.finish_reason) == ("A quiet place.", "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)
    assert json.loads(answer.raw)["choices"][0]["message"]["content"] == "A quiet place."


def test_thoughts_choices_and_cuts_of_a_stream_are_kept() -> None:
    raw = event(delta={"reasoning_content": "Hm. "}) + event(delta={"reasoning_content": "So."}) + event(delta={"content": "A"})
    (answer,) = read_completion(raw + event(finish_reason="length"))
    assert (answer.text, answer.finish_reason) == ("A", "length")
    assert json.loads(answer.raw)["choices"][0]["message"]["reasoning_content"] == "Hm. So."
    two = event(delta={"content": "one"}, finish_reason="stop") + event(index=1, delta={"content": "two"}, finish_reason="stop")
    assert [answer.text for answer in read_completion(two, 2)] == ["one", "two"]


def parts(*texts: str, kind: str = "text") -> list[dict[str, str]]:
    return [{"type": kind, "text": text} for text in texts]


@pytest.mark.parametrize(
    "events",
    [
        [{"delta": {"content": parts("A quiet ")}}, {"delta": {"content": parts("place", ".")}}],
        [
            {"delta": {"content": parts("Hm.", kind="thinking")}},
            {"delta": {"content": "A quiet "}},
            {"delta": {"content": "place."}},
        ],
        [{"delta": {"content": "A quiet "}}, {"delta": {"content": parts("place.")[0]}}],
        [{"message": {"content": [], "refusal": None}}, {"text": "A quiet place."}],
        [{"delta": {"content": None}}, {"text": "A quiet "}, {"delta": {"content": ["place."]}}],
        [{"index": ["odd"], "delta": {"content": "A quiet "}}, {"index": ["odd"], "delta": {"content": "place."}}],
    ],
    ids=["parts", "thought and text", "text and part", "empty list and text", "text and list", "odd index"],
)
def test_a_stream_of_parts_is_put_together_whole(events: list[dict[str, Any]]) -> None:
    raw = "".join(event(**{"finish_reason": "stop" if one is events[-1] else None, **one}) for one in events)
    assert [answer.text for answer in read_completion(raw)] == ["A quiet place."]


def test_a_stop_after_a_failure_or_a_cut_does_not_undo_it() -> None:
    """A gateway that tries again in the same stream gives the second answer the first one's place."""
    again = event(delta={"content": "Half an an"}, finish_reason="error") + event(
        delta={"content": "A place."}, finish_reason="stop"
    )
    with pytest.raises(TransientError, match="error"):
        read_completion(again)
    cut = event(delta={"content": "A"}, finish_reason="length") + event(finish_reason="stop")
    assert read_completion(cut)[0].finish_reason == "length"


@pytest.mark.parametrize("raw", [STREAM.split("data:")[0] + event(delta={"content": "A qui"}), ": ping\n\n", 'data: {"cho'])
def test_a_stream_that_broke_off_is_no_answer_and_says_what_it_was(raw: str) -> None:
    with pytest.raises(TransientError, match="event stream that was not asked for and is incomplete"):
        read_completion(raw)


def test_an_error_in_a_stream_is_that_error() -> None:
    raw = event(delta={"content": "A"}) + 'data: {"error": {"message": "Insufficient Balance"}}\n\ndata: [DONE]\n'
    with pytest.raises(PermanentError, match="402: 'Insufficient Balance'"):
        read_completion(raw)


# codes of their own --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"code": 1001, "msg": "model is busy"}, "code 1001: model is busy"),
        ({"code": "E42", "message": "no route", "data": None}, "code E42: no route"),
        ({"success": False, "message": "try later"}, "success is false: try later"),
        ({"success": False, "code": 500}, "code 500"),
        ({"errcode": 7, "errmsg": "x", "choices": []}, "code 7"),
    ],
)
def test_a_gateway_s_own_code_is_named(body: dict[str, Any], said: str) -> None:
    with pytest.raises(TeacherError) as caught:
        read_completion(json.dumps(body))
    assert said in caught.value.message
    assert isinstance(caught.value, TransientError)


def test_its_words_say_what_it_is_about() -> None:
    with pytest.raises(PermanentError, match="402"):
        read_completion(json.dumps({"code": 1001, "msg": "Insufficient balance"}))
    with pytest.raises(TeacherError, match="code 1001"):
        read_message(json.dumps({"code": 1001, "msg": "busy"}))


@pytest.mark.parametrize("extra", [{"code": 0}, {"code": 200, "success": True}, {"code": 1001}, {"success": False}])
def test_an_answer_beside_a_code_is_an_answer(extra: dict[str, Any]) -> None:
    choices = [{"index": 0, "message": {"content": "A quiet place."}, "finish_reason": "stop"}]
    assert read_completion(json.dumps({**extra, "choices": choices}))[0].text == "A quiet place."
