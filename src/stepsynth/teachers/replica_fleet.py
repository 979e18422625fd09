"""Which of several engines gets a request, and what happens when one is lost: a state machine without a clock or a cluster.

    fleet.asked(number, now)                                     events: what happened
    fleet.ready(engine, now), fleet.answered(engine, number, now), fleet.lost(engine, why, now), fleet.tick(now)
    while (action := fleet.next()) is not None:
        ...                                                      actions: what to do now

Times are arguments, in seconds of the caller's clock. An engine is a place in the fleet with a number that never changes; each
time it is started it has another ``life``, so that late events of an earlier one are known as such. Its states:

    from      event                                     to         action
    idle      its pause is over                         starting   Start
    starting  loaded                                    ready      Ask, for requests that wait
    starting  lost, or not loaded in time               idle       Stop; after the third restart in a row: given up
    ready     answered                                  ready      (its restarts count from zero again)
    ready     lost, silent for too long, or nonsense    idle       Stop, Fail for its requests; after the third: given up

A request goes to the engine with the fewest requests, and waits if none has room. It is at one engine at a time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import count as count_from
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RESTARTS", "Action", "Ask", "Fail", "Fleet", "Start", "Stop"]

# Restarts of an engine in a row, without an answer in between. The pauses before them let a cluster find out that a node died.
RESTARTS = 3
_PAUSES_S = (0.0, 2.0, 10.0)
# How long an engine may be silent, in multiples of the longest silence that ended with an answer.
_PATIENCE = 3.0
# Until any engine has answered, nobody knows how long that takes.
_FIRST_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Start:
    """Start an engine."""

    engine: int
    life: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End an engine's process, if it still runs."""

    engine: int
    life: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a request to an engine."""

    engine: int
    life: int
    number: int


@dataclass(frozen=True, slots=True)
class Fail:
    """End a request: its engine was lost (``asked``), or no engine is left."""

    number: int
    why: str
    asked: bool


Action = Start | Stop | Ask | Fail


@dataclass(slots=True)
class _Engine:
    state: Literal["idle", "starting", "ready", "gone"] = "idle"
    life: int = 0
    # When an idle one is started, a starting one began to load (`None` while it waits for a place), a ready one was last heard.
    since: float | None = 0.0
    restarts: int = 0
    losses: int = 0
    answers: int = 0
    host: str = ""
    pending: set[int] = field(default_factory=set)


class Fleet:
    """Engines and the requests at them.

    Args:
        count: how many engines.
        room: the most requests at one engine.
        patience_s: how long an engine may answer nothing at least.
        load_s: how long one may load, and how long requests wait while no engine is there.
        lives: numbers of lives; a fleet that follows another goes on with its numbers.

    Attributes:
        notes: sentences for the user; the caller that shows them removes them.
        ended: why no engine is left; empty while there is one.
    """

    def __init__(self, count: int, room: int, *, patience_s: float, load_s: float, lives: Iterator[int] | None = None) -> None:
        self._engines = [_Engine() for _ in range(count)]
        self._room = room
        self._patience_s = patience_s
        self._load_s = load_s
        self._lives = lives or count_from(1)
        self._waiting: deque[int] = deque()
        self._actions: deque[Action] = deque()
        self._longest = 0.0
        self._none_since: float | None = None
        self.notes: list[str] = []
        self.ended = ""

    # what is known ---------------------------------------------------------------------

    @property
    def ready_engines(self) -> int:
        """How many engines can answer."""
        return sum(engine.state == "ready" for engine in self._engines)

    @property
    def ever_ready(self) -> bool:
        """Whether any engine could answer so far."""
        return any(engine.answers or engine.state == "ready" for engine in self._engines)

    @property
    def most_in_flight(self) -> int:
        """How many requests the engines that are ready take; one waits for an engine if none is."""
        return max(1, self._room * self.ready_engines)

    @property
    def answers(self) -> list[int]:
        """How many requests each engine has answered."""
        return [engine.answers for engine in self._engines]

    def holds(self, engine: int, life: int, number: int) -> bool:
        """Whether a request is at an engine."""
        return self._engines[engine].life == life and number in self._engines[engine].pending

    # events ----------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Start all engines."""
        self._none_since = now
        for engine in self._engines:
            engine.since = now
        self._start_due(now)

    def asked(self, number: int, now: float) -> None:
        """Take a request."""
        if self.ended:
            self._actions.append(Fail(number, self.ended, asked=False))
            return
        self._waiting.append(number)
        self._hand_out(now)

    def withdrawn(self, number: int) -> bool:
        """Take a request back; ``False`` if it is at an engine."""
        if number not in self._waiting:
            return False
        self._waiting.remove(number)
        return True

    def placed(self, engine: int, life: int, host: str, now: float) -> None:
        """Record that a starting engine has got a place and begins to load."""
        if (found := self._of(engine, life, "starting")) is not None:
            found.since, found.host = now, host

    def ready(self, engine: int, life: int, now: float) -> None:
        """Record that an engine has loaded its model."""
        if (found := self._of(engine, life, "starting")) is not None:
            found.state, found.since = "ready", now
            self._none_since = None
            if found.losses:
                self.notes.append(f"{self._named(engine)} is there again.")
            self._hand_out(now)

    def answered(self, engine: int, life: int, number: int, now: float) -> None:
        """Record an answer."""
        found = self._of(engine, life, "ready")
        if found is None or number not in found.pending:
            return
        found.pending.discard(number)
        found.answers += 1
        found.restarts = 0
        self._longest = max(self._longest, now - (now if found.since is None else found.since))
        found.since = now
        self._hand_out(now)

    def dropped(self, engine: int, life: int, number: int, now: float) -> None:
        """Record that a request ended without an answer through no fault of its engine."""
        found = self._of(engine, life, "ready")
        if found is not None:
            found.pending.discard(number)
            found.since = now
            self._hand_out(now)

    def lost(self, engine: int, life: int, why: str, now: float) -> None:
        """Record that an engine died, or cannot be used any longer.

        Args:
            engine: which one.
            life: its life.
            why: goes on from "engine 2".
            now: seconds.
        """
        found = self._of(engine, life, "starting", "ready")
        if found is None:
            return
        self._actions.append(Stop(engine, life))
        failed = sorted(found.pending)
        found.pending.clear()
        found.losses += 1
        named = self._named(engine)
        if found.restarts >= RESTARTS:
            found.state = "gone"
            self.notes.append(f"{named} {why}; it is given up after {RESTARTS} restarts without an answer.")
        else:
            found.state, found.since = "idle", now + _PAUSES_S[found.restarts]
            found.restarts += 1
            self.notes.append(f"{named} {why}; it is started again.")
        self._actions.extend(Fail(number, f"{named} {why}.", asked=True) for number in failed)
        if not self.ready_engines and self._none_since is None:
            self._none_since = now
        if all(other.state == "gone" for other in self._engines):
            self.end(f"{named} {why}, and all engines have been given up.")
        self._start_due(now)

    def end(self, why: str) -> None:
        """Give up: nothing is answered any more."""
        if not self.ended:
            self.ended = why
            while self._waiting:
                self._actions.append(Fail(self._waiting.popleft(), why, asked=False))

    def tick(self, now: float) -> None:
        """Do what is due: engines that are silent, that do not load, that are to be started again; a wait that is too long."""
        patience = max(self._patience_s, self._longest * _PATIENCE) if self._longest else self._patience_s * _FIRST_PATIENCE
        for index, engine in enumerate(self._engines):
            quiet = now - engine.since if engine.since is not None else 0.0
            if engine.state == "ready" and engine.pending and quiet > patience:
                self.lost(index, engine.life, f"answered nothing for {quiet:.0f} s", now)
            elif engine.state == "starting" and quiet > self._load_s:
                self.lost(index, engine.life, f"did not load its model in {quiet:.0f} s", now)
        self._start_due(now)
        if self._none_since is not None and now - self._none_since > self._load_s and self._waiting:
            self.end(f"no engine has been there for {now - self._none_since:,.0f} s.")

    def next(self) -> Action | None:
        """Return the next action; ``None``: nothing to do before the next event."""
        return self._actions.popleft() if self._actions else None

    # what comes next -------------------------------------------------------------------

    def _start_due(self, now: float) -> None:
        for index, engine in enumerate(self._engines):
            if engine.state == "idle" and engine.since is not None and now >= engine.since and not self.ended:
                engine.state, engine.since, engine.host = "starting", None, ""
                engine.life = next(self._lives)
                self._actions.append(Start(index, engine.life))

    def _hand_out(self, now: float) -> None:
        """Give requests that wait to engines with room, those with the fewest first."""
        while self._waiting:
            free = [
                index
                for index, engine in enumerate(self._engines)
                if engine.state == "ready" and len(engine.pending) < self._room
            ]
            if not free:
                return
            index = min(free, key=lambda place: (len(self._engines[place].pending), self._engines[place].answers, place))
            engine, number = self._engines[index], self._waiting.popleft()
            if not engine.pending:
                # Its silence counts from its first request on.
                engine.since = now
            engine.pending.add(number)
            self._actions.append(Ask(index, engine.life, number))

    def _of(self, engine: int, life: int, *states: str) -> _Engine | None:
        found = self._engines[engine]
        return found if found.life == life and found.state in states else None

    def _named(self, engine: int) -> str:
        host = self._engines[engine].host
        return f"Engine {engine + 1}" + (f" (on {host})" if host else "")
