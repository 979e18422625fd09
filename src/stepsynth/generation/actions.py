"""What a scheduler asks for: one `Action` after the other, to be carried out by who drives it."""

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
    """One send: a request, or several that are asked for at once.

    Attributes:
        items: key and request.
        attempts: sends so far, those left out that were no fault of the request.
        forms: forms of the request that the server refused.
        timeouts: attempts that ran into a time-out and may be billed.
        doubtful: whether the last attempt may be billed although it failed.
        cost: the worst case of the next or present attempt.
        number: of the present attempt, as the limiter counts.
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
        """What is asked for."""
        return [request for _, request in self.items]


@dataclass(frozen=True, slots=True)
class Send:
    """Make one attempt at a call, which the journal has reserved; report `Scheduler.answered`, `failed` or `broke_down`."""

    call: Call


@dataclass(frozen=True, slots=True)
class Commit:
    """Reserve more sends in the journal, unless a commit is on its way already; report `Scheduler.committed` at its end.

    Attributes:
        least: the send that is held up until then, if one is.
    """

    least: Cost | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Report `Scheduler.waited` after so many seconds.

    Attributes:
        seconds: how long.
        call: the call that backs off; ``None`` where all wait.
        turn: whether it is the pace that the next request waits for, and no pause of the server.
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
