"""The class of an own method changed between two calls of one run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from stepsynth.methods import MethodContext, Plan
from stepsynth.methods.base import Trains
from stepsynth.registry import METHODS
from stepsynth.training import Halves
from world import LABELS, World, build_world

STUDENT: dict[str, Any] = {"epochs": 1, "min_steps": 0, "batch_size": 16, "learning_rate": 3e-3, "max_length": 32}
TASK = ss.Classification("invented", "Decide what kind of text this is.", {label: f"about {label}" for label in LABELS})


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_given", {})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def turning(*kinds: str, trains: Trains = "written", more: int = 0) -> ss.Method:
    """Return a method whose rounds have stages of these kinds."""

    class Turning(ss.Method):
        student = trains
        rounds = more

        def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
            wanted = dict.fromkeys(LABELS, 3)
            for kind in kinds:
                yield ss.PromptPlan(
                    ctx, lambda *row, kind=kind: f"{kind} {row[:2]}", wanted=wanted, kind=kind, round_number=round_number
                )

    return Turning(label_check="none", max_overgeneration=5.0)


def call(world: World, out: Path, method: ss.Method) -> ss.Run:
    own: dict[str, Any] = {"teacher": ss.Teacher(backend="fake", model="fake"), "cache": None, "progress": False}
    student = ss.Student(str(world.folder / "student"), **STUDENT)
    return ss.synthesize(TASK, method=method, out=out, validation=world.folder / "validation.csv", student=student, **own)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({}, {}),
        ({"trains": "both"}, {"trains": "both", "more": 2}),
        ({"more": 1}, {}),
    ],
)
def test_a_finished_run_asks_nothing(first: dict[str, Any], then: dict[str, Any], world: World, tmp_path: Path) -> None:
    run = call(world, tmp_path / "run", turning("one", **first))
    rows, scores, stages = list(run.rows()), run.scores, sorted(path.name for path in (run.path / "models").iterdir())
    for kinds in (("two",), ("one", "two"), ()):
        again = call(world, tmp_path / "run", turning(*kinds, **then))
        assert list(again.rows()) == rows
        assert again.scores == scores
        assert sorted(path.name for path in (run.path / "models").iterdir()) == stages
    assert run.verify() == []
    shutil.rmtree(run.path / "models" / "round-0")
    call(world, tmp_path / "run", turning("two", **then))
    assert sorted(path.name for path in (run.path / "models").iterdir()) == stages, "what is missing is trained again"


def test_a_new_stage_of_a_trained_round_is_refused(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as stopped:
        stopped.setattr(Halves, "settle", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call(world, tmp_path / "run", turning("one"))
    with pytest.raises(ss.RunError, match=r"'Turning' now yields the stage 'round-0/two', but round 0's student") as caught:
        call(world, tmp_path / "run", turning("one", "two"))
    assert "\n" not in str(caught.value)
    assert {row["kind"] for row in call(world, tmp_path / "run", turning("one")).rows()} == {"one"}
