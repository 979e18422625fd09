"""What a run is doing is told in words, and a training in two parts counts as one."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from command import stepsynth
from stepsynth.config import parse_config
from stepsynth.run import RunDirectory
from stepsynth.run.stage_titles import STUDENTS, stage_title
from stepsynth.runtime.progress import SilentProgress
from stepsynth.training.crossfit import RECIPES
from stepsynth.training.fitting import Fitter
from stepsynth.training.workers import Outcome
from stepsynth.types import Example, StageKind
from world import build_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = [Example(f"r{n}", f"text {n}", "a") for n in range(4)]
VALUES = {"task": {"name": "t", "instruction": "Decide.", "labels": ["a", "b"]}, "data": {"validation": {"path": "v.csv"}}}


def test_every_stage_and_student_of_this_package_has_a_title() -> None:
    assert set(STUDENTS) == set(RECIPES)
    alone = {StageKind.CHOICE, StageKind.TEST}
    # The first has no stage of its own in a progress, the second another name, and folds have numbers.
    for kind in set(StageKind) - alone - {StageKind.READING, StageKind.UNLABELLED, StageKind.FOLD}:
        assert stage_title(f"round-0/{kind}") != f"round 0, {kind}"
    assert all(stage_title(kind) != kind for kind in alone)


class Seen(SilentProgress):
    """Remembers what a terminal would be told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.done: list[int] = []

    def start(self, stage: str, target: int, unit: str) -> None:
        self.told.append((stage, target))
        self.done = []

    def advance(self, done: int, *, answers: int = 0, traffic: Any = None) -> None:
        self.done.append(done)


class Played:
    """Workers that report what they are told to: numbers of steps, and a part's end as ``None``."""

    apart = False

    def __init__(self, *played: int | tuple[int, int] | None) -> None:
        self._played = played

    def at_once(self) -> int:
        return 1

    def takes(self, config: Any) -> bool:
        return True

    def train(self, job: Any, out: Any, scratch: Any, told: Any) -> Outcome:
        for each in self._played:
            if each is None:
                told.fitted()
            elif isinstance(each, tuple):
                told.step(*each)
        return Outcome(None, [[]])

    def close(self) -> None:
        pass


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDirectory]:
    with closing(RunDirectory.open(tmp_path / "run", parse_config(VALUES))) as found:
        yield found


def watched(directory: RunDirectory, *played: Any, parts: int = 2) -> Seen:
    seen = Seen()
    fitter = Fitter(directory, lambda config: pytest.fail("no student is needed"), seen, Played(*played))
    fitter.aside([ROWS] * parts, [], [ROWS], "round 1, fold 1 of 3", name="fold")
    return seen


def test_two_parts_are_counted_as_one_training(directory: RunDirectory) -> None:
    steps = [(n, 50) for n in range(1, 51)]
    seen = watched(directory, *steps, None, *steps, None)
    assert seen.told == [("round 1, fold 1 of 3", 100)]
    assert seen.done == list(range(1, 101))


def test_a_longer_second_part_is_told_when_it_begins(directory: RunDirectory) -> None:
    seen = watched(directory, (1, 50), (50, 50), None, (1, 80), (80, 80), None)
    assert [target for _, target in seen.told] == [100, 130]
    assert seen.done == [51, 130]


def test_a_training_that_another_worker_repeats_is_counted_anew(directory: RunDirectory) -> None:
    seen = watched(directory, (50, 50), None, (20, 50), (1, 50), (50, 50), None, (50, 50), None)
    assert seen.told == [("round 1, fold 1 of 3", 100)]
    assert seen.done == [50, 70, 1, 50, 100]


def test_a_training_without_steps_is_one_fit(directory: RunDirectory) -> None:
    seen = watched(directory, None, parts=1)
    assert (seen.told, seen.done) == ([("round 1, fold 1 of 3", 1)], [1])


def test_a_run_tells_in_words_what_it_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = build_world(tmp_path)
    world.write_config({"method": {"name": "crossfit", "seed_rows": 12, "rounds": 1, "folds": 2}})
    said = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    told = dict.fromkeys(line.partition(":")[0] for line in said.err.splitlines())
    assert [line for line in told if line.startswith("round-") or "/" in line] == []
    order = [
        "round 0, fold 1 of 2",
        "round 0, cross-validated",
        "round 1, fold 2 of 2",
        "labels alone, fold 1 of 2",
        "labels alone, cross-validated",
        "student",
        "sealed test",
    ]
    assert [line for line in told if line in order] == order
    status = stepsynth(capsys, "status", tmp_path / "run").out
    assert "round 0, fold 1 of 2" in status
    assert "student: labels" in status
