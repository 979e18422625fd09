"""What an own method yields is looked at before the teacher is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from stepsynth.methods import MethodContext, Plan
from stepsynth.methods.base import REASONS
from stepsynth.methods.seed import RationalePlan
from stepsynth.registry import METHODS
from world import LABELS, World, build_world

LABEL_TEXTS = {label: f"about {label}" for label in LABELS}
TASK = ss.Classification("invented", "Decide what kind of text this is.", LABEL_TEXTS)
STUDENT: dict[str, Any] = {"epochs": 1, "min_steps": 0, "batch_size": 16, "learning_rate": 3e-3, "max_length": 32}
GOOD = dict.fromkeys(LABELS, 2)


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_given", {})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def prompted(ctx: MethodContext, wanted: Any, kind: str = "one", prompt: Callable[..., Any] | None = None) -> Plan:
    return ss.PromptPlan(ctx, prompt or (lambda *row: f"{kind} {row[:2]}"), wanted=wanted, kind=kind)


def yielding(make: Callable[[MethodContext], Sequence[Any]]) -> ss.Method:
    class Yielding(ss.Method):
        keys = ss.Method.keys | REASONS

        def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
            yield from make(ctx)

    return Yielding(label_check="none", max_overgeneration=5.0, rationales=2)


def settings(world: World) -> dict[str, Any]:
    return {
        "validation": world.folder / "validation.csv",
        "teacher": ss.Teacher(backend="fake", model="fake"),
        "student": ss.Student(str(world.folder / "student"), **STUDENT),
        "cache": None,
    }


WRONG: list[tuple[Callable[[MethodContext], Sequence[Any]], str]] = [
    (lambda ctx: [prompted(ctx, GOOD), prompted(ctx, {"kalmm": 2}, "two")], "wants rows of 'kalmm', which is not a label"),
    (
        lambda ctx: [prompted(ctx, {LABELS[0]: 3, f"{LABELS[0]}|{LABELS[1]}": 2})],
        f"'{LABELS[0]}|{LABELS[1]}', which is not a label",
    ),
    (lambda ctx: [prompted(ctx, {3: 2})], "wants rows of 3, which is not a label"),
    (lambda ctx: [prompted(ctx, GOOD), prompted(ctx, GOOD, "two", lambda *_: None)], "in round-0/two with None, not text"),
    (lambda ctx: [prompted(ctx, GOOD, "two", lambda *_: b"write")], "with b'write', not text"),
    (lambda ctx: [prompted(ctx, GOOD), None, prompted(ctx, GOOD, "two")], "yielded None in round 0, which is not a plan"),
    (lambda ctx: [prompted(ctx, GOOD), prompted(ctx, GOOD, "two", lambda *_: 1 / 0)], "failed in round 0: ZeroDivisionError"),
    (lambda ctx: [prompted(ctx, dict.fromkeys(LABELS, 0))], "asks for no rows in round 0"),
    (lambda ctx: [], "asks for no rows in round 0"),
    (lambda ctx: [RationalePlan(ctx)], "asks for no rows in round 0"),
]


@pytest.mark.parametrize(("make", "said"), WRONG)
def test_a_wrong_plan_of_round_0_is_one_line_before_anything_is_spent(
    make: Callable[[MethodContext], Sequence[Any]], said: str, world: World, tmp_path: Path
) -> None:
    for call in (ss.synthesize, ss.plan):
        with pytest.raises(ss.RunError) as caught:
            call(TASK, method=yielding(make), out=tmp_path / "run", progress=False, **settings(world))
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    run = ss.Run.load(tmp_path / "run")
    assert not run.finished
    assert not list(run.rows())


def test_code_that_needs_reasons_that_really_came_goes_on(world: World, tmp_path: Path) -> None:
    class Reading(ss.Method):
        keys = ss.Method.keys | REASONS

        def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
            yield RationalePlan(ctx)
            if any(reason == f"{label} 0" for label, reasons in ctx.rationales().items() for reason in reasons):
                raise KeyError("made up")
            yield prompted(ctx, GOOD)

    method = Reading(label_check="none", max_overgeneration=5.0, rationales=2)
    run = ss.synthesize(TASK, method=method, out=tmp_path / "run", progress=False, **settings(world))
    assert {row["kind"] for row in run.rows()} == {"one"}


def test_combinations_are_labels_where_the_family_has_several(world: World, tmp_path: Path) -> None:
    task = ss.MultiLabel("several", "Say what this is about.", LABEL_TEXTS)
    pair = f"{LABELS[0]}|{LABELS[1]}"
    given = {**settings(world), "validation": ss.Source(world.folder / "validation.csv", columns={"labels": "label"})}
    found = ss.plan(task, method=yielding(lambda ctx: [prompted(ctx, {LABELS[0]: 2, pair: 1})]), out=tmp_path / "run", **given)
    assert set(found["labels"]) == {LABELS[0], pair}
    with pytest.raises(ss.RunError, match="which is not a label"):
        ss.plan(task, method=yielding(lambda ctx: [prompted(ctx, {f"{LABELS[0]}|no": 1})]), out=tmp_path, **given)
