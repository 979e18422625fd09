"""A run killed at any commit or rename and started again ends as if nothing had happened."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from world import build_world

HARNESS = Path(__file__).with_name("kill_harness.py")


def harness(folder: Path, points: list[int]) -> list[dict[str, Any]]:
    command = [sys.executable, str(HARNESS), str(folder), *map(str, points)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    build_world(folder / "world").write_config({"method.label_check": "harvest"})
    return folder


def kill_at(folder: Path, points: list[int], calm: dict[str, Any]) -> None:
    """Kill a run at each of the points, start it again, and look."""
    names = calm["passed"]
    with ThreadPoolExecutor(2) as pool:
        outcomes = [o for part in pool.map(lambda half: harness(folder, half), (points[::2], points[1::2])) for o in part]
    assert len(outcomes) == len(points)
    assert sum(outcome["signal"] == 9 for outcome in outcomes) > 0.8 * len(points)
    for outcome in outcomes:
        where = f"killed at {outcome['point']}: {names[outcome['point'] - 1]}"
        # Commits are grouped by time, so a run may pass fewer of them than the one that was counted.
        assert outcome["signal"] == 9 or len(outcome["passed"]) < outcome["point"], f"{where}: not killed"
        assert outcome["asked_again"] == [], where
        assert outcome["fingerprint"] == calm["fingerprint"], where
        assert outcome["leftovers"] == [], where


@pytest.fixture(scope="module")
def calm(folder: Path) -> dict[str, Any]:
    """What a run that nobody kills passes and leaves."""
    (calm,) = harness(folder, [-1])
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


def test_a_run_killed_at_each_kind_of_commit_and_rename_ends_byte_identical_and_asks_nothing_twice(
    folder: Path, calm: dict[str, Any]
) -> None:
    kill_at(folder, one_of_each(calm["passed"]), calm)


@pytest.mark.slow
def test_a_run_killed_at_every_commit_and_rename_ends_byte_identical_and_asks_nothing_twice(
    folder: Path, calm: dict[str, Any]
) -> None:
    rest = sorted({*range(1, len(calm["passed"]) + 1)} - {*one_of_each(calm["passed"])})
    kill_at(folder, rest, calm)
