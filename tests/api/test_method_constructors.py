"""What the constructor and the attributes of an own method say counts, or is refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from stepsynth.methods import MethodContext, Plan, create_method, register_method
from stepsynth.registry import METHODS
from world import LABELS, World, build_world

TASK = ss.Classification("invented", "Decide what kind of text this is.", {label: f"about {label}" for label in LABELS})
STUDENT: dict[str, Any] = {"epochs": 1, "min_steps": 0, "batch_size": 16, "learning_rate": 3e-3, "max_length": 32}


class Fixed(ss.S3):
    def __init__(self) -> None:
        super().__init__(rounds=1, seed_rows=9, rationales=2, rows_per_mistake=1, label_check="none", seed_from="auto")


class FixedRows(ss.Method):
    def __init__(self, rows: int = 8) -> None:
        super().__init__(seed_rows=rows, label_check="none")
        self.rows = rows

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        yield ss.PromptPlan(ctx, lambda *row: f"{row[:2]}")


class Words(FixedRows):
    def __init__(self, *words: str) -> None:
        self.words = words


class Unnamed(FixedRows):
    def __init__(self, rows: int = 8, /) -> None:
        self.rows = rows


class Looping(ss.S3):
    rounds = 1


class LoopingLater(ss.S3):
    def __init__(self) -> None:
        super().__init__()
        self.rounds = 0


class Typo(ss.Gold):
    name = "Typo"
    keys = frozenset({"typo_key"})


class Two(FixedRows):
    rounds: Any = "two"


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_given", {})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def settings(world: World) -> dict[str, Any]:
    return {
        "validation": world.folder / "validation.csv",
        "test": world.folder / "test.csv",
        "teacher": ss.Teacher(backend="fake", model="fake"),
        "student": ss.Student(str(world.folder / "student"), **STUDENT),
        "cache": None,
        "progress": False,
    }


def test_a_constructor_may_fix_settings(world: World, tmp_path: Path) -> None:
    run = ss.synthesize(TASK, method=Fixed(), out=tmp_path / "run", **settings(world))
    assert (run.config.method.rounds, run.config.method.seed_rows) == (1, 9)
    assert [entry["round"] for entry in run.scores] == [0, 1]
    assert ss.synthesize(TASK, method=Fixed(), out=tmp_path / "run", **settings(world)).scores == run.scores
    # The final student's, not the last one's: here the one that the select half chose.
    (best,) = [entry for entry in run.scores if entry["best"]]
    assert run.score == best["test"]["value"]
    assert run.verdict == ""
    changed = run.config.model_copy(update={"method": run.config.method.model_copy(update={"rounds": 2})})
    with pytest.raises(ss.ConfigError, match=r"'Fixed' sets rounds=1 in its constructor, but method\.rounds is 2\. Write"):
        create_method(changed)


def test_a_comparison_still_gives_it_the_budget(world: World, tmp_path: Path) -> None:
    loop = ss.S3(seed_rows=9, rounds=0, rationales=2, label_check="none")
    found = ss.compare(TASK, [loop, FixedRows(), FixedRows(4)], seeds=1, out=tmp_path / "all", **settings(world))
    rows = [entry["accepted_rows"] for entry in found.results["systems"]]
    assert rows[0] == rows[1] == rows[2]
    config = ss.Run.load(tmp_path / "all" / "s3-0").config
    alone = config.method.model_copy(update={"name": "FixedRows", "label_check": "none"})
    with pytest.raises(ss.ConfigError, match="'FixedRows' sets seed_rows=8 in its constructor"):
        create_method(config.model_copy(update={"method": alone}))


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Words("a", "b"), "the method 'Words' takes its argument 'words' by position"),
        (Unnamed(3), "the method 'Unnamed' takes its argument 'rows' by position"),
        (Looping(), "the method 'Looping' sets rounds = 1, which has no effect: its keys include 'rounds'"),
        (Looping(rounds=3), "which has no effect"),
        (LoopingLater(), "the method 'LoopingLater' sets rounds = 0, which has no effect"),
        (Typo(), "the method 'Typo' has an unknown key 'typo_key'"),
        (Two(), "the method 'Two' has rounds = 'two'. Give a whole number"),
    ],
)
def test_what_would_be_lost_is_refused(method: ss.Method, said: str) -> None:
    with pytest.raises(ss.ConfigError) as caught:
        register_method(method)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
