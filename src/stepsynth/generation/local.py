"""Feeds an engine in this process so that it is never idle."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from stepsynth.errors import TeacherError
from stepsynth.generation.dispatcher import Dispatcher
from stepsynth.runtime.shutdown import stop_requested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.generation.dispatcher import Context
    from stepsynth.journal import Cost
    from stepsynth.teachers import EngineTeacher
    from stepsynth.types import Request

__all__ = ["LocalDispatcher"]


class LocalDispatcher(Dispatcher):
    """Feeds an engine. Near a cap it waits for all answers first, since their actual cost may make room for more.

    Args:
        teacher: the engine.
        missing: key and request, in plan order.
        context: see `Context`.
    """

    def __init__(self, teacher: EngineTeacher, missing: list[tuple[str, Request]], context: Context) -> None:
        self._teacher = teacher
        self._missing = missing
        self._budget = context.budget
        self._committer = context.committer
        self._limiter = context.state.limiter
        self._room = context.room
        self._fed = 0
        # Worst cases of the requests in the engine, by position.
        self._costs: dict[int, Cost] = {}

    def run(self) -> None:
        """Feed the engine until all requests are answered, or until a cap or a stop.

        Raises:
            TeacherError: the engine failed.
        """
        try:
            while self._fed < len(self._missing) and not stop_requested():
                if not self._budget.fits(self._budget.cost([self._missing[self._fed][1]])):
                    break
                self._once()
        except TeacherError as error:
            self._budget.ledger.count_failure(error.kind)
            raise
        finally:
            for cost in self._costs.values():
                self._budget.count_sent(cost)
                self._budget.release(cost)
                self._limiter.ended()
            self._committer.commit()

    def _once(self) -> None:
        """Feed the engine as far as the caps allow, and take all its answers."""
        first = self._fed
        # The sampling seed comes from the key, so that an answer depends on nothing else.
        seeds = (int(key[:7], 16) for key, _ in islice(self._missing, first, None))
        for position, response in self._teacher.generate_batch(self._feed(), seeds):
            key, request = self._missing[first + position]
            cost = self._costs.pop(first + position)
            self._budget.count_sent(cost)
            self._budget.answered(cost, [request], [response])
            self._limiter.ended()
            self._committer.add(key, request, response)
            if self._committer.due:
                self._committer.commit(len(self._missing) - self._fed)
            self._room.check()

    def _feed(self) -> Iterator[Request]:
        for position in range(self._fed, len(self._missing)):
            request = self._missing[position][1]
            cost = self._budget.cost([request])
            if stop_requested() or not self._budget.fits(cost):
                return
            if not self._budget.begin(cost):
                self._committer.commit(len(self._missing) - self._fed, cost)
                self._budget.begin(cost)
            self._costs[position] = cost
            self._limiter.sent()
            self._fed = position + 1
            yield request
