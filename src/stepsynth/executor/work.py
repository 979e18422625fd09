"""What every way of getting answers shares: they are priced, counted and committed in small groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from stepsynth.errors import TeacherError
from stepsynth.interrupt import stop_requested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepsynth.executor.send import Executor
    from stepsynth.journal import Amount
    from stepsynth.teachers import EngineTeacher
    from stepsynth.types import Request, Response

__all__ = ["COMMIT_AT", "COMMIT_EVERY_S", "EngineWork", "Work"]

COMMIT_EVERY_S = 0.25
COMMIT_AT = 64
# A full group waits until the journal has taken no more than this share of the time.
_JOURNAL_SHARE = 0.04


class Work(ABC):
    """One call of `Executor.run`: requests whose answers are missing, and answers on their way into the journal.

    Args:
        executor: whose work it is.
        known: answers and final errors by key; grows.
        answered: told after each commit.
    """

    def __init__(
        self,
        executor: Executor,
        known: dict[str, Response | TeacherError],
        answered: Callable[[dict[str, Response | TeacherError]], None] | None,
    ) -> None:
        self.executor = executor
        self.account = executor.account
        self.known = known
        self.answered = answered
        self.fresh: list[tuple[str, Request, Response]] = []
        self.committed_at = executor.clock()
        self.took = 0.0

    @abstractmethod
    def run(self, teacher: Any, missing: list[tuple[str, Request]]) -> None:
        """Get what is missing: into the journal and into ``known``; what a cap or a stop leaves out stays missing.

        Args:
            teacher: of the kind that this work is for.
            missing: key and request, in plan order.

        Raises:
            TeacherError: the teacher cannot be used at all.
        """

    def upcoming(self) -> int:
        """Return how many sends may follow the next commit; so many are reserved with it, up to a block."""
        return 0

    def add(self, key: str, request: Request, response: Response) -> None:
        """Take an answer: fill in its price, count it, commit it soon."""
        response = self.priced(response)
        self.account.ledger.count_answer(response.usage)
        self.executor.room.saw(key, request.sampling.max_tokens, response)
        self.account.changed = True
        self.fresh.append((key, request, response))
        if self.due(len(self.fresh) >= COMMIT_AT):
            self.flush()

    def priced(self, response: Response) -> Response:
        """Return an answer with its dollars, where a price is known; what a teacher told stays."""
        usage, price = response.usage, self.account.price
        if usage.cost_usd is not None or price is None:
            return response
        return replace(response, usage=replace(usage, cost_usd=price.cost(usage)))

    def flush(self) -> None:
        """Commit now, or soon where that can go on beside other things."""
        self.commit()

    def due(self, full: bool) -> bool:
        """Whether it is time for a commit: a group is full and the journal has rested, or the last one is old."""
        waited = self.executor.clock() - self.committed_at
        return waited >= COMMIT_EVERY_S or (full and waited * _JOURNAL_SHARE >= self.took)

    def commit(self, also: Callable[[], None] | None = None, *, least: Amount | None = None) -> None:
        """Make answers and the ledger durable, and reserve what is sent next, in one transaction.

        Args:
            also: writes more within that transaction.
            least: a send that has to be possible afterwards.
        """
        self.account.reserve(self.upcoming(), least)
        started = self.executor.clock()
        journal, fresh = self.executor.journal, self.fresh
        try:
            if fresh or also is not None:
                journal.commit_answers(fresh, self.executor.identity, also=also)
            elif self.account.changed:
                journal.commit_ledger()
        except BaseException:
            self.account.forget()
            raise
        self.account.confirm()
        self.account.changed = False
        self.fresh = []
        self.committed(fresh, started)

    def committed(self, fresh: list[tuple[str, Request, Response]], started: float) -> None:
        """Tell of answers that are durable now.

        Args:
            fresh: the answers.
            started: when their commit began, by the executor's clock.
        """
        self.committed_at = self.executor.clock()
        self.took = self.committed_at - started
        if fresh:
            self.known.update({key: response for key, _, response in fresh})
            self.executor.note_answers()
            if self.answered is not None:
                self.answered(self.known)


class EngineWork(Work):
    """An engine in this process, fed so that it is never idle."""

    def run(self, teacher: EngineTeacher, missing: list[tuple[str, Request]]) -> None:
        """Feed the engine; close to a cap it drains, so that the next requests know what the last ones took."""
        self.missing, self.fed = missing, 0
        self.costs: dict[int, Amount] = {}
        try:
            while self.fed < len(missing) and not stop_requested():
                if not self.account.fits(self.account.cost([missing[self.fed][1]])):
                    break
                self._once(teacher)
        except TeacherError as error:
            self.account.ledger.count_failure(error.kind)
            raise
        finally:
            self.fed = len(missing)
            for cost in self.costs.values():
                self.account.count_sent(cost)
                self.account.release(cost)
                self.executor.limiter.ended()
            self.commit()

    def upcoming(self) -> int:
        """Return how many requests were not fed yet."""
        return len(self.missing) - self.fed

    def _once(self, teacher: EngineTeacher) -> None:
        first = self.fed
        # The key decides the sampling seed, so that an answer depends on nothing else.
        seeds = (int(key[:7], 16) for key, _ in islice(self.missing, first, None))
        for position, response in teacher.generate_batch(self._feed(), seeds):
            key, request = self.missing[first + position]
            cost = self.costs.pop(first + position)
            self.account.count_sent(cost)
            self.account.answered(cost, [request], [response])
            self.executor.limiter.ended()
            self.add(key, request, response)
            self.executor.room.check()

    def _feed(self) -> Iterator[Request]:
        for position in range(self.fed, len(self.missing)):
            request = self.missing[position][1]
            cost = self.account.cost([request])
            if stop_requested() or not self.account.fits(cost):
                return
            if not self.account.begin(cost):
                self.commit(least=cost)
                self.account.begin(cost)
            self.costs[position] = cost
            self.executor.limiter.sent()
            self.fed = position + 1
            yield request
