"""Runs seeds: production code is pointed at the present world's clock, thread, disk and names, and nothing else of it changes."""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
import time
import types
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from stepsynth.journal import Journal

from .checks import Broken
from .clock import Policy, Pool
from .world import World, undisturbed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Report", "run_seed", "run_seeds", "simulated"]

_worlds: list[World] = []
_MEMORY = Path("/dev/shm")
_COLLECT_EVERY = 10
_EMPTY = "empty.db"
_folders = 0
_root: Path | None = None


@contextmanager
def present(world: World) -> Iterator[None]:
    """Let production code live in a world."""
    _worlds.append(world)
    try:
        yield
    finally:
        _worlds.pop()


@contextmanager
def alone() -> Iterator[Path]:
    """Yield an empty folder, in memory where the system has such a place."""
    global _folders
    assert _root is not None, "only within simulated()"
    _folders += 1
    folder = _root / str(_folders)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _world() -> World:
    return _worlds[-1]


def _name(count: int, created: float) -> str:
    """Draw a batch's name, as the production function does, from the world's chance."""
    return f"{int(created):08x}{count:05x}{_world().draw.getrandbits(40):010x}"


@contextmanager
def simulated() -> Iterator[None]:
    """Point production code at the present world, for any number of seeds."""
    global _root
    place = _MEMORY if _MEMORY.is_dir() else None
    policy = asyncio.get_event_loop_policy()
    clock = types.SimpleNamespace(monotonic=lambda: _world().now, time=lambda: _world().now + _world().wall)
    with ExitStack() as stack:
        _root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simulation-", dir=place)))
        Journal(_root / _EMPTY).close()
        for name, value in {
            "generation.live.ThreadPoolExecutor": lambda *_: Pool(_world()),
            "generation.oversampling.time": clock,
            "generation.preview.time": clock,
            "generation.batch.draw_name": _name,
            # Waves are small here; so that plans are looked up while their first requests are in flight, these are smaller.
            "generation.client._LOOKED_UP_AT_ONCE": 2,
            "generation.live._FED_AT_ONCE": 3,
            "generation.live._PLANNED_AT_ONCE": 1,
            # Only how often a pause looks for a stop: most turns of a batch's run would be nothing else.
            "generation.batch._LOOK_FOR_STOP_S": 2.0,
            "generation.batch.fail_point": lambda name: _world().fail_point(name),
            "journal.database.fail_point": lambda name: _world().fail_point(name),
        }.items():
            stack.enter_context(patch(f"stepsynth.{name}", value))
        stack.callback(asyncio.set_event_loop_policy, policy)
        asyncio.set_event_loop_policy(Policy(_world))
        if gc.isenabled():
            # A world is small, and looking for its cycles again and again takes a fifth of the time.
            gc.disable()
            stack.callback(gc.enable)
        yield
    _root = None


def run_seed(seed: int) -> World:
    """Run one seed and return its world; only within `simulated`."""
    assert _root is not None, "only within simulated()"
    if seed % _COLLECT_EVERY == 0:
        gc.collect(0)
    with alone() as root:
        world = World(seed, root, empty=_root / _EMPTY)
        try:
            undisturbed(world.shape.number)
        except Broken as broken:
            # Not even a run without any disturbance keeps the invariants.
            world.broken = str(broken)
            return world
        with present(world):
            return world.run()


@dataclass
class Report:
    """What a number of seeds came to.

    Attributes:
        seeds: how many.
        steps: steps of all processes.
        checks: how often an invariant was checked.
        simulated_s: simulated time.
        seconds: real time.
        faults: how often each fault occurred.
        broken: seed -> what broke.
    """

    seeds: int = 0
    steps: int = 0
    checks: int = 0
    simulated_s: float = 0.0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    broken: dict[int, str] = field(default_factory=dict)

    def add(self, world: World) -> None:
        """Count a world."""
        self.seeds += 1
        self.steps += world.steps
        self.checks += world.checks.made
        self.simulated_s += world.now
        self.faults.update(world.faults)
        if world.broken:
            self.broken[world.seed] = world.broken

    def __iadd__(self, other: Report) -> Report:
        self.seeds += other.seeds
        self.steps += other.steps
        self.checks += other.checks
        self.simulated_s += other.simulated_s
        self.faults.update(other.faults)
        self.broken.update(other.broken)
        return self


def run_seeds(seeds: Iterable[int], *, stop_at: int = 0) -> Report:
    """Run seeds one after the other.

    Args:
        seeds: which.
        stop_at: end after this many broken ones; 0 for never.
    """
    report, began = Report(), time.perf_counter()
    with simulated():
        for seed in seeds:
            report.add(run_seed(seed))
            if stop_at and len(report.broken) >= stop_at:
                break
    report.seconds = time.perf_counter() - began
    return report
