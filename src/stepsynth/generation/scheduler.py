"""Decides what is sent and when: a state machine without a clock, a network or a journal.

    scheduler.answered(call, responses, seconds)     events: what happened
    scheduler.failed(call, error, now)
    while (action := scheduler.next(now)) is not None:
        ...                                          actions: what to do now
    scheduler.ended                                  whether it is over

Its driver (`live.AsyncDispatcher`, or a test) reports every event, carries out the actions that `next` returns until there are
none, and then waits for the next event. Times are arguments, in seconds of the driver's clock.

A call is one send: one request, or several that share a prompt. Its states:

    from         event                                         to           action
    waiting      first in the queue, and sending is allowed    in flight    Send
    in flight    answered                                      done; requests without an answer wait again, one by one
    in flight    form refused, another one is known            waiting      (not counted as an attempt)
    in flight    one of several servers failed                 waiting      (not counted as an attempt)
    in flight    rate limit says how long to wait              waiting      (not counted as an attempt), and all calls pause
    in flight    failed, attempts are left                     backing off  Wait
    in flight    failed for good                               done         GiveUp
    backing off  wait is over                                  waiting, first in the queue

Retries happen only here: exactly ``attempts`` attempts per request, and at most one more after a time-out that may be
billed.

The scheduler as a whole is in one of these states, and sends only when open:

    open      a call is sent if limiter, pace and caps allow it and it is reserved in the journal (otherwise: Commit)
    paused    a server asked for a wait: nothing is sent until all such waits are over; the limiter restarts at one request
    doubtful  too many refusals in a row: calls in flight are awaited; an answer reopens it, none ends it with an error
    capped    nothing is in flight and the next call exceeds a cap: ended; waiting and backing-off calls stay unanswered
    ending    an error or a stop: calls in flight are awaited, then it has ended

It has also ended when no call is waiting, backing off or in flight, and no further requests will be fed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.errors import MovedError, RetryModifiedError, TransientError
from stepsynth.generation.actions import Action, Call, Commit, GiveUp, Send, Wait
from stepsynth.teachers import MOST_FORMS

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Iterable, Sequence

    from stepsynth.errors import TeacherError
    from stepsynth.generation.budget import BudgetGuard
    from stepsynth.generation.outcomes import Outcomes
    from stepsynth.generation.pace import Pace
    from stepsynth.generation.pausing import Pauses
    from stepsynth.journal import Cost
    from stepsynth.teachers.adaptive_concurrency import AdaptiveConcurrency
    from stepsynth.types import Request, Response

__all__ = ["Scheduler", "TeacherState"]

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
# Failures that mean too many requests at once.
_OVERLOAD = frozenset({"overload", "unavailable", "timeout"})
# With a stated wait, these are a rate limit or a full server, not the request's fault.
_LIMITS = frozenset({"overload", "unavailable"})


@dataclass(slots=True)
class TeacherState:
    """A teacher's state, kept between calls of `TeacherClient.run`.

    Attributes:
        limiter: how many requests may be in flight.
        pace: requests per minute, as set or learned.
        pauses: the server's pauses so far.
        outcomes: whether anything was answered, and what was refused.
        retries: retries by kind of the failure.
    """

    limiter: AdaptiveConcurrency
    pace: Pace
    pauses: Pauses
    outcomes: Outcomes
    retries: Counter[str]


class Scheduler:
    """Decides what is sent next, and what a failure means.

    Args:
        groups: requests by key in plan order; each group is sent together.
        attempts: most attempts per request.
        concurrency: full width of the limiter.
        state: the teacher's state.
        budget: caps and reservations.
        jitter: spreads pauses.
        more: whether `feed` will bring further requests, until `fed`.

    Attributes:
        rows_limit: most requests per call now, set by the driver; larger calls are split.
        most_in_flight: most calls in flight that the teacher takes now, set by the driver; ``None`` for no limit.
        error: the first error that ended it.
        capped: whether a cap ended it.
    """

    def __init__(
        self,
        groups: Iterable[list[tuple[str, Request]]],
        *,
        attempts: int,
        concurrency: int,
        state: TeacherState,
        budget: BudgetGuard,
        jitter: random.Random,
        more: bool = False,
    ) -> None:
        self._queue = deque(Call(items) for items in groups)
        self._attempts = attempts
        # Calls that back off count as started: a server that is down is not sent the whole plan.
        self._most_started = concurrency + concurrency // 2
        self._state = state
        self._limiter = state.limiter
        self._budget = budget
        self._jitter = jitter
        self._more = more
        self._actions: deque[Action] = deque()
        self._holds = 0
        self._backing_off = 0
        self._waits_for_turn = False
        self._committing = False
        self._stopped = False
        self._closed = False
        self.rows_limit = max((len(call.items) for call in self._queue), default=1)
        self.most_in_flight: int | None = None
        self.error: BaseException | None = None
        self.capped = False
        self._limiter.in_flight = 0

    # state -----------------------------------------------------------------------------

    @property
    def ending(self) -> bool:
        """Whether nothing more is sent."""
        return self.error is not None or self._stopped or self._closed

    @property
    def ended(self) -> bool:
        """Whether nothing is in flight and nothing will be sent."""
        if self._limiter.in_flight:
            return False
        return self.ending or self.capped or not (self._queue or self._backing_off or self._more)

    @property
    def upcoming(self) -> int:
        """How many sends may follow; the next commit reserves them, up to a block."""
        # What is still to be fed will soon be sent, too.
        return 0 if self.ending else len(self._queue) + self._backing_off + self._more * self._most_started

    def conclusion(self) -> BaseException | None:
        """Return the error to end with: the first one, or that the teacher does not work at all."""
        outcomes = self._state.outcomes
        if self.error is None and outcomes.hopeless and not self.capped and not self._stopped:
            return outcomes.verdict()
        return self.error

    # events ----------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Honour a pause that the server asked for in an earlier call."""
        if (left := self._state.pauses.resume_at - now) > 0:
            self._hold(left, now)

    def feed(self, items: Iterable[tuple[str, Request]]) -> None:
        """Take further requests, each sent alone, behind those that wait."""
        self._queue.extend(Call([item]) for item in items)

    def fed(self) -> None:
        """Record that no further requests follow."""
        self._more = False

    def stop(self) -> None:
        """Send nothing more: a clean stop was asked for."""
        self._stopped = True

    def close(self) -> None:
        """Send nothing more: the driver is closing, and calls in flight may never be reported."""
        self._closed = True

    def broke(self, error: BaseException) -> None:
        """Send nothing more after an error; the first one is raised when everything in flight has ended."""
        self.error = self.error or error

    def committed(self) -> None:
        """Record that a commit has ended, successful or not."""
        self._committing = False

    def waited(self, wait: Wait) -> None:
        """Record that a `Wait` is over."""
        if wait.call is not None:
            self._backing_off -= 1
            self._queue.appendleft(wait.call)
        elif wait.turn:
            self._waits_for_turn = False
        else:
            self._holds -= 1
            if not self._holds:
                self._limiter.restart()
                self._state.pauses.resume_at = 0.0
                self._state.pauses.end()

    def answered(self, call: Call, responses: Sequence[Response], seconds: float) -> None:
        """Record answers to the first requests of a call; the others are sent again, one by one.

        Args:
            call: the call.
            responses: at least one.
            seconds: from sending to the whole answer.
        """
        self._limiter.answered(call.number, seconds)
        self._state.pauses.answered()
        self._state.pace.answered()
        self._budget.count_sent(call.cost)
        self._budget.answered(call.cost, call.requests, responses)
        for response in responses[: len(call.items)]:
            self._state.outcomes.came(response)
        self._queue.extendleft(Call([item]) for item in reversed(call.items[len(responses) :]))

    def broke_down(self, call: Call, error: Exception) -> None:
        """Record a defect in the teacher: it ends everything, but other calls in flight keep their answers."""
        self._limiter.ended()
        self._budget.count_sent(call.cost)
        self._budget.release(call.cost)
        self.broke(error)

    def failed(self, call: Call, error: TeacherError, now: float) -> None:
        """Record a failed attempt: retry at once or later, or give up."""
        moved = isinstance(error, MovedError)
        if error.kind in _OVERLOAD and not moved:
            self._limiter.refused(call.number)
        else:
            self._limiter.ended()
        self._budget.count_sent(call.cost)
        call.doubtful = self._budget.failed(call.cost, error)
        if isinstance(error, TransientError) and not moved:
            call.timeouts += error.maybe_billed and not error.cut_off
            if error.retry_after:
                self._pause(error, now)
        self._again_or_never(call, error)

    # what a failure means --------------------------------------------------------------

    def _again_or_never(self, call: Call, error: TeacherError) -> None:
        wait = error.retry_after if isinstance(error, TransientError) else None
        other_form = isinstance(error, RetryModifiedError) and call.forms < MOST_FORMS
        no_fault = other_form or isinstance(error, MovedError) or (wait and error.kind in _LIMITS)
        if no_fault:
            # Not the request's fault, so it does not count as an attempt.
            call.attempts -= 1
            call.forms += other_form
        elif not error.retryable or call.attempts >= self._attempts or call.timeouts > 1:
            self._give_up(call, error)
            return
        self._state.retries[error.kind] += 1
        if no_fault or (wait and self._holds):
            self._queue.appendleft(call)
        else:
            self._back_off(call)

    def _back_off(self, call: Call) -> None:
        """Let this call alone wait, longer with every failure."""
        self._backing_off += 1
        longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (call.attempts - 1))
        self._actions.append(Wait(self._jitter.uniform(0.0, longest), call))

    def _give_up(self, call: Call, error: TeacherError) -> None:
        """Give up on a call, or on the teacher if it does not work at all."""
        if (final := self._state.outcomes.gave_up(error)) is not None:
            self.broke(final)
        else:
            self._actions.append(GiveUp(tuple(key for key, _ in call.items), error))

    def _pause(self, error: TransientError, now: float) -> None:
        """Pause for as long as the teacher asks, or end if that is too long."""
        if self.ending:
            return
        state, new = self._state, not self._holds
        if new and error.kind == "overload":
            state.pace.refused(now, error.retry_after or 0.0)
        if (end := state.pauses.too_long(error, new=new)) is not None:
            self.broke(end)
            return
        seconds = state.pauses.length(error, self._jitter.uniform)
        state.pauses.begin(seconds, error)
        self._hold(seconds, now)

    def _hold(self, seconds: float, now: float) -> None:
        """Send nothing for ``seconds``; the longest of several such waits counts."""
        self._holds += 1
        self._state.pauses.hold(now + seconds)
        self._actions.append(Wait(seconds))

    # what comes next -------------------------------------------------------------------

    def next(self, now: float) -> Action | None:
        """Return the next action; ``None``: nothing to do before the next event."""
        outcomes = self._state.outcomes
        if outcomes.doubtful and not self._limiter.in_flight and self.error is None:
            # All calls in flight have ended, and none with an answer.
            self.broke(outcomes.verdict())
        if self._actions:
            return self._actions.popleft()
        while self._queue and not self.capped:
            call = self._queue[0]
            if len(call.items) > max(1, self.rows_limit):
                self._split()
                continue
            if not self._open(call, now):
                break
            call.cost = self._budget.cost(call.requests)
            if self._budget.fits(call.cost):
                return self._send(now) if self._budget.begin(call.cost) else self._commit(call.cost)
            if self._limiter.in_flight:
                # Answers in flight will cost less than their worst case and may make room.
                break
            if len(call.items) > 1:
                self._split()
            else:
                self.capped = True
        return self._actions.popleft() if self._actions else None

    def _open(self, call: Call, now: float) -> bool:
        """Whether a call may be sent, caps aside."""
        if self.ending or self._holds or not self._limiter.room or self._state.outcomes.doubtful or self._too_early(now):
            return False
        if self.most_in_flight is not None and self._limiter.in_flight >= self.most_in_flight:
            return False
        return call.attempts > 0 or self._limiter.in_flight + self._backing_off < self._most_started

    def _too_early(self, now: float) -> bool:
        """Whether the pace makes the next request wait."""
        wait = self._state.pace.wait(now)
        if wait > 0 and not self._waits_for_turn:
            self._waits_for_turn = True
            self._actions.append(Wait(wait, turn=True))
        return wait > 0

    def _split(self) -> None:
        """Split the first call into single requests."""
        call = self._queue.popleft()
        alone = [Call([item], attempts=call.attempts, timeouts=call.timeouts, doubtful=call.doubtful) for item in call.items]
        self._queue.extendleft(reversed(alone))

    def _send(self, now: float) -> Send:
        call = self._queue.popleft()
        call.attempts += 1
        self._state.pace.sent(now)
        if call.doubtful:
            self._budget.count_sent_again()
            call.doubtful = False
        call.number = self._limiter.sent()
        if self._budget.low(self.upcoming) and (commit := self._commit(None)) is not None:
            self._actions.append(commit)
        return Send(call)

    def _commit(self, least: Cost | None) -> Commit | None:
        if self._committing:
            return None
        self._committing = True
        return Commit(least)
