"""What a run tells while it works; the command line draws it, a library call may ignore it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Pause", "Progress", "RequestStats", "SilentProgress"]

# A shorter pause is shown while it lasts, and leaves no line.
_LONG_S = 10.0


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait that a server asked for.

    Attributes:
        seconds: how long it was when it began.
        until: when it ends, in seconds since 1970.
        who: the server.
        why: the server's words, and which limit it is where that is plain.
        ended: the run ends in place of waiting so long.
    """

    seconds: float
    until: float
    who: str
    why: str
    ended: bool = False

    @property
    def long(self) -> bool:
        """Whether it deserves a line of its own; one that ends the run is told of by the error."""
        return not self.ended and self.seconds >= _LONG_S

    def __str__(self) -> str:
        """Say who asks, until when by this machine's clock, and why; without a full stop."""
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
    """What went between a run and its teacher, at one moment.

    Attributes:
        sent: attempts sent, over all processes of the run; retries count.
        in_flight: requests that wait for their answer now.
        limit: most requests that may be in flight now; 0 where a provider's batch holds them.
        answers: answers bought, over all processes of the run.
        retries: failed attempts that were sent again, by `TeacherError.kind`.
        tokens: tokens bought, prompt and completion, over all processes of the run.
        usd: dollars spent, over all processes of the run; ``None`` where the price is unknown.
        per_second: answers a second over the last few seconds.
        pause: what the server asked for, while it lasts.
        per_minute: requests per minute that are kept to now, ``None`` where nothing holds them back.
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
    """Where a run reports to; every call is cheap and may be ignored."""

    def start(self, stage: str, target: int, unit: str) -> None:
        """Begin a stage with ``target`` things (``rows``, ``steps``) to do."""
        ...

    def advance(self, done: int, *, answers: int = 0, traffic: RequestStats | None = None) -> None:
        """Say how many of the stage's things are done.

        Args:
            done: things done.
            answers: answers known so far of the wave that is on its way, bought or not.
            traffic: what went to and fro, where a teacher is asked.
        """
        ...

    def finish(self, summary: str) -> None:
        """End the stage with one line about it."""
        ...

    def note(self, message: str) -> None:
        """Say something that the user should read, now."""
        ...

    def paused(self, pause: Pause | None) -> None:
        """Say that the server asked for a pause, which begins now; ``None`` when it is over."""
        ...


class SilentProgress:
    """Says nothing."""

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
