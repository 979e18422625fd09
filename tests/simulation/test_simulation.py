"""The executor in simulated time: a thousand seeds hold every invariant, each replays, and old faults are found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from stepsynth.generation.scheduler import Scheduler

from .put_back import FAULTS
from .seeds import run_seed, run_seeds, simulated

SEEDS, PARTS = 1000, 4
# Within which a fault that is put back is found.
MOST_SEEDS = 200
# Kinds of disturbance, and how often each must occur in a part of the seeds at least.
DISTURBANCES = {
    **dict.fromkeys(("kill", "stop", "clock jump", "torn log", "display gone"), 20),
    **dict.fromkeys(("database or disk is full", "disk I/O error"), 5),
    **dict.fromkeys(("429", "429 with a wait", "500", "503", "reset", "half a body", "hang", "another form"), 10),
    **dict.fromkeys(("second stop", "submit: answer lost", "never arrives", "batch: lost by the provider", "results twice"), 1),
}


@pytest.fixture
def simulation() -> Iterator[None]:
    with simulated():
        yield


@pytest.mark.parametrize("part", range(PARTS))
def test_r01_r02_r03_r09_r21_r22_a_thousand_histories_keep_every_invariant(part: int) -> None:
    report = run_seeds(range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS), stop_at=3)
    assert not report.broken, f"replay with python -m tests.simulation --seed {min(report.broken)} --trace: {report.broken}"
    assert report.checks > 100 * report.seeds
    rare = {fault: report.faults[fault] for fault, least in DISTURBANCES.items() if report.faults[fault] < least}
    assert not rare, "some disturbances hardly occur any more"


def test_plans_are_looked_up_while_requests_are_in_flight(simulation: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waves are small here: without smaller parts the rest of a plan would never be fed to a scheduler at work."""
    fed: list[int] = []
    feed = Scheduler.feed

    def counted(self: Scheduler, items: Any) -> None:
        fed.append(len(items))
        feed(self, items)

    monkeypatch.setattr(Scheduler, "feed", counted)
    for seed in range(40):
        run_seed(seed)
    assert sum(fed) > 40


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_r21_a_seed_replays_step_by_step(simulation: None, seed: int) -> None:
    first, second = run_seed(seed), run_seed(seed)
    assert first.history == second.history
    assert first.digest() == second.digest()
    assert first.faults == second.faults


@pytest.mark.parametrize("commit", sorted(FAULTS))
def test_a_fault_of_the_history_is_found_when_it_is_put_back(simulation: None, commit: str) -> None:
    fault = FAULTS[commit]
    with fault.put_back():
        for seed in range(MOST_SEEDS):
            if (broken := run_seed(seed).broken) and re.search(fault.shows, broken):
                return
    pytest.fail(f"not found within {MOST_SEEDS} seeds: {fault.what}")
