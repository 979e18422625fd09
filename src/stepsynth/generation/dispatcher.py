"""The interface shared by all dispatchers: live, local and batch."""

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
    """The parts that a dispatcher uses in one call of `TeacherClient.run`.

    Attributes:
        config: the teacher's config.
        state: the teacher's state, kept between calls.
        budget: caps and reservations.
        committer: writes answers to the journal.
        room: detects answers cut off before they say anything.
        known: answers and final errors by key; the committer adds to it.
        show: updates the display after a change other than an answer.
        jobs: the journal's records of batches at a provider.
        pause: sleeps (seconds -> awaitable, or ``None``).
        clock: seconds.
        wall: seconds since 1970.
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
    wall: Callable[[], float]
    jitter: random.Random


class Dispatcher(ABC):
    """Gets the missing answers in one call of `TeacherClient.run`.

    A subclass takes its kind of teacher, the missing requests by key in plan order, and a `Context`.
    """

    @abstractmethod
    def run(self) -> None:
        """Add the missing answers to the journal and to ``known``; a cap or a stop may leave some missing.

        Raises:
            TeacherError: the teacher cannot be used at all.
        """
