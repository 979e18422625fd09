"""The actions a scheduler returns, one at a time, for its driver to carry out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepsynth.errors import TeacherError
    from stepsynth.journal import Cost
    from stepsynth.types import Request

__all__ = ["Action", "Call", "Commit", "GiveUp", "Send", "Wait"]


@dataclass(slots=True, eq=False)
class Call:
    """One send: a request, or several that are sent together.

    Attributes:
        items: key and request.
        attempts: sends so far, except failures that were not the request's fault.
        forms: forms of the request that the server refused.
        timeouts: attempts that timed out and may be billed.
        doubtful: whether the last attempt may be billed although it failed.
        cost: the worst case of the current or next attempt.
        number: the limiter's number for the current attempt.
    """

    items: list[tuple[str, Request]]
    attempts: int = 0
    forms: int = 0
    timeouts: int = 0
    doubtful: bool = False
    cost: Cost = field(init=False)
    number: int = 0

    @property
    def requests(self) -> list[Request]:
        """The requests without their keys."""
        return [request for _, request in self.items]


@dataclass(frozen=True, slots=True)
class Send:
    """Make one attempt at a call, already reserved in the journal; report `Scheduler.answered`, `failed` or `broke_down`."""

    call: Call


@dataclass(frozen=True, slots=True)
class Commit:
    """Reserve more sends in the journal, unless a commit is already under way; report `Scheduler.committed` when done.

    Attributes:
        least: the send that is waiting for it, if any.
    """

    least: Cost | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Report `Scheduler.waited` after ``seconds``.

    Attributes:
        seconds: how long.
        call: the call that backs off; ``None`` if all calls wait.
        turn: whether the wait is for our own pace, not for a pause of the server.
    """

    seconds: float
    call: Call | None = None
    turn: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """These requests will have no answer, for this reason."""

    keys: tuple[str, ...]
    error: TeacherError


Action = Send | Commit | Wait | GiveUp
