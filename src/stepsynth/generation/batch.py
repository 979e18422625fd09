"""Sends requests through a provider's batch API: a job is recorded, submitted and polled, then its answers are fetched.

    intent committed -> submitted -> provider's id committed -> polled -> answers committed, job closed

A process may be killed at any of these arrows. The next one finds the intent. With an id it continues to
poll. Without one it looks for the job's name at the provider, and resubmits the requests only if the
name was never seen. Nothing is thrown away and nothing that was answered is paid for twice.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from stepsynth.errors import Interrupted, PermanentError, RunError, TeacherError, TransientError
from stepsynth.generation.dispatcher import Dispatcher
from stepsynth.journal import Cost, Job
from stepsynth.runtime.failpoints import fail_point
from stepsynth.runtime.shutdown import check_stop, stop_requested
from stepsynth.teachers.provider_batch import DEFAULT_LIMITS, KEY_DIGITS, Limits, chunk_requests, draw_name
from stepsynth.types import Response

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from stepsynth.generation.dispatcher import Context
    from stepsynth.journal import Journal
    from stepsynth.teachers import BatchApiTeacher, BatchJob
    from stepsynth.types import Request

__all__ = ["BatchDispatcher", "check_nothing_is_out"]

_FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0
_PAUSE_GROWS = 1.5
_LOOK_FOR_STOP_S = 0.2
# A job may take a while to be listed: its name is looked up over pauses of this length together. They are counted, not the
# looks: other jobs that move make pauses short. An old job is no exception: a clock that was set forward makes a new one
# look old, and it would be submitted and paid for twice.
_LISTED_WITHIN_S = 40.0
# Failed calls in a row after which a provider counts as down; its jobs continue there.
_TROUBLES_IN_A_ROW = 10
# Both providers keep results for about 30 days.
_RESULTS_KEPT_S = 29 * 86400.0


class BatchDispatcher(Dispatcher):
    """Uses a provider's batch API: jobs of the largest allowed size, several at once, polled with growing pauses.

    Caps apply to what was spent plus the worst case of every open job. Jobs of earlier processes are
    read from the journal, so a kill neither frees nor doubles a reservation.

    Args:
        teacher: closed at the end.
        missing: key and request, in plan order.
        context: see `Context`.
    """

    def __init__(self, teacher: BatchApiTeacher, missing: list[tuple[str, Request]], context: Context) -> None:
        self._teacher = teacher
        self._wanted = dict(missing)
        self._context = context
        self._budget = context.budget
        self._committer = context.committer
        self._known = context.known
        self._store = context.jobs
        self._came: set[str] = set()
        # Worst cases of jobs whose requests all belong to other plans.
        self._elsewhere = Cost()
        self._jobs: dict[str, Job] = {}
        self._done: dict[str, int] = {}
        self._attempts: Counter[str] = Counter()
        # Seconds of all pauses so far, now and when a job's name was first looked up.
        self._paused_s = 0.0
        self._first_look: dict[str, float] = {}
        self._troubles = self._vanished = 0
        self._lost_by: TransientError | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._held: TeacherError | None = None
        self._fatal: TeacherError | None = None

    def run(self) -> None:
        """Fetch answers into the journal, first those of jobs that an earlier process left behind.

        Raises:
            Interrupted: a stop was asked for; submitted jobs continue at the provider.
            TeacherError: the provider refuses the requests, the key or a job, or is down.
        """
        self._jobs = {job.name: job for job in self._store.open() if self._concerns_us(job)}
        asyncio.run(self._all())

    async def _all(self) -> None:
        try:
            while True:
                await self._hand_in()
                if not self._jobs:
                    break
                await self._ask_after_all()
                if self._fatal is not None:
                    raise self._fatal
        finally:
            self._context.state.limiter.in_flight = 0
            try:
                self._committer.commit()
            finally:
                await self._teacher.close()

    def _concerns_us(self, job: Job) -> bool:
        """Whether a job has wanted requests; close it if all its answers are known, leave it if none are wanted now."""
        # A request with an answer may be wanted again: one that was cut off, after the limit was raised.
        rest = self._store.unanswered(job) | (self._wanted.keys() & set(job.keys))
        if not rest:
            self._store.close(job, "ended")
        elif rest.isdisjoint(self._wanted):
            self._elsewhere += job.worst
        else:
            return True
        return False

    # sending ---------------------------------------------------------------------------

    async def _hand_in(self) -> None:
        """Submit the waiting requests that are in no job, as far as the caps allow."""
        if self._held is not None and self._jobs:
            return
        self._held = None
        taken = {key for job in self._jobs.values() for key in job.keys}
        waiting = [
            (key, request)
            for key, request in self._wanted.items()
            if not (key in taken or key in self._came or key in self._known)
        ]
        limits: Limits = getattr(self._teacher, "limits", DEFAULT_LIMITS)
        for portion in chunk_requests(self._fitting(waiting), limits):
            while not await self._send(portion):
                await self._pause()

    def _fitting(self, waiting: list[tuple[str, Request]]) -> list[tuple[str, Request]]:
        """Return the first requests whose worst cases fit the caps together with those of all open jobs."""
        held = sum((job.worst for job in self._jobs.values()), self._elsewhere)
        for position, (_, request) in enumerate(waiting):
            held += self._budget.cost([request])
            if not self._budget.fits(held):
                return waiting[:position]
        return waiting

    async def _send(self, portion: Sequence[tuple[str, Request]]) -> bool:
        """Record a job and submit it; ``False`` if it certainly did not arrive and may be resubmitted."""
        self._check_stop()
        created = self._context.wall()
        worst = sum((self._budget.cost([request]) for _, request in portion), Cost())
        job = Job(draw_name(len(portion), created), tuple(key for key, _ in portion), created, worst)
        self._store.intend(job)
        self._jobs[job.name] = job
        fail_point("before send: batch")
        try:
            sent = await self._teacher.submit(job.name, portion)
        except TransientError as error:
            if error.maybe_billed:
                self._lost_by = error
                return True  # It is looked up before anything is sent again.
            self._end(job, "failed")
            self._trouble(error)
            return False
        except TeacherError:
            self._end(job, "failed")
            raise
        fail_point("after send: batch")
        self._arrived(job, sent.id)
        return True

    def _arrived(self, job: Job, job_id: str) -> None:
        self._jobs[job.name] = self._store.submitted(job, job_id)
        self._troubles = self._vanished = 0
        self._pause_s = _FIRST_PAUSE_S

    # waiting ---------------------------------------------------------------------------

    async def _ask_after_all(self) -> None:
        moved = False
        for job in list(self._jobs.values()):
            self._check_stop()
            try:
                moved |= await self._ask_after(job)
                self._troubles = 0
            except TransientError as error:
                self._trouble(error)
        self._tell()
        if moved:
            self._pause_s = _FIRST_PAUSE_S
        elif self._jobs:
            await self._pause()

    def _tell(self) -> None:
        """Show how many requests the provider still has."""
        left = sum(len(job.keys) for job in self._jobs.values()) - sum(self._done.values())
        if left != self._context.state.limiter.in_flight:
            self._context.state.limiter.in_flight = left
            self._context.show()

    async def _ask_after(self, job: Job) -> bool:
        """Poll a job and act on its state; return whether anything changed."""
        if job.id is None:
            return await self._look_for(job)
        try:
            state = await self._teacher.poll(job.id)
            if state.state == "ended":
                await self._bring_home(job, job.id)
        except PermanentError:
            if self._context.wall() - job.created < _RESULTS_KEPT_S:
                raise
            self._end(job, "lost")
            return True
        if state.state == "failed":
            self._refused(job, state)
        elif state.state == "running":
            self._done[job.name] = state.done
            return False
        return True

    async def _look_for(self, job: Job) -> bool:
        """Find out whether a job arrived whose submission was never confirmed."""
        found = await self._teacher.find(job.name)
        if found is not None:
            # Found without an id: a running job may be this one, which only its end will show.
            if found.id:
                self._arrived(job, found.id)
            return bool(found.id)
        if self._paused_s - self._first_look.setdefault(job.name, self._paused_s) < _LISTED_WITHIN_S:
            return False
        self._end(job, "lost")
        self._vanished += 1
        if self._vanished >= self._context.config.attempts:
            self._fatal = self._lost_by
        return True

    def _trouble(self, error: TransientError) -> None:
        """Pause longer after a failed call; raise after many in a row."""
        self._troubles += 1
        if self._troubles >= _TROUBLES_IN_A_ROW:
            raise error
        self._pause_s = max(self._pause_s, error.retry_after or 0.0)

    async def _pause(self) -> None:
        """Wait, unless a stop is asked for."""
        self._check_stop()
        seconds = min(self._pause_s, _LONGEST_PAUSE_S)
        pause = self._context.pause(seconds)
        if inspect.isawaitable(pause):
            sleeping = asyncio.ensure_future(pause)
            while not sleeping.done() and not stop_requested():
                await asyncio.wait({sleeping}, timeout=_LOOK_FOR_STOP_S)
            sleeping.cancel()
        self._paused_s += seconds
        self._pause_s = min(self._pause_s * _PAUSE_GROWS, _LONGEST_PAUSE_S)
        self._check_stop()

    def _check_stop(self) -> None:
        """Stop if asked to; the jobs continue at the provider."""
        if not stop_requested():
            return
        if not self._jobs:
            check_stop()
        requests = sum(len(job.keys) for job in self._jobs.values())
        one = len(self._jobs) == 1
        what = "the batch continues" if one else f"{len(self._jobs)} batches continue"
        raise Interrupted(
            f"stopped; {what} at the provider ({sum(self._done.values()):,} of {requests:,} requests done when last asked).",
            hint=f"The same command picks {'it' if one else 'them'} up.",
        )

    # fetching answers ------------------------------------------------------------------

    async def _bring_home(self, job: Job, job_id: str) -> None:
        """Commit a job's answers in groups as they come, and its end together with the last group."""
        whole = {key[:KEY_DIGITS]: key for key in job.keys}
        errors: dict[str, TeacherError] = {}
        answers = self._teacher.answers(job_id)
        try:
            async for short, outcome in answers:
                self._check_stop()
                key = whole.get(short[:KEY_DIGITS], "")
                request = self._wanted.get(key)
                if request is None or key in self._came:
                    continue
                if isinstance(outcome, Response):
                    errors.pop(key, None)
                    self._take(key, request, outcome)
                else:
                    errors[key] = outcome
        finally:
            # A partly read stream keeps its connection open.
            if isinstance(answers, AsyncGenerator):
                await answers.aclose()
        for error in errors.values():
            self._budget.count_sent(Cost(1))
            self._budget.ledger.count_failure(error.kind)
        self._end(job, "ended")
        self._context.room.check()
        self._judge([key for key in job.keys if key in self._wanted and key not in self._came], errors)

    def _take(self, key: str, request: Request, response: Response) -> None:
        """Count a request that ran and add its answer; if it exceeded its worst case, later jobs reserve more."""
        cost, response = self._budget.cost([request]), self._committer.priced(response)
        self._budget.count_sent(cost)
        self._budget.hold(cost)
        self._budget.answered(cost, [request], [response])
        self._came.add(key)
        self._committer.add(key, request, response)
        if self._committer.due:
            self._committer.commit()

    def _judge(self, unanswered: Sequence[str], errors: dict[str, TeacherError]) -> None:
        """Give up requests that were refused or failed too often; other unanswered ones wait for the next job."""
        expired = TransientError("the batch ended before the provider processed this request.", kind="timeout")
        for key in unanswered:
            error = errors.get(key, expired)
            self._attempts[key] += 1
            if not error.retryable or self._attempts[key] >= self._context.config.attempts:
                if not any(isinstance(answer, Response) for answer in self._known.values()):
                    # Nothing was ever answered: a wrong model must not turn into failed rows.
                    self._fatal = error
                    return
                self._known[key] = error

    def _refused(self, job: Job, state: BatchJob) -> None:
        """Close a refused job and wait for the others; if there are none, end the run."""
        self._end(job, "failed")
        self._held = PermanentError(
            f"the provider refused the batch {state.id!r}: {state.message!r}; none of its requests ran.",
            hint="Fix the reported problem and run it again; if the queue is full, try later.",
            kind="refused",
        )
        if not self._jobs:
            raise self._held

    def _end(self, job: Job, how: Literal["ended", "failed", "lost"]) -> None:
        """Commit the last answers, and in the same transaction close the job."""
        self._jobs.pop(job.name)
        self._done.pop(job.name, None)
        if how == "ended" and not self._store.unanswered(job) <= self._wanted.keys():
            # It also has answers for another plan, which will fetch it again.
            self._elsewhere += job.worst
            self._committer.commit()
        else:
            self._budget.changed = True
            self._committer.commit(also=lambda: self._store.close(job, how))


def check_nothing_is_out(journal: Journal, missing: Sequence[tuple[str, Request]]) -> None:
    """Refuse to send live what a batch at the provider will answer: it would be paid for twice.

    Raises:
        RunError: some of the requests are in a batch whose answers have not been fetched.
    """
    wanted = {key for key, _ in missing}
    out = sum(len(wanted & set(job.keys)) for job in journal.jobs.open())
    if out:
        what = f"{out:,} of these requests are in a batch at the provider whose answers have not been fetched yet."
        raise RunError(what, hint="Set teacher.mode: batch again and run the same command; after that it may be live.")
