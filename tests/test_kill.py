"""A run killed at any commit or rename and started again ends as if nothing had happened."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from world import build_world

HARNESS = Path(__file__).with_name("kill_harness.py")


class Harness:
    """A process that kills runs of the world in a folder, as long as it is asked to."""

    def __init__(self, folder: Path) -> None:
        self._errors = (folder / "harness.log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, str(HARNESS), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)
        self._errors.close()

    def kill(self, point: int) -> dict[str, Any]:
        """Kill a run at a point (-1: at none), start it again, and say what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{point}\n")
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            pytest.fail(self._errors.read()[-2000:])
        found: dict[str, Any] = json.loads(line)
        return found


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    folder = tmp_path_factory.mktemp("kill")
    build_world(folder / "world").write_config({"method.label_check": "harvest"})
    with Harness(folder) as harness:
        yield harness


def kill_at(harness: Harness, points: list[int], calm: dict[str, Any]) -> None:
    """Kill a run at each of the points, start it again, and look."""
    names = calm["passed"]
    outcomes = [harness.kill(point) for point in points]
    assert sum(outcome["signal"] == 9 for outcome in outcomes) > 0.8 * len(points)
    for outcome in outcomes:
        where = f"killed at {outcome['point']}: {names[outcome['point'] - 1]}"
        # Commits are grouped by time, so a run may pass fewer of them than the one that was counted.
        assert outcome["signal"] == 9 or len(outcome["passed"]) < outcome["point"], f"{where}: not killed"
        assert outcome["asked_again"] == [], where
        assert outcome["fingerprint"] == calm["fingerprint"], where
        assert outcome["leftovers"] == [], where


@pytest.fixture(scope="module")
def calm(harness: Harness) -> dict[str, Any]:
    """What a run that nobody kills passes and leaves."""
    calm = harness.kill(-1)
    assert calm["signal"] == 0
    assert any("commit" in name for name in calm["passed"])
    assert any("rename: model" in name for name in calm["passed"])
    return calm


def one_of_each(names: list[str]) -> list[int]:
    """Return a point before each kind of write; of those that are passed often, not always the first time.

    What is on disk after one write is what is there before the next one.
    """
    places: dict[str, list[int]] = {}
    for point, name in enumerate(names, 1):
        if name.startswith("before") or point == len(names):
            places.setdefault(name, []).append(point)
    return sorted(points[turn % len(points)] for turn, points in enumerate(places.values()))


def some(names: list[str], count: int = 10) -> list[int]:
    """Return about so many of `one_of_each`, evenly spread."""
    points = one_of_each(names)
    return points[:: -(-len(points) // count)]


def test_a_run_killed_at_some_commits_and_renames_ends_byte_identical_and_asks_nothing_twice(
    harness: Harness, calm: dict[str, Any]
) -> None:
    """From the first to the last kind of write; all the others are killed at by the slow test below."""
    kill_at(harness, some(calm["passed"]), calm)


@pytest.mark.slow
def test_a_run_killed_at_every_commit_and_rename_ends_byte_identical_and_asks_nothing_twice(
    harness: Harness, calm: dict[str, Any]
) -> None:
    rest = sorted({*range(1, len(calm["passed"]) + 1)} - {*some(calm["passed"])})
    kill_at(harness, rest, calm)
