"""Send requests to a teacher: look-up, caps, attempts with back-off, commits in small groups."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from typing import TYPE_CHECKING

from stepsynth.errors import BudgetError, PermanentError, TeacherError, TransientError
from stepsynth.interrupt import check_stop, stop_requested
from stepsynth.teachers import AsyncTeacher, EngineTeacher, create_teacher
from stepsynth.types import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stepsynth.config import BudgetConfig, TeacherConfig
    from stepsynth.journal import Journal
    from stepsynth.types import Request

__all__ = ["Executor", "ask_sample"]

_COMMIT_EVERY_S = 0.25
_COMMIT_AT = 64
_LONGEST_PAUSE_S = 60.0
_LOOK_FOR_STOP_S = 0.2
# A server that fails this often in a row, with no answer between, is down and not just busy.
_FAILURES_IN_A_ROW = 10


class Executor:
    """Gets answers for requests.

    Args:
        teacher: an open teacher, or ``None`` to open the configured one when the first answer
            is missing (a resumed run may need none).
        config: concurrency, attempts and the teacher's identity.
        journal: where answers are looked up and committed.
        budget: hard caps on what is sent.
        pause: sleeps between attempts; a test replaces it.
    """

    def __init__(
        self,
        config: TeacherConfig,
        journal: Journal,
        budget: BudgetConfig,
        *,
        teacher: AsyncTeacher | EngineTeacher | None = None,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._config = config
        self._journal = journal
        self._budget = budget
        self._teacher = teacher
        self._pause = pause or _until_stop
        self._identity = config.identity()
        self._jitter = random.Random()
        totals = journal.totals()
        self._sent = totals.requests - totals.from_cache
        self._tokens = totals.bought_tokens

    def run(
        self, requests: Sequence[Request], answered: Callable[[dict[str, Response | TeacherError]], None] | None = None
    ) -> dict[str, Response | TeacherError]:
        """Return an answer, or the error that ended its attempts, for the key of every request.

        Args:
            requests: in plan order.
            answered: called with everything known so far, after each commit.

        Raises:
            BudgetError: a cap is reached; what was answered is committed.
            TeacherError: the teacher cannot be used at all (wrong key, down).
            Interrupted: a stop was asked for; what was in flight is committed.
        """
        keyed = {request.key(self._identity): request for request in requests}
        known: dict[str, Response | TeacherError] = dict(self._journal.find_answers(list(keyed.items()), self._identity))
        missing = [(key, request) for key, request in keyed.items() if key not in known]
        if answered is not None and known:
            answered(known)
        if missing:
            check_stop()
            affordable = self._affordable(missing)
            teacher = self._teacher = self._teacher or create_teacher(self._config)
            work = _BatchWork if isinstance(teacher, EngineTeacher) else _AsyncWork
            work(self, known, answered).run(teacher, affordable)  # type: ignore[arg-type]
            check_stop()
            if any(key not in known for key in keyed):
                self._refuse()
        return known

    def close(self) -> None:
        """Forget the teacher, so that an engine's memory is free for training."""
        self._teacher = None

    def key(self, request: Request) -> str:
        """Return the key under which a request's answer is kept."""
        return request.key(self._identity)

    def _affordable(self, missing: list[tuple[str, Request]]) -> list[tuple[str, Request]]:
        if self._over_tokens() or self._over_requests():
            self._refuse()
        cap = self._budget.requests
        return missing if cap is None else missing[: cap - self._sent]

    def _over_requests(self) -> bool:
        return self._budget.requests is not None and self._sent >= self._budget.requests

    def _over_tokens(self) -> bool:
        return self._budget.tokens is not None and self._tokens >= self._budget.tokens

    def _refuse(self) -> None:
        raise BudgetError(
            f"the budget is used up: {self._sent:,} requests sent, {self._tokens:,} tokens.",
            hint="Everything so far is kept; raise budget.requests or budget.tokens and run the same command again.",
        )

    def _count(self, response: Response | None) -> None:
        """Count a request when it is sent (``None``) and its tokens when it is answered."""
        if response is None:
            self._sent += 1
        else:
            self._tokens += response.usage.prompt_tokens + response.usage.completion_tokens


def ask_sample(config: TeacherConfig, teacher: AsyncTeacher | EngineTeacher, requests: Sequence[Request]) -> list[Response]:
    """Return answers outside any run, in order; nothing is committed and nothing is tried twice.

    Raises:
        TeacherError: an attempt failed.
    """
    if isinstance(teacher, EngineTeacher):
        seeds = [int(request.key(config.identity())[:7], 16) for request in requests]
        answers = dict(teacher.generate_batch(requests, seeds))
        return [answers[position] for position in range(len(requests))]

    async def ask(teacher: AsyncTeacher) -> list[Response]:
        try:
            return list(await asyncio.gather(*(teacher.generate(request) for request in requests)))
        finally:
            await teacher.close()

    return asyncio.run(ask(teacher))


async def _until_stop(seconds: float) -> None:
    """Sleep, but not through a stop: a long ``Retry-After`` must not hold up Ctrl-C."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stop_requested():
        await asyncio.sleep(min(left, _LOOK_FOR_STOP_S))


class _Work:
    """Answers on their way into the journal, committed in small groups."""

    def __init__(
        self,
        executor: Executor,
        known: dict[str, Response | TeacherError],
        answered: Callable[[dict[str, Response | TeacherError]], None] | None,
    ) -> None:
        self.executor = executor
        self.known = known
        self.answered = answered
        self.fresh: list[tuple[str, Request, Response]] = []
        self.committed_at = time.monotonic()

    def add(self, key: str, request: Request, response: Response) -> None:
        self.executor._count(response)
        self.fresh.append((key, request, response))
        if len(self.fresh) >= _COMMIT_AT or time.monotonic() - self.committed_at >= _COMMIT_EVERY_S:
            self.commit()

    def commit(self) -> None:
        if self.fresh:
            self.executor._journal.commit_answers(self.fresh, self.executor._identity)
            self.known.update({key: response for key, _, response in self.fresh})
            self.fresh = []
            if self.answered is not None:
                self.answered(self.known)
        self.committed_at = time.monotonic()


class _BatchWork(_Work):
    """An engine in this process."""

    def run(self, teacher: EngineTeacher, missing: list[tuple[str, Request]]) -> None:
        # The key decides the sampling seed, so that an answer depends on nothing else.
        seeds = (int(key[:7], 16) for key, _ in missing)
        try:
            for position, response in teacher.generate_batch(self._feed(missing), seeds):
                self.add(*missing[position], response)
        finally:
            self.commit()

    def _feed(self, missing: list[tuple[str, Request]]) -> Iterator[Request]:
        for _, request in missing:
            if stop_requested() or self.executor._over_tokens():
                return
            self.executor._count(None)
            yield request


class _AsyncWork(_Work):
    """A teacher behind a network: ``concurrency`` workers take requests from one queue."""

    def run(self, teacher: AsyncTeacher, missing: list[tuple[str, Request]]) -> None:
        self.queue = deque(missing)
        self.failures_in_a_row = 0
        self.fatal: TeacherError | None = None
        asyncio.run(self._all(teacher))
        if self.fatal is not None:
            raise self.fatal

    async def _all(self, teacher: AsyncTeacher) -> None:
        width = min(self.executor._config.concurrency, len(self.queue))
        timer = asyncio.create_task(self._commit_in_time())
        try:
            # A defect in one worker must not cost the answers that the others are waiting for.
            ended = await asyncio.gather(*(self._worker(teacher) for _ in range(width)), return_exceptions=True)
        finally:
            timer.cancel()
            try:
                self.commit()
            finally:
                await teacher.close()
        for error in ended:
            if error is not None:
                raise error

    async def _commit_in_time(self) -> None:
        """Commit what waits while no further answer comes: a paid answer is not at risk for long."""
        while True:
            await asyncio.sleep(_COMMIT_EVERY_S)
            if time.monotonic() - self.committed_at >= _COMMIT_EVERY_S:
                self.commit()

    async def _worker(self, teacher: AsyncTeacher) -> None:
        try:
            await self._take(teacher)
        except Exception:
            self.queue.clear()
            raise

    async def _take(self, teacher: AsyncTeacher) -> None:
        while self.queue and not self.fatal and not stop_requested() and not self.executor._over_tokens():
            key, request = self.queue.popleft()
            try:
                response = await self._attempts(teacher, request)
            except TeacherError as error:
                self._failed(key, error)
            else:
                if response is not None:
                    self.failures_in_a_row = 0
                    self.add(key, request, response)

    def _failed(self, key: str, error: TeacherError) -> None:
        """Give up on one request, or on the teacher when nothing of it works."""
        self.failures_in_a_row += 1
        nothing_works = not self.known and not self.fresh and not error.retryable
        if nothing_works or self.failures_in_a_row >= _FAILURES_IN_A_ROW:
            self.fatal = error
        else:
            self.known[key] = error

    async def _attempts(self, teacher: AsyncTeacher, request: Request) -> Response | None:
        """Return the answer, or ``None`` when a stop or a cap came between two attempts."""
        attempts = self.executor._config.attempts
        for attempt in range(1, attempts + 1):
            # Other requests' second attempts count, too: the cap may be reached with some never sent.
            if stop_requested() or self.executor._over_requests():
                return None
            self.executor._count(None)
            try:
                return await teacher.generate(request)
            except PermanentError:
                raise
            except TransientError as error:
                if attempt == attempts:
                    raise
                wait = error.retry_after if error.retry_after is not None else 0.5 * 2 ** (attempt - 1)
                pause = self.executor._pause(min(wait, _LONGEST_PAUSE_S) * self.executor._jitter.uniform(1.0, 1.25))
                if asyncio.iscoroutine(pause):
                    await pause
        return None
