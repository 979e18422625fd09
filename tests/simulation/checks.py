"""What must hold after every step; each check names what it saw when it does not."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, NoReturn

from stepsynth.generation.committer import COMMIT_EVERY_S
from stepsynth.types import Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stepsynth.errors import TeacherError
    from stepsynth.types import Request

    from .world import World

__all__ = ["Broken", "Checks"]

# An answer waits at most for its turn, which is looked for every half turn, once the commit before it has ended.
_LATEST_S = 1.5 * COMMIT_EVERY_S + 0.1
_USD = 1e-9
_LEDGER = """SELECT sent, answers, prompt_tokens + completion_tokens, doubtful_sends, lost_sends, open_sends,
    (SELECT COALESCE(SUM(json_array_length(keys)), 0) FROM jobs WHERE closed = '') FROM ledger"""


class Broken(BaseException):
    """An invariant does not hold. No handler of errors in production code may take it for one of its own."""


class Checks:
    """The invariants of a world, over all its processes.

    Args:
        world: what is watched.

    Attributes:
        committed: text by key of the answers in the journal's file.
        made: how many checks were made.
        open_jobs: requests in batches that are open in the journal.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.committed: dict[str, str] = {}
        self.made = self.open_jobs = 0
        self._totals = (0, 0)
        self._reader: sqlite3.Connection | None = None
        # In this process: answers that came and are not durable, with the time; requests by stage; what was given up.
        self._waiting: dict[str, float] = {}
        self._asked: dict[str, dict[str, Request]] = {}
        self._wrote_at = 0.0
        self._covered = 0

    def fail(self, what: str) -> NoReturn:
        """Record what broke, and end the seed."""
        if not self._world.broken:
            self._world.broken = what
            self._world.log(f"BROKEN: {what}")
        raise Broken(what)

    def that(self, holds: object, what: str) -> None:
        """Check one thing."""
        self.made += 1
        if not holds:
            self.fail(what)

    # a process -------------------------------------------------------------------------

    def opened(self, path: Path) -> None:
        """A process has opened the journal: everything that was committed is there."""
        self.close()
        self._reader = sqlite3.connect(path, isolation_level=None)
        self._waiting.clear()
        self._asked.clear()
        self._wrote_at = self._world.now
        before = self.committed
        self._read()
        for key, text in before.items():
            self.that(self.committed.get(key) == text, f"the committed answer {key[:8]} is gone or another one")

    def close(self) -> None:
        """Close the journal's file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _read(self, *, answers: bool = True) -> None:
        """Read what is durable; the ledger and the answers must agree in every transaction."""
        assert self._reader is not None
        if answers:
            rows = self._reader.execute("SELECT key, text, prompt_tokens + completion_tokens FROM answers").fetchall()
            found = {key: text for key, text, _ in rows}
            self.that(self.committed.keys() <= found.keys(), "a committed answer is gone")
            self.committed, self._totals = found, (len(found), sum(took for *_, took in rows))
        (sent, count, tokens, doubtful, lost, held, self.open_jobs) = self._reader.execute(_LEDGER).fetchone() or (0,) * 7
        self.that(
            (count, tokens) == self._totals, f"the ledger has {count} answers of {tokens} tokens, the journal {self._totals}"
        )
        self.that(doubtful <= sent, "more sends are doubtful than were sent")
        self.that(min(held, lost, sent) >= 0, "a sum in the ledger is negative")
        self._covered = sent + lost + held + self.open_jobs

    def wrote(self, name: str) -> None:
        """A transaction is durable."""
        if name.startswith("stage "):
            self._stage(name.removeprefix("stage "))
        else:
            self._read(answers=name == "answers")
            for key in self.committed.keys() & self._waiting.keys():
                del self._waiting[key]

    def commit_ended(self) -> None:
        """The process knows of the end of a commit."""
        self._wrote_at = self._world.now

    def waited(self) -> None:
        """Time has passed: no answer has waited too long for its commit."""
        if self._waiting and not self._world.writing:
            oldest = max(next(iter(self._waiting.values())), self._wrote_at)
            self.that(self._world.now - oldest <= _LATEST_S, "an answer waits for its commit although nothing is written")

    # the provider's side ---------------------------------------------------------------

    def sends(self, keys: Sequence[str], *, job: str = "", address: int = 0) -> None:
        """Requests reach the provider, with their costs counted there."""
        world, server = self._world, self._world.server
        for key in keys:
            self.that(key not in self.committed, f"the committed answer {key[:8]} is asked for again")
            self.that(key not in self._waiting, f"the answer {key[:8]} came and is asked for again")
            self.that(key not in server.in_flight, f"the request {key[:8]} is in flight twice")
            self.that(not server.owes(key), f"the request {key[:8]} is in a batch that answered it, and is sent again")
        if job:
            assert self._reader is not None
            known = self._reader.execute("SELECT 1 FROM jobs WHERE name = ? AND closed = ''", (job,)).fetchone()
            self.that(known is not None, "a batch is submitted that the journal does not know")
        else:
            self.that(server.received <= self._covered, f"{server.received} sends, of which {self._covered} are in the journal")
            self.that(not world.stopping, "sent after a stop")
            self.that(world.now >= server.hold_until[address] - 1e-6, f"sent while server {address} asked to wait")
            self.that(server.calls < world.life.concurrency, "more in flight than the config allows")
            self.caps()

    def caps(self) -> None:
        """What the provider has charged is within every cap."""
        server, caps = self._world.server, self._world.life.budget
        self.that(caps.requests is None or server.received <= caps.requests, f"{server.received} sends, cap {caps.requests}")
        self.that(caps.tokens is None or server.tokens <= caps.tokens, f"{server.tokens} tokens, cap {caps.tokens}")
        self.that(caps.usd is None or server.usd <= caps.usd + _USD, f"${server.usd:.4f}, cap ${caps.usd or 0:.4f}")

    def came(self, key: str) -> None:
        """An answer reached the process."""
        self._waiting.setdefault(key, self._world.now)

    # the plan's side -------------------------------------------------------------------

    def wave(self, requests: Mapping[str, Request]) -> None:
        """A wave of a stage is asked for."""
        for key, request in requests.items():
            asked = self._asked.setdefault(request.stage, {})
            self.that(key not in asked, f"the request {key[:8]} is in two waves")
            asked[key] = request

    def wave_ended(self, requests: Mapping[str, Request], found: Mapping[str, Response | TeacherError]) -> None:
        """Every request of a wave has an answer in the journal, or was given up; none is open."""
        for key in requests:
            self.that(key in found, f"the request {key[:8]} was lost on the way")
            if isinstance(answer := found[key], Response):
                self.that(key in self.committed, f"the answer {key[:8]} was passed on before it was durable")
                self.that(self.committed[key] == answer.text, f"the answer {key[:8]} is another one in the journal")
            else:
                self.that(self._world.shape.refused(key), f"the request {key[:8]} was given up: {answer}")
        self.that(not self._world.server.in_flight, "a wave has ended while requests are in flight")
        self.that(not self._waiting, "a wave has ended with answers that are not durable")

    def _stage(self, name: str) -> None:
        """Requested = accepted + dropped, and none open, when a stage is written."""
        assert self._reader is not None
        rows = self._reader.execute("SELECT key, label, reason FROM rows WHERE stage = ?", (name,)).fetchall()
        ((info,),) = self._reader.execute("SELECT info FROM stages WHERE name = ?", (name,)).fetchall()
        asked = self._asked.get(name, {})
        self.that({key for key, *_ in rows} == asked.keys(), f"{name}: the rows are not those that were requested")
        accepted = Counter(label for _, label, reason in rows if not reason)
        dropped = sum(bool(reason) for *_, reason in rows)
        if self._world.shape.parts == 1:
            self.that(len(asked) == accepted.total() + dropped, f"{name}: requested is not accepted + dropped")
        told = json.loads(info)
        for label, target in told["targets"].items():
            missing = told["missing"].get(label, 0)
            self.that(accepted[label] + missing == target, f"{name}: {label} has {accepted[label]} of {target} rows")

    # ends ------------------------------------------------------------------------------

    def process_ended(self, *, killed: bool, disk_failed: bool) -> None:
        """A process has ended; one that ended by itself has wasted nothing and reserves nothing."""
        if not (killed or disk_failed):
            self.that(not self._waiting, f"{len(self._waiting)} answers came and are not in the journal")
            assert self._reader is not None
            sent, held = self._reader.execute("SELECT sent, open_sends FROM ledger").fetchone() or (0, 0)
            if self._world.life.asked_live:
                self.that(held <= self._world.cut_off, f"a process that has ended holds {held} reservations")
            out = sum(job.running for job in self._world.server.jobs.values())
            self.that(
                sent <= self._world.server.received + out, f"{sent} sends in the ledger, {self._world.server.received} came"
            )
        self.close()

    def same_rows(self, path: Path, undisturbed: Sequence[tuple[object, ...]]) -> None:
        """The rows are those of a run to which nothing ever happened."""
        found = rows_of(path)
        self.that(found == undisturbed, f"the rows differ from the undisturbed run's: {_difference(found, undisturbed)}")


def rows_of(path: Path) -> list[tuple[object, ...]]:
    """Return all rows of a journal's file, in order."""
    query = "SELECT stage, position, key, label, source, text, context, answer, reason FROM rows ORDER BY stage, position"
    with closing(sqlite3.connect(path)) as file:
        return file.execute(query).fetchall()


def _difference(found: Sequence[tuple[object, ...]], due: Sequence[tuple[object, ...]]) -> str:
    for place, (one, other) in enumerate(zip(found, due, strict=False)):
        if one != other:
            return f"row {place} is {one}, not {other}"
    return f"{len(found)} rows, not {len(due)}"
