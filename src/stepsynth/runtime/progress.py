"""Progress reports of a run; the command line draws them, a library call may ignore them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Pause", "Progress", "RequestStats", "SilentProgress"]

# A shorter pause is shown while it lasts but leaves no line.
_LONG_S = 10.0


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait that a server asked for.

    Attributes:
        seconds: its full length.
        until: when it ends, in seconds since 1970.
        who: the server.
        why: the server's words, and which limit was hit if that is known.
        ended: the wait is too long; the run ends instead.
    """

    seconds: float
    until: float
    who: str
    why: str
    ended: bool = False

    @property
    def long(self) -> bool:
        """Whether it gets a line of its own; if it ends the run, the error reports it."""
        return not self.ended and self.seconds >= _LONG_S

    def __str__(self) -> str:
        """Who asks, until when (local time) and why; no full stop."""
        return f"{self.who} asks to wait until {_moment(self.until, time.time())} ({_length(self.seconds)}): {self.why}"


def _moment(moment: float, now: float) -> str:
    then, today = datetime.fromtimestamp(moment), datetime.fromtimestamp(now)
    days = (then.date() - today.date()).days
    clock = f"{then:%H:%M:%S}" if moment - now < 3600 else f"{then:%H:%M}"
    return clock if days == 0 else f"{clock} tomorrow" if days == 1 else f"{then:%Y-%m-%d} {clock}"


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


@dataclass(frozen=True, slots=True)
class RequestStats:
    """The traffic between a run and its teacher at one moment.

    Attributes:
        sent: attempts sent, over all processes of the run, retries included.
        in_flight: requests now waiting for an answer.
        limit: the most requests that may be in flight now; 0 if they are in a provider's batch.
        answers: answers bought, over all processes of the run.
        retries: failed attempts that were retried, by `TeacherError.kind`.
        tokens: tokens bought, prompt and completion, over all processes of the run.
        usd: dollars spent, over all processes of the run; ``None`` if the price is unknown.
        per_second: answers per second over the last few seconds.
        pause: the pause now in force, if any.
        per_minute: current limit on requests per minute; ``None`` if there is no limit.
    """

    sent: int
    in_flight: int
    limit: int
    answers: int
    retries: Mapping[str, int]
    tokens: int
    usd: float | None
    per_second: float
    pause: Pause | None = None
    per_minute: float | None = None


class Progress(Protocol):
    """Receives a run's reports; every call is cheap and may be ignored."""

    def start(self, stage: str, target: int, unit: str) -> None:
        """Begin a stage of ``target`` units (``rows``, ``steps``), or a further part of it.

        Args:
            stage: its title, for people: "round 1, rows from mistakes". A stage that begins anew before it has ended is in its
                next part, such as a training first on written rows, then on labelled ones.
            target: units to do.
            unit: their name.
        """
        ...

    def advance(self, done: int, *, answers: int = 0, traffic: RequestStats | None = None) -> None:
        """Report how many of the stage's units are done.

        Args:
            done: units done.
            answers: answers of the current wave known so far, bought or not.
            traffic: requests and answers so far, if a teacher is asked.
        """
        ...

    def finish(self, summary: str) -> None:
        """End the stage with a one-line summary."""
        ...

    def note(self, message: str) -> None:
        """Show the user a message now."""
        ...

    def paused(self, pause: Pause | None) -> None:
        """Report a pause that begins now at the server's request; ``None`` when it is over."""
        ...


class SilentProgress:
    """Ignores every report."""

    def start(self, stage: str, target: int, unit: str) -> None:
        """Ignore."""

    def advance(self, done: int, *, answers: int = 0, traffic: RequestStats | None = None) -> None:
        """Ignore."""

    def finish(self, summary: str) -> None:
        """Ignore."""

    def note(self, message: str) -> None:
        """Ignore."""

    def paused(self, pause: Pause | None) -> None:
        """Ignore."""
