"""Turns requests into answers: known ones cost nothing, the rest are sent to the teacher, within every cap."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, cast

from stepsynth.errors import RunError, TransientError
from stepsynth.generation.budget import BudgetGuard
from stepsynth.generation.committer import Committer
from stepsynth.generation.dispatcher import Context, Dispatcher
from stepsynth.generation.live import AsyncDispatcher
from stepsynth.generation.local import LocalDispatcher
from stepsynth.generation.lookup import Lookup
from stepsynth.generation.outcomes import Outcomes
from stepsynth.generation.pace import Pace
from stepsynth.generation.pausing import Pauses
from stepsynth.generation.room import ENGINES, RoomWatch, with_room
from stepsynth.generation.scheduler import TeacherState
from stepsynth.runtime.progress import RequestStats
from stepsynth.runtime.shutdown import check_stop
from stepsynth.teachers import AsyncTeacher, EngineTeacher, SeveralTeacher, StartedTeacher, answer_of, create_teacher
from stepsynth.teachers.adaptive_concurrency import AdaptiveConcurrency
from stepsynth.teachers.prices import price_of
from stepsynth.teachers.reading import answer_text
from stepsynth.types import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepsynth.config import BudgetConfig, TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.journal import Journal
    from stepsynth.runtime.progress import Pause
    from stepsynth.teachers import BatchApiTeacher
    from stepsynth.types import Request

__all__ = ["TeacherClient", "ask_sample"]

# The first requests leave when so many are looked up.
_LOOKED_UP_AT_ONCE = 256
# Window for answers per second.
_RATE_OVER_S = 5.0
# How often and how long a sample waits if a server asks for it; the user is watching.
_SAMPLE_WAITS = 3
_LONGEST_SAMPLE_WAIT_S = 30.0


class TeacherClient:
    """Gets answers for requests.

    Args:
        config: concurrency, attempts, price and the teacher's identity.
        journal: where answers are looked up and committed; has the ledger of sends.
        budget: hard caps on what is sent.
        teacher: an open teacher, or ``None`` to open the configured one at the first missing
            answer (a resumed run may need none).
        pause: sleeps between attempts (seconds -> awaitable); a test replaces it.
        clock: seconds; measures latencies and when commits are due.
        wall: seconds since 1970; the age of batches, and when pauses end.
        jitter: spreads pauses.
        paused: called with a pause of the server when it begins, and with ``None`` when it is over.
        note: called with one-sentence messages for the user.

    Attributes:
        config: as given.
        journal: as given.
        identity: the part of the request keys that identifies the teacher.
        budget: spending, reservations and caps.
        room: detects answers cut off before they say anything.
        limiter: how many requests may be in flight; kept between calls of `run`.
        retries: retries by this client, by kind of the failure.
        pauses: the server's pauses so far.
        pace: requests per minute, as set or learned.
        outcomes: whether anything was answered, and what was refused.

    Raises:
        ConfigError: dollars are capped and the teacher's price is unknown.
    """

    def __init__(
        self,
        config: TeacherConfig,
        journal: Journal,
        budget: BudgetConfig,
        *,
        teacher: AsyncTeacher | EngineTeacher | BatchApiTeacher | None = None,
        pause: Callable[[float], object] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        jitter: random.Random | None = None,
        paused: Callable[[Pause | None], object] | None = None,
        note: Callable[[str], object] | None = None,
    ) -> None:
        self.config = config
        self.journal = journal
        self.identity = config.identity()
        self.budget = BudgetGuard(config, journal.ledger, budget, price_of(config))
        self.limiter = AdaptiveConcurrency(config.most_in_flight)
        self.retries: Counter[str] = Counter()
        self.pause = pause
        self.clock = clock
        self.wall = wall
        self.jitter = jitter or random.Random()
        self.pauses = Pauses(config, paused, wall=wall)
        self.pace = Pace(config.requests_per_minute)
        self.outcomes = Outcomes(answered_before=journal.ledger.answers > 0)
        self.room = RoomWatch(config)
        self._state = TeacherState(self.limiter, self.pace, self.pauses, self.outcomes, self.retries)
        self._note = note or (lambda _: None)
        self._teacher = teacher
        self._lent = teacher is not None
        self._rate: deque[tuple[float, int]] = deque(maxlen=256)

    @property
    def paused_until(self) -> float:
        """When the server's pause ends, by ``clock``."""
        return self.pauses.resume_at

    @paused_until.setter
    def paused_until(self, until: float) -> None:
        self.pauses.resume_at = until

    def run(
        self, requests: Sequence[Request], answered: Callable[[dict[str, Response | TeacherError]], None] | None = None
    ) -> dict[str, Response | TeacherError]:
        """Return by request key the answer, or the error that ended its attempts.

        Args:
            requests: in plan order.
            answered: called after each commit with everything known so far, in order of arrival.

        Raises:
            BudgetError: a cap is reached; what was answered is committed.
            RunError: some of the requests are in a batch at the provider, and ``teacher.mode`` is live;
                or all answers are cut off before they say anything.
            TeacherError: the teacher cannot be used at all (wrong key, down).
            Interrupted: a stop was asked for; answers to requests in flight are committed.
        """
        lookup = Lookup(requests, self.config, self.journal, self.room, self._note)
        lookup.some(_LOOKED_UP_AT_ONCE)
        if not self._looks_up_meanwhile():
            lookup.rest()
        if lookup.missing:
            self._check_room(lookup)
        if lookup.ended or not lookup.missing:
            lookup.tell()
        known, missing = lookup.known, lookup.missing
        if known:
            self.outcomes.known()
        if answered is not None and known:
            answered(known)
        if missing:
            check_stop()
            self._check_batches(missing)
            self.budget.start()
            self._check_caps(missing[0][1])
            teacher = self._teacher = self._teacher or create_teacher(self.config)
            if isinstance(teacher, StartedTeacher):
                teacher.start(self._note)
            self._rate.append((self.clock(), self.budget.ledger.answers))
            try:
                self._dispatcher(teacher, lookup, answered).run()
            finally:
                lookup.tell()
                self._tell(teacher)
            check_stop()
            left = next((request for key, request in missing if key not in known), None)
            if left is not None:
                raise self.budget.refuse(self.budget.cost([left]))
        return known

    def _looks_up_meanwhile(self) -> bool:
        """Whether the rest of a plan may be looked up while its first requests are in flight: if they are sent one by one."""
        engine = self.config.backend in ENGINES or isinstance(self._teacher, EngineTeacher)
        return not (engine or self.config.mode == "batch" or self.config.rows_per_request > 1 or self.journal.jobs.open())

    def _check_room(self, lookup: Lookup) -> None:
        try:
            self.room.check()
        except RunError:
            # Answers that are looked up later may show that it is not so.
            lookup.rest()
            self.room.check()

    def _tell(self, teacher: object) -> None:
        """Forward, once, the teacher's notes about changes to what it sends."""
        notes = getattr(teacher, "notes", None)
        if isinstance(notes, list):
            for line in notes:
                self._note(line)
            notes.clear()

    def rest(self) -> None:
        """Free an engine's memory before training; the next unknown answer reopens it."""
        if not self._lent and isinstance(self._teacher, StartedTeacher):
            self._teacher.rest()
        elif not self._lent and isinstance(self._teacher, EngineTeacher):
            self._teacher = None
            # An engine in a reference cycle would stay in memory until the next collection.
            gc.collect()

    def close(self) -> None:
        """Forget the teacher; of several servers or engines, report how many requests each has answered."""
        if isinstance(self._teacher, SeveralTeacher):
            self._note(self._teacher.answered_summary())
        self.release()

    def release(self) -> None:
        """Forget the teacher; engines on other machines end."""
        if not self._lent and isinstance(self._teacher, StartedTeacher):
            self._teacher.release()
        self._teacher = None

    def key(self, request: Request) -> str:
        """Return the key under which a request's answer is stored."""
        return request.key(self.identity)

    def text(self, response: Response) -> str:
        """Return an answer's text without thoughts and JSON wrapping; the journal keeps the raw answer."""
        return answer_text(self.config, response)

    def traffic(self) -> RequestStats:
        """Return the current traffic; cheap enough for every update of a progress bar."""
        ledger, now = self.budget.ledger, self.clock()
        while len(self._rate) > 1 and now - self._rate[0][0] > _RATE_OVER_S:
            self._rate.popleft()
        since, before = self._rate[0] if self._rate else (now, ledger.answers)
        # An engine queues what exceeds its width; our limit does not apply to a provider's batch.
        limit = 0 if self.config.mode == "batch" else self.limiter.limit
        return RequestStats(
            sent=ledger.attempts + self.budget.in_flight,
            in_flight=min(self.limiter.in_flight, limit) if limit else self.limiter.in_flight,
            limit=limit,
            answers=ledger.answers,
            retries=dict(self.retries),
            tokens=ledger.prompt_tokens + ledger.completion_tokens,
            usd=None if self.budget.price is None and not ledger.answers else ledger.cost_usd,
            per_second=(ledger.answers - before) / (now - since) if now > since else 0.0,
            pause=self.pauses.now,
            per_minute=self.pace.per_minute,
        )

    def _check_caps(self, request: Request) -> None:
        """Refuse before a teacher is opened; in batch mode the answers already paid for are fetched first."""
        if self.config.mode == "batch":
            return
        cost = self.budget.cost([request])
        if not self.budget.fits(cost):
            raise self.budget.refuse(cost)

    def _check_batches(self, missing: Sequence[tuple[str, Request]]) -> None:
        """Refuse to send live what a batch at the provider will answer."""
        if self.config.mode != "batch" and self.journal.jobs.open():
            from stepsynth.generation.batch import check_nothing_is_out

            check_nothing_is_out(self.journal, missing)

    def _dispatcher(
        self,
        teacher: AsyncTeacher | EngineTeacher | BatchApiTeacher,
        lookup: Lookup,
        answered: Callable[[dict[str, Response | TeacherError]], None] | None,
    ) -> Dispatcher:
        """Choose the dispatcher for a teacher."""

        def show() -> None:
            if answered is not None:
                answered(lookup.known)

        context = self._context(lookup.known, show)
        if isinstance(teacher, EngineTeacher):
            # A plug-in's engine is not known as one before it is open.
            lookup.rest()
            return LocalDispatcher(teacher, lookup.missing, context)
        if self.config.mode == "batch":
            from stepsynth.generation.batch import BatchDispatcher

            return BatchDispatcher(cast("BatchApiTeacher", teacher), lookup.missing, context)
        return AsyncDispatcher(cast("AsyncTeacher", teacher), lookup.missing, context, None if lookup.ended else lookup)

    def _context(self, known: dict[str, Response | TeacherError], show: Callable[[], None]) -> Context:
        def told() -> None:
            self._rate.append((self.clock(), self.budget.ledger.answers))
            self._tell(self._teacher)
            show()

        journal, identity = self.journal, self.identity
        committer = Committer(journal, identity, self.budget, self.room, clock=self.clock, known=known, told=told)
        return Context(
            config=self.config,
            state=self._state,
            budget=self.budget,
            committer=committer,
            room=self.room,
            known=known,
            show=show,
            jobs=journal.jobs,
            pause=self.pause,
            clock=self.clock,
            wall=self.wall,
            jitter=self.jitter,
        )


def ask_sample(
    config: TeacherConfig,
    teacher: AsyncTeacher | EngineTeacher,
    requests: Sequence[Request],
    waiting: Callable[[float], object] = lambda _: None,
) -> list[Response]:
    """Ask outside any run and return the answers in order; nothing is committed.

    Failures are not retried, except after a short wait that a server asks for.

    Args:
        config: the teacher's config.
        teacher: closed afterwards.
        requests: what to ask.
        waiting: called with the seconds of each wait before it begins.

    Raises:
        TeacherError: an attempt failed, or the wait is too long.
    """
    requests = [with_room(config, request) for request in requests]
    if isinstance(teacher, EngineTeacher):
        seeds = [int(request.key(config.identity())[:7], 16) for request in requests]
        answers = dict(teacher.generate_batch(requests, seeds))
        return [answers[position] for position in range(len(requests))]

    async def patiently(teacher: AsyncTeacher, request: Request) -> Response:
        for _ in range(_SAMPLE_WAITS):
            try:
                return await answer_of(teacher, request)
            except TransientError as error:
                seconds = error.retry_after
                if seconds is None or error.maybe_billed:
                    raise
                if seconds > _LONGEST_SAMPLE_WAIT_S:
                    hint = f"The server asks to wait {seconds:,.0f} s: run it again after that."
                    raise TransientError(error.message, hint=hint, kind=error.kind, retry_after=seconds, why=error.why) from None
            waiting(seconds)
            await asyncio.sleep(seconds)
        return await answer_of(teacher, request)

    async def ask(teacher: AsyncTeacher) -> list[Response]:
        try:
            return list(await asyncio.gather(*(patiently(teacher, request) for request in requests)))
        finally:
            await teacher.close()

    return asyncio.run(ask(teacher))
