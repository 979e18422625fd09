"""Two classes of one name in one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from stepsynth.methods import MethodContext, Plan, register_method
from stepsynth.registry import METHODS, Registry
from world import LABELS, World, build_world

TASK = ss.Classification("invented", "Decide what kind of text this is.", {label: f"about {label}" for label in LABELS})


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_given", {})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def twin() -> type[Any]:
    class Twin(ss.Method):
        name = "twin"
        student = "gold"

        def __init__(self, x: int = 1, **settings: Any) -> None:
            super().__init__(**settings)
            self.x = x

        def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
            yield from ()

    return Twin


@pytest.mark.parametrize("second", [1, 2])
def test_a_comparison_of_both_is_refused(second: int, world: World, tmp_path: Path) -> None:
    with pytest.raises(ss.ConfigError, match="two different method classes have the name 'twin'"):
        ss.compare(
            TASK,
            [twin()(x=1), twin()(x=second)],
            validation=world.folder / "validation.csv",
            test=world.folder / "test.csv",
            teacher=ss.Teacher(backend="fake", model="fake"),
            out=tmp_path / "both",
            progress=False,
        )
    assert not (tmp_path / "both").exists()


def test_while_a_run_goes_on_its_classes_stay(world: World, tmp_path: Path) -> None:
    first, other = twin(), twin()
    said: list[str] = []

    class Meanwhile(first):  # type: ignore[misc, valid-type]
        name = "twin"

        def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
            register_method(Meanwhile())
            for registry, cls in ((METHODS, other), (METHODS, first)):
                with pytest.raises(ss.ConfigError, match="a run in progress uses another method 'twin'") as caught:
                    registry.add("twin", cls)
                said.append(str(caught.value))
            yield from ()

    student = ss.Student(str(world.folder / "student"), epochs=1, min_steps=0, batch_size=16, max_length=32)
    ss.synthesize(
        TASK,
        method=Meanwhile(),
        validation=world.folder / "validation.csv",
        student=student,
        teacher=ss.Teacher(backend="fake", model="fake"),
        out=tmp_path / "run",
        cache=None,
        progress=False,
    )
    assert said
    register_method(other())
    assert METHODS.load("twin") is other, "a cell of a notebook may define it anew"


def test_every_registry_keeps_what_is_used() -> None:
    shapes = Registry("shape", "example.shapes", {"circle": "fractions:Fraction"})
    shapes.add("square", int)
    with shapes.held("square"), shapes.held("square"):
        shapes.add("square", int)
        shapes.add("line", float)
        with pytest.raises(ss.ConfigError, match="a run in progress uses another shape 'square'"):
            shapes.add("square", float)
    shapes.add("square", float)
    assert shapes.load("square") is float
