"""R1, R2, R3 over a real server and R23: minutes each, so ``-m slow``; the programs print the same figures for users."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def figures(program: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000)
    assert done.stdout, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rows", 2000, "--kills", 20, "--faults", 0.3),
        ("--rows", 60, "--rounds", 3, "--kills", 200, "--faults", 0),
    ],
    ids=["2,000 rows, 30 % faults, 20 kills", "three rounds, 200 kills"],
)
def test_r01_r02_r03_random_kills_lose_nothing_and_pay_twice_for_what_was_in_flight_only(arguments: tuple[object, ...]) -> None:
    found = figures("kills.py", *arguments, "--json")
    assert found["kills"] >= arguments[arguments.index("--kills") + 1]
    assert found["asked_again"] == 0
    assert found["most_sent_twice"] <= found["allowed_per_kill"]
    assert found["rows_lost"] == 0
    assert found["same_files"]
    assert found["findings"] == []
    if 0.3 in arguments:
        assert 0.2 < sum(found["faults"].values()) / found["requests"] < 0.4


@pytest.mark.parametrize("teacher", ["process", "server"])
def test_r23_fifty_thousand_answers_take_little_memory_and_are_known_again_at_once(teacher: str) -> None:
    found = figures("scale.py", "answers", "--answers", 50_000, "--teacher", teacher)
    assert found["failed"] == 0
    assert found["grew_mb"] < 300
    # Of the processor, so that a busy machine does not decide.
    assert found["resume_cpu_s"] < 5


def test_r23_the_journal_is_hardly_waited_for() -> None:
    found = figures("scale.py", "waiting", "--answers", 10_000)
    assert found["share"] < 0.05


def test_r23_a_million_rows_are_judged_and_exported_in_bounded_memory() -> None:
    small, large = (figures("scale.py", "rows", "--rows", rows) for rows in (100_000, 1_000_000))
    assert large["export_mb"] < 2 * small["export_mb"] + 50, "an export holds a few rows at a time, however many there are"
    assert large["judge_mb"] * 2**20 / large["rows"] < 500, "bytes for each row, on top of the row itself"
