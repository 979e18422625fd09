"""One seed: a run, its provider and all that happens to them, process after process, until the rows are there."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import sqlite3
from collections import Counter
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from stepsynth.config import BudgetConfig
from stepsynth.errors import BudgetError, Interrupted, PermanentError, RunError, StepsynthError, TransientError
from stepsynth.generation import StageGenerator
from stepsynth.journal import Journal
from stepsynth.runtime import shutdown

from .checks import Broken, Checks, rows_of
from .clock import Killed
from .lives import RESULTS_KEPT_S, Life, calm_life, rough_life, told
from .parts import Client, Display, teacher_of
from .server import HeldJob, Server
from .shapes import SHAPES, Shape, shape_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Life", "World", "undisturbed"]

_MOST_LIVES = 6
_LAST_LIVES = 4
_MOST_TURNS = 30_000
# With nothing in flight, no wait and no commit, something must happen within this time.
_PATIENCE_S = 2.0
_WALL = 1_700_000_000.0
_BY_A_TASK = frozenset({"sends", "answers", "report"})
_DISK = ("database or disk is full", "disk I/O error")


class ScreenError(OSError):
    """The display that a run reports to is gone."""


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
                if self._process(rough_life(self)):
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
                self.now += RESULTS_KEPT_S
            if self._process(calm_life(self)):
                return
        self.checks.fail("it does not end although nothing disturbs it any more")

    def _process(self, life: Life) -> bool:
        """Run a process to its end, whatever that is; return whether the run is finished."""
        self.life = life
        self._life_steps = self._reports = self._commits = self._sleeping = self.writing = self.turns = 0
        self._idle_since = self.now
        self._spoilt: Counter[str] = Counter()
        self.cut_off = 0
        self.dead = self.stopping = self.unwinding = self._disk_failed = False
        self.server.new_process()
        self.log(f"process {self._lives}: {told(life)}")
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
                fine = self._disk_failed or (life.config.mode == "live" and self.checks.open_jobs > 0)
            case _:
                fine = True
        if not self.dead:
            self.checks.that(fine, f"it ended without a cause: {error!r}")

    def _write(self, journal: Journal) -> None:
        """What a run does with its journal, without training."""
        life, shape = self.life, self.shape
        progress = Display(self)
        client = Client(self, life.config, journal, teacher_of(self), progress.paused)
        generator = StageGenerator(client, journal, max_overgeneration=6, progress=progress, feedback=shape.feedback)
        for number, plan in enumerate(shape.plans):
            generator.run(plan, number, shape.pipeline(plan), journal.dataset())


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
        done = world._process(calm_life(world))
    assert done, world.history[-3:]
    return rows_of(root / "0" / "journal.db")
