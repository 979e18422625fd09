"""A function as the teacher: what it gets and may return, its mistakes, its answers, and its runs without it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from stepsynth.config import TeacherConfig
from stepsynth.registry import TEACHERS
from stepsynth.teachers.fake import gold_text
from stepsynth.teachers.function import extra_arguments
from stepsynth.types import Response, Usage
from world import World, build_world

LABELS = ("one", "two")
ROWS = [{"text": gold_text(label, number), "label": label} for number in range(20) for label in LABELS]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other test finds these teachers."""
    monkeypatch.setattr(TEACHERS, "_given", {})


def call(world: World, out: Path, function: Any, **changes: Any) -> ss.Run:
    teacher = {key: changes.pop(key) for key in ("name", "version", "concurrency", "price") if key in changes}
    settings: dict[str, Any] = {
        "validation": ROWS,
        "teacher": ss.FunctionTeacher(function, **teacher),
        "student": ss.Student(str(world.folder / "student"), epochs=1, min_steps=0),
        "method": ss.ZeroGen(seed_rows=8),
        "cache": None,
        "progress": False,
        "out": out,
    }
    return ss.synthesize(ss.Classification("t", "Decide.", list(LABELS)), **{**settings, **changes})


class Writer:
    """Writes new texts of the label that it is asked for."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[dict[str, str]], float, int]] = []

    def __call__(self, messages: list[dict[str, str]], label: str, temperature: float, max_tokens: int) -> str:
        self.seen.append((messages, temperature, max_tokens))
        return gold_text(label, 1000 + len(self.seen))


def test_a_function_writes_the_rows(world: World, tmp_path: Path) -> None:
    writer = Writer()
    run = call(world, tmp_path / "run", writer, name="writer")
    assert len(run.rows()) == 8
    assert {row["label"] for row in run.rows()} == set(LABELS)
    messages, temperature, most = writer.seen[0]
    assert set(messages[-1]) == {"role", "content"}
    assert messages[-1]["role"] == "user"
    assert temperature > 0
    assert most > 0
    assert run.config.teacher.model == "writer"
    asked = len(writer.seen)
    assert call(world, tmp_path / "run", writer, name="writer").finished
    assert len(writer.seen) == asked, "a finished run asks nothing"


def test_its_run_is_read_where_the_function_is_not(world: World, tmp_path: Path) -> None:
    run = call(world, tmp_path / "run", Writer(), name="gone")
    code = (
        f"import stepsynth as ss; run = ss.Run.load({str(run.path)!r}); run.report(); "
        f"print(run.finished, run.verify(), run.student.predict(['a']), ss.runs({str(tmp_path)!r})[0]['state'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True [] [")
    assert done.stdout.strip().endswith("finished")
    command = [sys.executable, "-m", "stepsynth", "run", str(run.path), "--out", str(tmp_path / "new"), "--set", "seed=5"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "backend 'gone' is not known here; a script's own is known in that script only" in refused.stderr


def test_async_functions_are_awaited_together_and_others_called_by_one_thread(world: World, tmp_path: Path) -> None:
    at_once, most = [0], [0]

    async def answer(messages: Any, label: str) -> Response:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        await asyncio.sleep(0.02)
        at_once[0] -= 1
        return Response(gold_text(label, int(time.time_ns() % 10**9)), usage=Usage(10, 5))

    run = call(world, tmp_path / "async", answer, price={"input": 1, "output": 2})
    assert most[0] > 1
    tokens = run.results["methods"]["zerogen"]["tokens"]
    assert tokens["prompt"] == 10 * run.results["methods"]["zerogen"]["requests"]
    assert run.results["methods"]["zerogen"]["cost_usd"] > 0

    inside = threading.Lock()

    def alone(messages: Any, label: str) -> str:
        assert inside.acquire(blocking=False), "two threads at once"
        time.sleep(0.01)
        inside.release()
        return gold_text(label, int(time.time_ns() % 10**9))

    assert call(world, tmp_path / "alone", alone).finished


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda messages: None, "the teacher 'bad' returned None, a NoneType, not a text. Let the function return"),
        (lambda messages: Response(None), "returned a NoneType, not a Response with a text"),  # type: ignore[arg-type]
        (lambda messages: 1 / 0, "the teacher 'bad' failed: ZeroDivisionError: division by zero. Correct it;"),
        (lambda: "x", "the teacher 'bad' failed: TypeError"),
    ],
)
def test_its_mistakes_are_one_line_that_names_it(world: World, tmp_path: Path, function: Any, said: str) -> None:
    with pytest.raises(ss.TeacherError) as caught:
        call(world, tmp_path / "run", function, name="bad")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    (entry,) = ss.runs(tmp_path)
    assert entry["state"] == "failed"


def test_a_function_that_fails_now_and_then_loses_these_rows_only(world: World, tmp_path: Path) -> None:
    writer, count = Writer(), [0]

    def answer(messages: Any, label: str) -> str:
        count[0] += 1
        if count[0] == 3:
            raise KeyError("once")
        return writer(messages, label, 1.0, 9)

    run = call(world, tmp_path / "run", answer)
    assert len(run.rows()) == 8
    assert [row["dropped"] for row in run.rows(accepted=False)].count("failed") == 1


def test_its_answers_are_kept_under_name_and_version(world: World, tmp_path: Path) -> None:
    writer, cache = Writer(), tmp_path / "answers.db"
    call(world, tmp_path / "a", writer, name="w", cache=cache)
    first = len(writer.seen)
    call(world, tmp_path / "b", writer, name="w", cache=cache)
    assert len(writer.seen) == first
    call(world, tmp_path / "c", writer, name="w", version="2", cache=cache)
    assert len(writer.seen) == 2 * first
    with pytest.raises(ss.UserError, match=r"teacher\.options"):
        call(world, tmp_path / "c", writer, name="w", version="3", cache=cache)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ss.FunctionTeacher(Writer(), name="openai"), "has the name of a built-in one"),
        (lambda: ss.FunctionTeacher(lambda m: "x"), "'<lambda>' cannot be the name of a teacher. Give it one: name='mine'."),
        (lambda: ss.FunctionTeacher(3), "FunctionTeacher got 3, not a function."),  # type: ignore[arg-type]
        (lambda: ss.FunctionTeacher(Writer), "not a function"),
        (lambda: ss.FunctionTeacher(Writer(), model="x"), "FunctionTeacher has no argument 'model'."),  # type: ignore[call-arg]
        (lambda: ss.FunctionTeacher(Writer(), versoin=1), "Did you mean 'version'?"),  # type: ignore[call-arg]
    ],
)
def test_wrong_arguments_are_refused(make: Any, said: str) -> None:
    with pytest.raises(ss.ConfigError) as caught:
        make()
    assert said in str(caught.value)


def test_a_plain_function_is_refused_with_the_way_to_pass_it() -> None:
    with pytest.raises(ss.ConfigError, match=r"Write FunctionTeacher\(\.\.\.\) around a function"):
        ss.synthesize(ss.Classification("t", "Decide.", list(LABELS)), validation=ROWS, teacher=lambda messages: "x")  # type: ignore[arg-type]


def test_the_function_of_the_call_counts_though_another_has_its_name(world: World, tmp_path: Path) -> None:
    mine, other = Writer(), Writer()
    teacher = ss.FunctionTeacher(mine, name="same")
    assert repr(ss.FunctionTeacher(other, name="same")) == "FunctionTeacher('same')"
    call(world, tmp_path / "run", mine, name="same", teacher=teacher)
    assert mine.seen
    assert not other.seen


def test_what_it_is_offered() -> None:
    assert extra_arguments(lambda messages: "") == ()
    assert extra_arguments(lambda label, max_tokens: "") == ("max_tokens",), "the first is the chat, whatever its name"
    assert extra_arguments(lambda messages, **more: "") == ("temperature", "top_p", "max_tokens", "label")
    assert extra_arguments(dict.get) == ()


class Slow:
    """A plug-in whose generate is no coroutine function."""

    def generate(self, request: Any) -> Response:
        return Response("x")

    async def close(self) -> None:
        """Nothing to close."""


def test_a_plug_in_without_async_is_told_so(world: World, tmp_path: Path) -> None:
    TEACHERS.add("slow", lambda config: Slow())
    with pytest.raises(ss.TeacherError, match=r"generate\(\) of the teacher 'slow' returned a Response .* Write it as async def"):
        call(world, tmp_path / "run", Writer(), teacher=ss.Teacher(backend="slow"))


def test_a_plug_in_without_a_model_has_its_own_name() -> None:
    TEACHERS.add("slow", lambda config: Slow())
    assert TeacherConfig(backend="slow").model == "slow"
    assert TeacherConfig(backend="fake").model == "smollm2-135m"
    assert json.loads(TeacherConfig(backend="slow", model="m").model_dump_json())["model"] == "m"
