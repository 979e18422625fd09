"""A parameter that a server names and we never send, and a server that passes over the form of an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import stepsynth
from loopback import LoopbackServer, completion
from stepsynth.config import TeacherConfig
from stepsynth.teachers.replies import Reply, refusal_error

URL = "http://127.0.0.1:9/v1"
CONFIG = TeacherConfig(backend="openai", model="m", base_url=URL)


def hint_of(error: object, status: int = 400) -> str:
    return refusal_error(Reply(status, json.dumps(error)), CONFIG, URL).hint


@pytest.mark.parametrize(
    ("error", "example"),
    [
        (
            {"error": {"message": "parameter.enable_thinking must be set to false for non-streaming calls"}},
            "teacher.options: {enable_thinking: false}",
        ),
        ({"error": {"message": "Missing required parameter: 'safety_mode'."}}, "teacher.options: {safety_mode: ...}"),
        ({"error": {"message": "wrong", "param": "reasoning_effort"}}, "teacher.options: {reasoning_effort: ...}"),
        ({"detail": [{"loc": ["body", "store_mode"], "msg": "Field required"}]}, "teacher.options: {store_mode: ...}"),
    ],
)
def test_a_parameter_that_is_not_ours_is_a_matter_of_the_options(error: object, example: str) -> None:
    assert example in hint_of(error)


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "Bad request: the parameter is invalid"}},
        {"error": {"message": "Too long", "param": "messages"}},
        {"error": {"message": "Unsupported parameter: 'max_tokens', parameter: 'other_one'"}},
        {"error": {"message": "no", "param": "messages.[0].content"}},
        {"error": {"message": "no"}},
    ],
)
def test_other_refusals_keep_their_hint(error: object) -> None:
    assert hint_of(error) == "Change teacher.model or teacher.sampling."


@pytest.mark.parametrize(
    "error",
    [
        # llama.cpp, vLLM (a prompt, a limit), OpenAI.
        {
            "error": {
                "code": 400,
                "message": "request (9031 tokens) exceeds the available context size (2048 tokens), try increasing it",
                "type": "exceed_context_size_error",
            }
        },
        {"error": {"message": "This model's maximum context length is 2048 tokens. However, ...", "param": "input_tokens"}},
        {"error": {"message": "max_tokens=9 cannot be greater than max_model_len=8.", "param": "max_tokens", "code": 400}},
        {"error": {"message": "too many", "code": "context_length_exceeded", "param": "messages"}},
    ],
)
def test_a_prompt_that_does_not_fit_says_how_to_make_room(error: object) -> None:
    hint = hint_of(error)
    assert "teacher.sampling.max_tokens" in hint
    assert "context" in hint


@pytest.mark.parametrize(("text", "state"), [("A quiet place.", "ignored"), ('{"text": "A quiet place."}', "taken")])
def test_prose_where_json_was_asked_for_is_said(
    text: str, state: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, loopback: LoopbackServer
) -> None:
    loopback.answer = lambda sent: completion(text, sent)
    teacher: dict[str, Any] = {"backend": "openai", "base_url": loopback.base_url, "model": "loopback", "timeout_s": 10.0}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"teacher": teacher}))
    found = json.loads(stepsynth(capsys, "models", "check", "--config", path, "--json").out)["findings"]["JSON"]
    assert found["state"] == state
    assert found["found"] == ("the answer was not JSON (form: by schema)" if state == "ignored" else "by schema")
