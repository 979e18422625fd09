"""What every way of getting answers has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.generation.budget import BudgetGuard
    from stepsynth.generation.committer import Committer
    from stepsynth.generation.room import RoomWatch
    from stepsynth.generation.scheduler import TeacherState
    from stepsynth.journal import JobStore
    from stepsynth.types import Response

__all__ = ["Context", "Dispatcher"]


@dataclass(frozen=True, slots=True)
class Context:
    """What a dispatcher works with in one call of `TeacherClient.run`.

    Attributes:
        config: of the teacher.
        state: what is known of it from earlier calls.
        budget: the caps, and what is reserved.
        committer: brings answers into the journal.
        room: notices answers that have no room to say anything.
        known: answers and final errors by key; the committer adds to it.
        show: lets the display follow, where something changed that is no answer.
        jobs: batches at a provider, as the journal knows them.
        pause: sleeps (seconds -> awaitable, or nothing).
        clock: seconds.
        jitter: spreads pauses.
    """

    config: TeacherConfig
    state: TeacherState
    budget: BudgetGuard
    committer: Committer
    room: RoomWatch
    known: dict[str, Response | TeacherError]
    show: Callable[[], None]
    jobs: JobStore
    pause: Callable[[float], object]
    clock: Callable[[], float]
    jitter: random.Random


class Dispatcher(ABC):
    """Gets the answers that are missing, for one call of `TeacherClient.run`.

    A subclass is made with its kind of teacher, the missing requests by key in plan order, and a `Context`.
    """

    @abstractmethod
    def run(self) -> None:
        """Get what is missing into the journal and into ``known``; what a cap or a stop leaves out stays missing.

        Raises:
            TeacherError: the teacher cannot be used at all.
        """
