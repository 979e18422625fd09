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


def test_a_run_killed_at_every_commit_and_rename_ends_byte_identical_and_asks_nothing_twice(folder: Path) -> None:
    (calm,) = harness(folder, [-1])
    assert calm["signal"] == 0
    names = calm["passed"]
    assert any("commit" in name for name in names)
    assert any("rename: model" in name for name in names)
    points = list(range(1, len(names) + 1))
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
