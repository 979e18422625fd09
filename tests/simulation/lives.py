"""What a process of a simulated run is like, and what happens to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepsynth.config import BudgetConfig, TeacherConfig

from .server import LIVE_FAULTS, OUTAGES
from .shapes import WORST_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .world import World

__all__ = ["RESULTS_KEPT_S", "Life", "calm_life", "rough_life", "told"]

# After this long a provider no longer has a batch's results.
RESULTS_KEPT_S = 30 * 86400.0


@dataclass
class Life:
    """What one process is like, and what happens to it.

    Attributes:
        config: the teacher's.
        identity: of the teacher, for keys.
        budget: the caps.
        concurrency: most requests in flight.
        attempts: per request.
        fault_rate: share of live requests that meet a fault.
        faults: the faults that occur.
        batch_rate: the same for calls of the batch API.
        kill_at: the step at which it is killed, if it gets there.
        stop_at: the step at which a clean stop is asked for.
        second_at: the step at which it is asked for a second time.
        screen_at: the report to the display from which on all fail.
        screen_in_pause: whether this begins with the first pause.
        disk_at: the commit from which on the disk fails.
        disk_heals: whether only that one fails.
        jump_at: the step at which the wall clock jumps, and by how much.
        addresses: how many servers of the model there are.
        outages: server, from when to when, and what requests meet there; the first server stays.
        asked_live: whether anything was sent live.
    """

    config: TeacherConfig
    identity: dict[str, object]
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    concurrency: int = 4
    attempts: int = 4
    fault_rate: float = 0.0
    faults: tuple[str, ...] = ("slow",)
    batch_rate: float = 0.0
    kill_at: int = 0
    stop_at: int = 0
    second_at: int = 0
    screen_at: int = 0
    screen_in_pause: bool = False
    disk_at: int = 0
    disk_heals: bool = False
    jump_at: int = 0
    jump_s: float = 0.0
    addresses: int = 1
    outages: tuple[tuple[int, float, float, str], ...] = ()
    asked_live: bool = False

    def outage(self, address: int, now: float) -> str:
        """Return what a request to a server meets if that has left; empty if it is there."""
        return next((fault for server, begin, end, fault in self.outages if server == address and begin <= now < end), "")


def calm_life(world: World) -> Life:
    """Return a process that nothing happens to."""
    batches = world.checks.open_jobs
    config = world.shape.teacher(concurrency=4, attempts=4, mode="batch" if batches else "live")
    return Life(config, config.identity())


def rough_life(world: World) -> Life:
    """Draw a process and what happens to it."""
    draw, shape = world.draw, world.shape
    concurrency, attempts = draw.choice((1, 2, 4, 8, 16)), draw.choice((3, 4, 6))
    batch = draw.random() < 0.2
    if world.checks.open_jobs and draw.random() < 0.85:
        batch = True
    changes: dict[str, object] = {"concurrency": concurrency, "attempts": attempts, "mode": "batch" if batch else "live"}
    if shape.alike and not batch:
        changes["rows_per_request"] = draw.choice((1, 3, 5))
    if draw.random() < 0.1:
        changes["requests_per_minute"] = draw.choice((200, 600))
    config = shape.teacher(**changes)
    some = draw.sample(sorted(LIVE_FAULTS), draw.randint(1, 6))
    if draw.random() < 0.1:
        # A rate limit, and little else.
        some = [*some[:1], "429 with a wait", "503 with a wait"]
    life = Life(
        config,
        config.identity(),
        budget=_caps(world),
        concurrency=concurrency,
        attempts=attempts,
        fault_rate=draw.choice((0.0, 0.1, 0.3, 0.6)),
        faults=tuple(some),
        batch_rate=draw.choice((0.0, 0.1, 0.3)),
    )
    if not batch and draw.random() < 0.3:
        _several(world, life)
    steps = draw.choice((15, 60, 250, 1000))
    match draw.choice(("kill", "kill", "kill", "stop", "disk", "disk", "screen", "nothing")):
        case "kill":
            life.kill_at = draw.randint(1, steps)
        case "stop":
            life.stop_at = draw.randint(1, steps)
            if draw.random() < 0.5:
                life.second_at = life.stop_at + draw.randint(1, 12)
        case "disk":
            life.disk_at, life.disk_heals = draw.randint(1, 20), draw.random() < 0.4
        case "screen" if draw.random() < 0.5:
            life.screen_at = draw.randint(1, 25)
        case "screen":
            # At the first pause, of which there is one soon.
            life.screen_in_pause = True
            life.faults, life.fault_rate = (*life.faults, "429 with a wait", "503 with a wait"), 0.3
    if draw.random() < 0.3:
        life.jump_at = draw.randint(1, steps)
        life.jump_s = draw.choice((-86400.0, -3600.0, -5.0, 5.0, 3600.0, RESULTS_KEPT_S))
    return life


def _several(world: World, life: Life) -> None:
    """Draw several servers, of which some leave and join again."""
    draw = world.draw
    life.addresses = draw.choice((2, 3))
    outages = []
    for server in range(1, life.addresses):
        for _ in range(draw.choice((0, 1, 2))):
            begin = world.now + draw.choice((0.0, draw.random() * 4))
            outages.append((server, begin, begin + draw.choice((0.5, 3.0, 30.0)), draw.choice(OUTAGES)))
    life.outages = tuple(outages)
    world.faults["server leaves"] += len(outages)


def _caps(world: World) -> BudgetConfig:
    """Draw caps, raised or lowered from what has been spent."""
    draw, server = world.draw, world.server
    kind = draw.choice(("none", "none", "requests", "tokens", "usd"))
    more = draw.choice((-10, 0, 1, 3, 10, 30))
    match kind:
        case "requests":
            return BudgetConfig(requests=max(1, server.received + more))
        case "tokens":
            return BudgetConfig(tokens=max(1, server.tokens + more * WORST_TOKENS))
        case "usd":
            return BudgetConfig(usd=max(0.001, server.usd + more * 0.1))
    return BudgetConfig()


def told(life: Life) -> str:
    """Describe a process in one line."""
    facts: Mapping[str, object] = {
        "mode": life.config.mode,
        "concurrency": life.concurrency,
        "attempts": life.attempts,
        "rows per request": life.config.rows_per_request,
        "caps": life.budget.model_dump(exclude_none=True),
        "faults": life.faults if life.fault_rate else (),
        "rate": life.fault_rate,
        "batch rate": life.batch_rate,
        "servers": life.addresses if life.addresses > 1 else 0,
        "outages": life.outages,
        **{
            name: at
            for name in ("kill_at", "stop_at", "second_at", "screen_at", "disk_at", "jump_at")
            if (at := getattr(life, name))
        },
    }
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value)
