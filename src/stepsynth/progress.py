"""What a run tells while it works; the command line draws it, a library call may ignore it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Progress", "SilentProgress", "Traffic"]


@dataclass(frozen=True, slots=True)
class Traffic:
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
    """

    sent: int
    in_flight: int
    limit: int
    answers: int
    retries: Mapping[str, int]
    tokens: int
    usd: float | None
    per_second: float


class Progress(Protocol):
    """Where a run reports to; every call is cheap and may be ignored."""

    def start(self, stage: str, target: int, unit: str) -> None:
        """Begin a stage with ``target`` things (``rows``, ``steps``) to do."""
        ...

    def advance(self, done: int, *, answers: int = 0, traffic: Traffic | None = None) -> None:
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


class SilentProgress:
    """Says nothing."""

    def start(self, stage: str, target: int, unit: str) -> None:
        """Ignore."""

    def advance(self, done: int, *, answers: int = 0, traffic: Traffic | None = None) -> None:
        """Ignore."""

    def finish(self, summary: str) -> None:
        """Ignore."""

    def note(self, message: str) -> None:
        """Ignore."""
