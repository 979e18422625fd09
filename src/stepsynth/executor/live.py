"""A teacher behind a network: many requests in flight, failures tried again, everything drained at the end.

The next request is started by the end of another one, so there are no idle workers and no polling.
How many are in flight is the `Limiter`'s decision, whether one may be sent at all the `Account`'s.
Retries have one owner, this module: exactly ``attempts`` attempts per request, and at most one more
after a time-out that may be billed. A failed request backs off on its own; a wait that the server
asks for on any request holds the whole teacher, and the request that was told so has lost no attempt.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from stepsynth.errors import AskAgainError, TeacherError, TransientError
from stepsynth.executor.grouping import grouped
from stepsynth.executor.work import COMMIT_EVERY_S, Work
from stepsynth.interrupt import stop_requested
from stepsynth.journal import Amount
from stepsynth.teachers import MOST_FORMS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepsynth.teachers import AsyncTeacher
    from stepsynth.types import Request, Response

__all__ = ["LiveWork", "ManyTeacher"]

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
_TICK_S = COMMIT_EVERY_S / 2
# What tells of too many requests at once.
_OVERLOAD = frozenset({"overload", "unavailable", "timeout"})
# Where a lost connection may be billed, the server has most likely not worked on the request to its end.
_CUT_OFF = frozenset({"connection", "damaged"})
# A limit or a full server that says how long it takes: no fault of the request.
_LIMITS = frozenset({"overload", "unavailable"})


@runtime_checkable
class ManyTeacher(Protocol):
    """A teacher that answers several requests with equal messages and sampling by one request to its server."""

    async def generate_many(self, requests: Sequence[Request]) -> list[Response]:
        """Return one answer per request, in order, by exactly one attempt; see `AsyncTeacher.generate`.

        A list that is shorter answers the first requests only; the executor asks for the others one
        by one. A teacher may have an attribute ``rows_limit``: the most requests that it takes now.
        """
        ...


@dataclass(slots=True)
class _Job:
    """One send: a request, or several that are asked for at once."""

    items: list[tuple[str, Request]]
    cost: Amount = field(default_factory=Amount)
    attempts: int = 0
    forms: int = 0
    timeouts: int = 0
    doubtful: bool = False


class LiveWork(Work):
    """Requests one by one, or in groups where the server gives several answers to one prompt."""

    def run(self, teacher: AsyncTeacher, missing: list[tuple[str, Request]]) -> None:
        """Send what is missing until it is answered, has failed for good, or a cap or a stop ends it.

        Raises:
            TeacherError: nothing of the teacher works.
        """
        config = self.executor.config
        self.many = config.rows_per_request if isinstance(teacher, ManyTeacher) else 1
        self.queue = deque(_Job(items) for items in grouped(missing, self.many))
        self.teacher = teacher
        # What backs off has been started, too: a server that is down is not shown the whole plan.
        self.most_started = config.concurrency + config.concurrency // 2
        self.limiter = self.executor.limiter
        self.limiter.in_flight = 0
        self.pausing = 0
        self.pacing = False
        self.error: BaseException | None = None
        self.blocked = False
        self.sending: set[asyncio.Task[None]] = set()
        self.sleeping: set[asyncio.Task[None]] = set()
        self.backing_off = 0
        self.writing: asyncio.Task[None] | None = None
        asyncio.run(self._all())
        outcomes = self.executor.outcomes
        if self.error is None and outcomes.hopeless and not self.blocked and not stop_requested():
            self.error = outcomes.verdict()
        if self.error is not None:
            raise self.error

    def upcoming(self) -> int:
        """Return how many sends wait."""
        return 0 if self._ending() else len(self.queue) + self.backing_off

    async def _all(self) -> None:
        self.idle = asyncio.Event()
        self.thread = ThreadPoolExecutor(1, "commits")
        watch = asyncio.create_task(self._watch())
        try:
            if (left := self.executor.paused_until - self.executor.clock()) > 0:
                self._hold(left)
            self._fill()
            await self.idle.wait()
        finally:
            self.queue.clear()
            for task in (watch, *self.sleeping):
                task.cancel()
            if self.writing is not None:
                await asyncio.wait([self.writing])
            self.executor.pauses.end()
            # After a second Ctrl-C it may still be at work.
            self.thread.shutdown()
            try:
                self.commit()
            finally:
                await self.teacher.close()

    async def _watch(self) -> None:
        """Commit what waits while no further answer comes, and hear of a stop while everybody sleeps."""
        while True:
            await asyncio.sleep(_TICK_S)
            if stop_requested():
                self._wake_up()
            if self.due(full=False):
                self.flush()

    # sending ---------------------------------------------------------------------------

    def _ending(self) -> bool:
        return self.error is not None or stop_requested()

    def _fill(self) -> None:
        """Send as much as may be sent now; notice the end."""
        outcomes = self.executor.outcomes
        if outcomes.doubtful and not self.limiter.in_flight and self.error is None:
            # All that was on its way has come back, and nothing of it was an answer.
            self._break(outcomes.verdict())
        try:
            while self.queue:
                if len(self.queue[0].items) > getattr(self.teacher, "rows_limit", self.many):
                    self._split(self.queue.popleft())
                if not self._may_start(self.queue[0]):
                    break
                self._start(self.queue.popleft())
        except Exception as error:
            self._break(error)
        if self.limiter.in_flight or self.writing is not None:
            return
        waiting = (self.queue and not self.blocked) or self.backing_off
        if self._ending() or self.blocked or not waiting:
            self.idle.set()

    def _may_start(self, job: _Job) -> bool:
        if self._ending() or self.pausing or not self.limiter.room or self.executor.outcomes.doubtful or self._too_early():
            return False
        if not job.attempts and self.limiter.in_flight + self.backing_off >= self.most_started:
            return False
        job.cost = self.account.cost([request for _, request in job.items])
        if not self.account.fits(job.cost):
            return self._does_not_fit(job)
        if self.account.begin(job.cost):
            return True
        self.flush(least=job.cost)
        return False

    def _too_early(self) -> bool:
        """Whether the next request has to wait for its turn; it wakes up then."""
        wait = self.executor.pace.wait(self.executor.clock())
        if wait > 0 and not self.pacing:
            self.pacing = True
            self._sleep(wait, self._in_turn)
        return wait > 0

    def _in_turn(self) -> None:
        self.pacing = False

    def _does_not_fit(self, job: _Job) -> bool:
        """Wait for what is in flight to tell what it took; then try fewer rows, then give up."""
        if not self.limiter.in_flight:
            if len(job.items) > 1:
                self._split(self.queue.popleft())
                return self._may_start(self.queue[0])
            self.blocked = True
        return False

    def _split(self, job: _Job) -> None:
        alone = [_Job([item], attempts=job.attempts, timeouts=job.timeouts, doubtful=job.doubtful) for item in job.items]
        self.queue.extendleft(reversed(alone))

    def _start(self, job: _Job) -> None:
        job.attempts += 1
        self.executor.pace.sent(self.executor.clock())
        if job.doubtful:
            self.account.ledger.billed_twice += 1
            job.doubtful = False
        task = asyncio.get_running_loop().create_task(self._send(job, self.limiter.sent()))
        self.sending.add(task)
        task.add_done_callback(self.sending.discard)
        if self.account.low(self.upcoming()):
            self.flush()

    async def _send(self, job: _Job, number: int) -> None:
        """Make one attempt."""
        clock = self.executor.clock
        started = clock()
        try:
            responses = await self._ask(job)
            if not responses:
                raise TransientError("the teacher gave no answer.", kind="damaged")
        except TeacherError as error:
            self._failed(job, number, error)
        except Exception as error:
            # A defect must not cost the answers that the others are waiting for.
            self.limiter.ended()
            self.account.count_sent(job.cost)
            self.account.release(job.cost)
            self._break(error)
        else:
            self.limiter.answered(number, clock() - started)
            self._came(job, responses)
        self._fill()

    async def _ask(self, job: _Job) -> list[Response]:
        if len(job.items) == 1:
            return [await self.teacher.generate(job.items[0][1])]
        teacher: Any = self.teacher
        responses: list[Response] = await teacher.generate_many([request for _, request in job.items])
        return responses

    # what became of it -----------------------------------------------------------------

    def _came(self, job: _Job, responses: list[Response]) -> None:
        self.executor.pauses.answered()
        self.executor.pace.answered()
        self.account.count_sent(job.cost)
        self.account.answered(job.cost, [request for _, request in job.items], responses)
        for (key, request), response in zip(job.items, responses, strict=False):
            self.executor.outcomes.came(response)
            try:
                self.add(key, request, response)
                self.executor.room.check()
            except Exception as error:
                self._break(error)
        # A server that gives fewer answers than asked for is asked for the rest one by one.
        self.queue.extendleft(_Job([item]) for item in reversed(job.items[len(responses) :]))

    def _failed(self, job: _Job, number: int, error: TeacherError) -> None:
        self.account.count_sent(job.cost)
        job.doubtful = self.account.failed(job.cost, error)
        if error.kind in _OVERLOAD:
            self.limiter.refused(number)
        else:
            self.limiter.ended()
        if isinstance(error, TransientError):
            job.timeouts += error.maybe_billed and error.kind not in _CUT_OFF
            if error.retry_after:
                self._pause_all(error)
        self._again_or_never(job, error)

    def _again_or_never(self, job: _Job, error: TeacherError) -> None:
        if isinstance(error, AskAgainError) and job.forms < MOST_FORMS:
            # What it was refused for is no fault of the request, so it is no attempt of it either.
            job.forms, job.attempts = job.forms + 1, job.attempts - 1
            self.executor.retries[error.kind] += 1
            self.queue.appendleft(job)
            return
        if isinstance(error, TransientError) and error.retry_after and error.kind in _LIMITS:
            job.attempts -= 1
            self.executor.retries[error.kind] += 1
            self.queue.appendleft(job)
            return
        if not error.retryable or job.attempts >= self.executor.config.attempts or job.timeouts > 1:
            self._give_up(job, error)
            return
        self.executor.retries[error.kind] += 1
        if self.pausing and isinstance(error, TransientError) and error.retry_after:
            self.queue.appendleft(job)
        else:
            self.backing_off += 1
            longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (job.attempts - 1))
            self._sleep(self.executor.jitter.uniform(0.0, longest), lambda: self._backed_off(job))

    def _give_up(self, job: _Job, error: TeacherError) -> None:
        """Give up on a request, or on the teacher when nothing of it works."""
        if (final := self.executor.outcomes.gave_up(error)) is not None:
            self._break(final)
        else:
            self.known.update(dict.fromkeys((key for key, _ in job.items), error))

    def _break(self, error: BaseException) -> None:
        """Send nothing more; the first error is raised when everything in flight has ended."""
        self.error = self.error or error
        self._wake_up()

    # committing ------------------------------------------------------------------------

    def flush(self, least: Amount | None = None) -> None:
        """Commit beside everything else, one commit at a time."""
        if self.writing is None and (self.fresh or self.account.changed or least is not None):
            self.writing = asyncio.get_running_loop().create_task(self._write(least))

    async def _write(self, least: Amount | None) -> None:
        started, journal = self.executor.clock(), self.executor.journal
        self.account.reserve(self.upcoming(), least)
        fresh, self.fresh = self.fresh, []
        ledger, self.account.changed = self.account.ledger.copy(), False

        def write() -> None:
            if fresh:
                journal.commit_answers(fresh, self.executor.identity, ledger=ledger)
            else:
                journal.commit_ledger(ledger)

        try:
            await asyncio.wrap_future(self.thread.submit(write))
            self.account.confirm()
        except BaseException as error:
            # Written again at the end; what is there by then stays as it is.
            self.fresh = fresh + self.fresh
            self.account.forget()
            if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
                raise
            self._break(error)
        else:
            try:
                self.committed(fresh, started)
            except Exception as error:
                self._break(error)
        self.writing = None
        self._fill()

    # waiting ---------------------------------------------------------------------------

    def _pause_all(self, error: TransientError) -> None:
        """Send nothing to this teacher for as long as it asks, or end where that is too long."""
        executor = self.executor
        if self._ending():
            return
        if not self.pausing and error.kind == "overload":
            executor.pace.refused(executor.clock(), error.retry_after or 0.0)
        if (end := executor.pauses.too_long(error, new=not self.pausing)) is not None:
            self._break(end)
            return
        seconds = executor.pauses.length(error, executor.jitter.uniform)
        executor.pauses.begin(seconds, error)
        self._hold(seconds)

    def _hold(self, seconds: float) -> None:
        """Send nothing for so long; the longest of several such pauses counts."""
        self.pausing += 1
        # The next wave of requests is another work and must keep to it, too.
        self.executor.paused_until = max(self.executor.paused_until, self.executor.clock() + seconds)
        self._sleep(seconds, self._paused)

    def _paused(self) -> None:
        self.pausing -= 1
        if not self.pausing:
            self.executor.paused_until = 0.0
            self.executor.pauses.end()
            self.limiter.restart()

    def _backed_off(self, job: _Job) -> None:
        self.backing_off -= 1
        self.queue.appendleft(job)

    def _sleep(self, seconds: float, then: Callable[[], None]) -> None:
        async def sleep() -> None:
            paused = self.executor.pause(seconds)
            if inspect.isawaitable(paused):
                await paused
            self.sleeping.discard(task)
            then()
            self._fill()

        task = asyncio.get_running_loop().create_task(sleep())
        self.sleeping.add(task)

    def _wake_up(self) -> None:
        """End all pauses: a long one must not hold up Ctrl-C."""
        for task in self.sleeping:
            task.cancel()
        self.sleeping.clear()
        self._fill()
