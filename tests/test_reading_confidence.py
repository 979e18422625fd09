"""How sure the teacher is when it reads a row again: log-probabilities of servers, shares of votes, and their calibration."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from family_worlds import FamilyWorld, build_family_world, lend_student, rows_of
from loopback import LoopbackServer, completion
from stepsynth.api.run import Run
from stepsynth.errors import ConfigError
from stepsynth.execution import execute
from stepsynth.runtime.progress import SilentProgress
from stepsynth.teachers.fake import FakeTeacher
from stepsynth.teachers.reading import answer_probability
from stepsynth.types import Message, Request, Response, Sampling
from test_second_reading import run

pytestmark = pytest.mark.usefixtures("one_thread")

SURE, UNSURE = 0.97, 0.55
READ = ("method.name=seed-only", "method.second_reading=drop", "teacher.backend=openai", "teacher.model=loopback")


class Doubtful(LoopbackServer):
    """Reads every third text wrongly, and knows that it is not sure of it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(answer=self._say, labels=("kalm", "spitz"), **options)

    def _say(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["temperature"] != 0.0:
            return self._fake_answer(body)
        messages = tuple(Message(turn["role"], turn["content"]) for turn in body["messages"])
        text = FakeTeacher(blemishes={}).answer(Request(messages, Sampling(0.0), 0, "reading", 0, "")).text
        wrong = len(messages[-1].content) % 3 == 0
        answer = completion({"kalm": "spitz", "spitz": "kalm"}[text] if wrong else text, body)
        if body.get("logprobs"):
            share = math.log(UNSURE if wrong else SURE)
            tokens: list[dict[str, Any]] = [
                {"token": part, "logprob": share / 2, "bytes": None, "top_logprobs": []} for part in ("a", "b")
            ]
            answer["choices"][0]["logprobs"] = {"content": tokens}
        return answer


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lend_student(tmp_path_factory.mktemp("student") / "tiny")


@pytest.fixture
def world(student: Path, tmp_path: Path) -> FamilyWorld:
    world = build_family_world(tmp_path / "world", "classification", student=student)
    world.write_rows("validation.jsonl", rows_of("classification", 48))
    return world


@pytest.fixture
def server() -> Iterator[Doubtful]:
    server = Doubtful().start()
    yield server
    server.stop()


class Noting(SilentProgress):
    """Keeps what a user is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def by_http(
    world: FamilyWorld, server: LoopbackServer, *changes: str, folder: Path, progress: SilentProgress | None = None
) -> tuple[Run, list[dict[str, Any]]]:
    """Run with the server as teacher; return the run and the bodies of its readings."""
    before = len(server.completions)
    config = world.config(*READ, f"teacher.base_url={server.base_url}", *changes)
    execute(config, folder, progress=progress)
    bodies = [seen.json for seen in server.completions[before:]]
    return Run.load(folder), [body for body in bodies if body["temperature"] == 0.0]


def test_log_probabilities_are_asked_for_where_rows_are_read_and_make_the_doubts_probable(
    world: FamilyWorld, server: Doubtful, tmp_path: Path
) -> None:
    found, readings = by_http(world, server, "teacher.logprobs=true", folder=tmp_path / "run")
    assert readings
    assert all(body["logprobs"] is True for body in readings)
    others = [seen.json for seen in server.completions if seen.json["temperature"] != 0.0]
    assert others
    assert not [body for body in others if "logprobs" in body]
    doubted = [row for row in found.review() if row["teacher"] is not None]
    assert len(doubted) >= 5
    # It is never right when it is unsure, and says so for rows that its calibration has not seen.
    assert all(row["teacher_confidence"] < UNSURE for row in doubted)
    assert "percentages are calibrated" in (tmp_path / "run" / "report.html").read_text()


def test_a_server_that_refuses_them_is_asked_without_and_the_user_is_told(world: FamilyWorld, tmp_path: Path) -> None:
    progress = Noting()
    server = Doubtful(refuse=("logprobs",)).start()
    try:
        found, readings = by_http(
            world, server, "teacher.logprobs=true", "teacher.concurrency=1", folder=tmp_path / "run", progress=progress
        )
    finally:
        server.stop()
    notes = [words for note in progress.notes for words in re.findall("sends no log-probabilities", note)]
    assert ["logprobs" in body for body in readings].count(True) == 1
    assert {row["teacher_confidence"] for row in found.review()} == {None}
    (method,) = found.results["methods"].values()
    assert method["second_reading"]["gold"]["of"] == 48
    assert notes == ["sends no log-probabilities"]


def test_they_belong_to_no_key_and_to_no_digest(world: FamilyWorld, server: Doubtful, tmp_path: Path) -> None:
    shared = f"cache={tmp_path / 'answers.db'}"
    by_http(world, server, shared, folder=tmp_path / "plain")
    again, readings = by_http(world, server, shared, "teacher.logprobs=true", folder=tmp_path / "again")
    assert readings == []
    assert {row["teacher_confidence"] for row in again.review()} == {None}
    plain, asking = (
        world.config(*READ, "teacher.base_url=http://127.0.0.1:1/v1", f"teacher.logprobs={on}") for on in (False, True)
    )
    assert plain.result_digest() == asking.result_digest()
    assert "logprobs" not in plain.resolved()["teacher"]
    with pytest.raises(ConfigError, match="logprobs needs backend 'openai', not 'openvino'"):
        world.config("teacher.backend=openvino", "teacher.logprobs=true")


def test_the_share_of_several_readings_says_as_much(world: FamilyWorld, tmp_path: Path) -> None:
    class Wavering(FakeTeacher):
        def answer(self, request: Request) -> Response:
            answer = super().answer(request)
            if request.stage != "reading":
                return answer
            size = len(request.messages[-1].content) % 3
            turned = size == 0 and request.replicate < 2
            return replace(answer, text={"kalm": "spitz", "spitz": "kalm"}[answer.text]) if turned else answer

    config = world.config("method.name=seed-only", "method.second_reading=drop", "method.readings=3")
    run(config, tmp_path / "run", Wavering(blemishes={}))
    doubted = [row for row in Run.load(tmp_path / "run").review() if row["teacher"] is not None]
    assert len(doubted) >= 5
    assert all(row["teacher_confidence"] < 2 / 3 for row in doubted)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"logprobs": {"content": [{"logprob": math.log(0.5)}, {"logprob": math.log(0.5)}]}}, 0.25),
        ({"logprobs": {"content": [{"logprob": 0.0}]}}, 1.0),
        ({"logprobs": {"content": [{"logprob": 1e-7}]}}, 1.0),
        ({"logprobs": {"content": [{"logprob": 3.0}]}}, None),
        ({"logprobs": {"content": [{"logprob": -0.1}, {"token": "x"}]}}, None),
        ({"logprobs": {"content": [{"logprob": True}]}}, None),
        ({"logprobs": {"content": [{"logprob": math.nan}]}}, None),
        ({"logprobs": {"content": []}}, None),
        ({"logprobs": {"content": None}}, None),
        ({"logprobs": {"tokens": ["a"], "token_logprobs": [-0.1]}}, None),
        ({"logprobs": None}, None),
        ({}, None),
    ],
)
def test_the_probability_of_an_answer(choice: dict[str, Any], expected: float | None) -> None:
    raw = json.dumps({"choices": [{"message": {"content": "kalm"}, **choice}]})
    found = answer_probability(Response("kalm", raw=raw))
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("raw", ["", "logprobs", '{"logprob": 1}', '{"choices": "logprob"}', '{"choices": [3, "logprob"]}'])
def test_a_body_that_is_no_completion_has_no_probability(raw: str) -> None:
    assert answer_probability(Response("kalm", raw=raw)) is None
