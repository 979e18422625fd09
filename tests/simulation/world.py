"""One seed: a run, its provider and all that happens to them, process after process, until the rows are there."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import sqlite3
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from stepsynth.config import BudgetConfig, TeacherConfig
from stepsynth.errors import BudgetError, Interrupted, PermanentError, RunError, StepsynthError, TransientError
from stepsynth.generation import StageGenerator, TeacherClient
from stepsynth.journal import Journal
from stepsynth.runtime import shutdown
from stepsynth.runtime.progress import SilentProgress
from stepsynth.teachers.endpoints import EndpointsTeacher

from .checks import Broken, Checks, rows_of
from .clock import Killed
from .server import LIVE_FAULTS, OUTAGES, BatchTeacher, GroupTeacher, HeldJob, LiveTeacher, Server
from .shapes import SHAPES, WORST_TOKENS, Shape, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepsynth.errors import TeacherError
    from stepsynth.runtime.progress import Pause, RequestStats
    from stepsynth.types import Request, Response

__all__ = ["Life", "World", "undisturbed"]

_MOST_LIVES = 6
_LAST_LIVES = 4
_MOST_TURNS = 30_000
# With nothing in flight, no wait and no commit, something must happen within this time.
_PATIENCE_S = 2.0
_WALL = 1_700_000_000.0
_RESULTS_KEPT_S = 30 * 86400.0
_BY_A_TASK = frozenset({"sends", "answers", "report"})
_DISK = ("database or disk is full", "disk I/O error")


class ScreenError(OSError):
    """The display that a run reports to is gone."""


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


class World:
    """A run that is disturbed.

    Args:
        seed: decides everything.
        root: an empty folder for its files.
        shape: what it asks for; drawn by default.
        empty: a journal without rows to begin with at most times, since making one takes as long as all else.

    Attributes:
        draw: the only source of chance.
        now: simulated seconds; they pass in waits only.
        wall: what the wall clock is ahead of `now`.
        broken: the invariant that does not hold; empty if all do.
        history: what happened, with the time.
        faults: how often each fault occurred.
        steps: steps so far, over all processes.
    """

    def __init__(self, seed: int, root: Path, shape: Shape | None = None, empty: Path | None = None) -> None:
        self.seed = seed
        self.draw = random.Random(seed)
        self.shape = shape or shape_of(self.draw.randrange(SHAPES))
        self.now = 0.0
        self.wall = _WALL
        self.broken = ""
        self.history: list[tuple[float, str]] = []
        self.faults: Counter[str] = Counter()
        self.steps = self.turns = 0
        self.server, self.checks = Server(self), Checks(self)
        self.nameless = self.draw.random() < 0.3
        self.dead = self.stopping = False
        self.writing = 0
        self.life = Life(self.shape.teacher(), {})
        self._root = root
        self._folder = root / "0"
        self._folder.mkdir()
        if empty is not None and self.draw.random() < 0.9:
            shutil.copyfile(empty, self._folder / "journal.db")
        self._lives = 0
        self._life_steps = self._reports = self._commits = self.cut_off = 0
        self._sleeping = 0
        self._idle_since = 0.0
        self.unwinding = self._disk_failed = False
        self._stop = Event()

    # what happens ----------------------------------------------------------------------

    def log(self, what: str) -> None:
        """Add to the history."""
        self.history.append((self.now, what))

    def digest(self) -> str:
        """Return a digest of the history."""
        return hashlib.sha256(repr(self.history).encode()).hexdigest()[:16]

    def step(self, what: str) -> None:
        """A step of the process: here it may be killed, stopped, or find its clock changed."""
        if self.dead or self.broken:
            raise Killed
        self.steps += 1
        self._life_steps += 1
        life, at = self.life, self._life_steps
        if at == life.kill_at:
            self.faults["kill"] += 1
            self.die(what)
        if at == life.jump_at:
            self.faults["clock jump"] += 1
            self.wall += life.jump_s
            self.log(f"the wall clock jumps by {life.jump_s:g} s")
        if at == life.stop_at:
            self.faults["stop"] += 1
            self.log("a stop is asked for")
            self._stop.set()
            # Noticed at the next turn of the loop, after what is being done now.
        if life.second_at and at >= life.second_at and self._stop.is_set() and what in _BY_A_TASK and not self.cut_off:
            # In a step of a task: an interrupt beside one, when the loop is about to stop, is asyncio's own affair.
            self.faults["second stop"] += 1
            self.log("a stop is asked for again")
            # What was in flight then, or on its way into flight, may have been sent.
            self.cut_off = self.life.concurrency
            raise KeyboardInterrupt

    def die(self, where: str) -> None:
        """Be killed: the files stay as they are at this instant, with half a record at the end of the log at times."""
        self.log(f"killed: {where}")
        after = self._root / str(self._lives + 1)
        after.mkdir()
        for name in ("journal.db", "journal.db-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(self._folder / name, after / name)
        if self.draw.random() < 0.3:
            log = after / "journal.db-wal"
            if log.exists():
                self.faults["torn log"] += 1
                with log.open("ab") as file:
                    file.write(self.draw.randbytes(self.draw.randint(1, 5000)))
        self.dead = True
        raise Killed

    def turn(self) -> None:
        """A turn of the event loop."""
        self.turns += 1
        if self.dead or self.broken:
            if not self.unwinding:
                self.unwinding = True
                raise Killed
            return
        self.checks.that(self.turns < _MOST_TURNS, "it goes on and on")
        # What was asked for in the turn before is known by now.
        self.stopping = self._stop.is_set()
        self.step("turn")

    def wait(self, timeout: float | None) -> None:
        """Nothing can be done before the next timer: its time comes."""
        if self.dead or self.broken:
            self.now += timeout or 0.0
            return
        if timeout is None:
            self.checks.fail("deadlock: nothing is waited for, and it has not ended")
        self.now += timeout
        if timeout:
            self.checks.waited()
        if self._sleeping or self.writing:
            self._idle_since = self.now
        self.checks.that(self.now - self._idle_since < _PATIENCE_S, "deadlock: nothing is in flight, and nothing is sent")

    async def sleep(self, seconds: float) -> None:
        """Let time pass for one task."""
        self._sleeping += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._sleeping -= 1

    def latency(self) -> float:
        """Draw how long an exchange takes."""
        return self.draw.expovariate(3.0) + 0.01

    def stall(self) -> float:
        """Draw how long a write takes to begin or to be noticed."""
        chance = self.draw.random()
        return 0.0 if chance < 0.5 else self.draw.random() * (0.05 if chance < 0.95 else 2.0)

    def wrote(self) -> None:
        """A write beside the loop has ended."""
        self.writing -= 1
        self.checks.commit_ended()

    def fail_point(self, name: str) -> None:
        """Either side of a commit, or of a submission: production code passes here."""
        self.step(name)
        if name.startswith("before commit"):
            self._commits += 1
            life = self.life
            if life.disk_at and (self._commits == life.disk_at or (self._commits > life.disk_at and not life.disk_heals)):
                said = _DISK[self._lives % 2]
                self.faults[said] += 1
                self._disk_failed = True
                self.log(f"{name}: {said}")
                raise sqlite3.OperationalError(said)
        elif name.startswith("after commit"):
            self.log(name)
            self.checks.wrote(name.removeprefix("after commit: "))

    def report(self, *, pause: bool = False) -> None:
        """The run tells its display something."""
        self.step("report")
        self._reports += 1
        if pause and self.life.screen_in_pause:
            self.life.screen_at = self.life.screen_at or self._reports
        # Like a pipe whose reader has ended: it stays so.
        if self.life.screen_at and self._reports >= self.life.screen_at:
            self.faults["display gone"] += 1
            self.log("the display is gone")
            raise ScreenError("the display is gone")

    # batches ---------------------------------------------------------------------------

    def batch_fault(self, *kinds: str) -> str:
        """Draw a fault of the batch API."""
        if self.draw.random() >= self.life.batch_rate:
            return ""
        fault = self.draw.choice(kinds)
        self.faults[fault] += 1
        return fault

    def accept(self, name: str, keys: Sequence[str]) -> HeldJob:
        """Take a batch: draw when it can be found, when it ends and what becomes of its requests."""
        draw, server, rough = self.draw, self.server, self.life.batch_rate > 0
        job = HeldJob(
            id=f"job-{len(server.jobs)}",
            name=name,
            keys=tuple(keys),
            listed_at=self.now + (draw.choice((0.0, 5.0, 30.0)) if rough else 0.0),
            ends_at=self.now + draw.choice((0.5, 10.0, 60.0)),
            failed=rough and draw.random() < 0.05,
        )
        for key in keys:
            chance = draw.random() if rough else 1.0
            if self.shape.refused(key):
                job.outcomes[key] = PermanentError("refused", kind="refused")
            elif chance < 0.05 and not self._spoilt[key]:
                self._spoilt[key] += 1
                self.faults["batch: request failed"] += 1
                job.outcomes[key] = TransientError("the provider failed", kind="unavailable")
            elif chance < 0.1 and not self._spoilt[key]:
                self._spoilt[key] += 1
                self.faults["batch: request expired"] += 1
            else:
                job.outcomes[key] = self.shape.answer(key)
        if job.failed:
            self.faults["batch: refused later"] += 1
        elif rough and draw.random() < 0.06:
            self.faults["batch: lost by the provider"] += 1
            job.gone = True
        self.checks.sends(keys, job=name)
        server.jobs[job.id] = job
        server.received += job.running
        if job.running:
            server.bill([outcome for outcome in job.outcomes.values() if not isinstance(outcome, Exception)])
        self.checks.caps()
        return job

    # processes -------------------------------------------------------------------------

    def run(self) -> World:
        """Disturb the run, then let it end, and compare its rows; `broken` says what does not hold."""
        try:
            for _ in range(self.draw.randint(0, _MOST_LIVES)):
                if self.draw.random() < 0.3:
                    self.now += self.draw.choice((5.0, 600.0, 86400.0))
                if self._process(self._rough_life()):
                    break
            else:
                self._let_end()
            self.checks.same_rows(self._folder / "journal.db", undisturbed(self.shape.number))
        except Broken:
            pass
        finally:
            self.checks.close()
        return self

    def _let_end(self) -> None:
        """Run without faults and caps until it has ended; a batch that the provider lost is given up after its time."""
        for _ in range(_LAST_LIVES):
            if any(job.gone for job in self.server.jobs.values()):
                self.now += _RESULTS_KEPT_S
            if self._process(self._calm_life()):
                return
        self.checks.fail("it does not end although nothing disturbs it any more")

    def _calm_life(self) -> Life:
        batches = self._open_batches()
        config = self.shape.teacher(concurrency=4, attempts=4, mode="batch" if batches else "live")
        return Life(config, config.identity())

    def _open_batches(self) -> bool:
        """Whether batches are open in the journal, as a user would see in its status."""
        return self.checks.open_jobs > 0

    def _rough_life(self) -> Life:
        draw, shape = self.draw, self.shape
        concurrency, attempts = draw.choice((1, 2, 4, 8, 16)), draw.choice((3, 4, 6))
        batch = draw.random() < 0.2
        if self._open_batches() and draw.random() < 0.85:
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
            budget=self._caps(),
            concurrency=concurrency,
            attempts=attempts,
            fault_rate=draw.choice((0.0, 0.1, 0.3, 0.6)),
            faults=tuple(some),
            batch_rate=draw.choice((0.0, 0.1, 0.3)),
        )
        if not batch and draw.random() < 0.3:
            self._several(life)
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
            life.jump_s = draw.choice((-86400.0, -3600.0, -5.0, 5.0, 3600.0, _RESULTS_KEPT_S))
        return life

    def _several(self, life: Life) -> None:
        """Draw several servers, of which some leave and join again."""
        draw = self.draw
        life.addresses = draw.choice((2, 3))
        outages = []
        for server in range(1, life.addresses):
            for _ in range(draw.choice((0, 1, 2))):
                begin = self.now + draw.choice((0.0, draw.random() * 4))
                outages.append((server, begin, begin + draw.choice((0.5, 3.0, 30.0)), draw.choice(OUTAGES)))
        life.outages = tuple(outages)
        self.faults["server leaves"] += len(outages)

    def _caps(self) -> BudgetConfig:
        """Draw caps, raised or lowered from what has been spent."""
        draw, server = self.draw, self.server
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

    def _process(self, life: Life) -> bool:
        """Run a process to its end, whatever that is; return whether the run is finished."""
        self.life = life
        self._life_steps = self._reports = self._commits = self._sleeping = self.writing = self.turns = 0
        self._idle_since = self.now
        self._spoilt: Counter[str] = Counter()
        self.cut_off = 0
        self.dead = self.stopping = self.unwinding = self._disk_failed = False
        self.server.new_process()
        self.log(f"process {self._lives}: {_told(life)}")
        end, journal = "done", None
        with shutdown.stoppable() as self._stop:
            try:
                journal = Journal(self._folder / "journal.db")
                self.checks.opened(self._folder / "journal.db")
                self._write(journal)
            except (Killed, Broken, StepsynthError, ScreenError, KeyboardInterrupt, ZeroDivisionError) as error:
                end = f"{type(error).__name__}: {error}"
                self._expect(error)
            except Exception as error:
                if not self.dead:
                    self.checks.fail(f"an error that nobody means: {error!r}")
                end = "killed"
        if self.broken:
            raise Broken(self.broken)
        self.log(f"process {self._lives} ends: {end}")
        killed = self.dead
        if not killed:
            self.checks.process_ended(killed=False, disk_failed=self._disk_failed)
        self.checks.close()
        if journal is not None:
            journal.close()
        self._lives += 1
        if killed:
            self._folder = self._root / str(self._lives)
        return end == "done" and not killed

    def _expect(self, error: BaseException) -> None:
        """Every end has a cause in what was injected."""
        life = self.life
        match error:
            case BudgetError():
                fine = life.budget != BudgetConfig()
            case Interrupted() | KeyboardInterrupt():
                fine = self._stop.is_set()
            case RunError():
                fine = self._disk_failed or (life.config.mode == "live" and self._open_batches())
            case _:
                fine = True
        if not self.dead:
            self.checks.that(fine, f"it ended without a cause: {error!r}")

    def _write(self, journal: Journal) -> None:
        """What a run does with its journal, without training."""
        life, shape = self.life, self.shape
        progress = _Display(self)
        client = _Client(self, life.config, journal, self._teacher(), progress.paused)
        generator = StageGenerator(client, journal, max_overgeneration=6, progress=progress, feedback=shape.feedback)
        for number, plan in enumerate(shape.plans):
            generator.run(plan, number, shape.pipeline(plan), journal.dataset())

    def _teacher(self) -> Any:
        config = self.life.config
        if config.mode == "batch":
            return BatchTeacher(self)
        kind = GroupTeacher if config.rows_per_request > 1 else LiveTeacher
        if self.life.addresses == 1:
            return kind(self)
        teachers = {f"http://sim{number}.invalid/v1": kind(self, number) for number in range(self.life.addresses)}
        return EndpointsTeacher(config, teachers, clock=lambda: self.now)


class _Client(TeacherClient):
    """The production client, which tells the checks of each wave."""

    def __init__(
        self, world: World, config: TeacherConfig, journal: Journal, teacher: Any, paused: Callable[[Pause | None], object]
    ) -> None:
        super().__init__(
            config,
            journal,
            world.life.budget,
            teacher=teacher,
            pause=world.sleep,
            clock=lambda: world.now,
            wall=lambda: world.now + world.wall,
            jitter=world.draw,
            paused=paused,
        )
        self._world = world

    def run(
        self, requests: Sequence[Request], answered: Callable[[dict[str, Response | TeacherError]], None] | None = None
    ) -> dict[str, Response | TeacherError]:
        keyed = {self.key(request): request for request in requests}
        self._world.log(f"a wave of {len(keyed)}")
        self._world.checks.wave(keyed)
        found = super().run(requests, answered)
        self._world.checks.wave_ended(keyed, found)
        return found


class _Display(SilentProgress):
    """A display, which may be gone at any report."""

    def __init__(self, world: World) -> None:
        self._world = world

    def advance(self, done: int, *, answers: int = 0, traffic: RequestStats | None = None) -> None:
        self._world.report()

    def finish(self, summary: str) -> None:
        self._world.report()

    def paused(self, pause: Pause | None) -> None:
        self._world.report(pause=True)


def _told(life: Life) -> str:
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


_rows: dict[int, list[tuple[object, ...]]] = {}


def undisturbed(number: int) -> list[tuple[object, ...]]:
    """Return the rows of a shape when nothing ever happens."""
    if number not in _rows:
        from .seeds import alone

        with alone() as root:
            _rows[number] = calm_rows(number, root)
    return _rows[number]


def calm_rows(number: int, root: Path) -> list[tuple[object, ...]]:
    """Run a shape in an empty folder without any disturbance, and return its rows."""
    world = World(0, root, shape_of(number))
    from .seeds import present

    with present(world):
        done = world._process(world._calm_life())
    assert done, world.history[-3:]
    return rows_of(root / "0" / "journal.db")
