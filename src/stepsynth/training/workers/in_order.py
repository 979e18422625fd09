"""A long list of jobs, some at a time: outcomes come back in the order of the jobs, whichever worker is done first.

    for part, outcome in in_order(workers, ((part, job_of(part)) for part in parts)):
        ...

Jobs are made when there is room for them, one more than there are workers, so a million rows need no more memory than some.
"""

from __future__ import annotations

import contextvars
import tempfile
import threading
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from stepsynth.runtime.shutdown import check_stop, stoppable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from stepsynth.training.workers.base import Job, Outcome, Workers

__all__ = ["in_order"]

T = TypeVar("T")
_TICK_S = 0.2
# Until a worker that is told to stop has been ended.
_GRACE_S = 5.0


def in_order(workers: Workers, jobs: Iterable[tuple[T, Job]]) -> Generator[tuple[T, Outcome], None, None]:
    """Do jobs that keep no files, and yield their outcomes in order.

    Close the iterator (`contextlib.closing`) if it may be left early: that ends the jobs in progress.

    Args:
        workers: do the jobs.
        jobs: each with something that comes back with its outcome.

    Raises:
        Interrupted: a stop was asked for.
        UserError: a job failed; those before it have been yielded.
    """
    left = iter(jobs)
    waiting: deque[_Flight[T]] = deque()
    # The flag of these jobs alone is set in a context of their own, since the caller's code runs between two of them.
    context, stack = contextvars.copy_context(), ExitStack()
    stop = context.run(stack.enter_context, stoppable())
    try:
        more = True
        while more or waiting:
            while more and len(waiting) <= workers.at_once():
                check_stop()
                given = next(left, None)
                more = given is not None
                if given is not None:
                    waiting.append(_Flight(workers, *given, context.copy()))
            if waiting:
                outcome = waiting[0].outcome()
                yield waiting.popleft().what, outcome
    finally:
        stop.set()
        for flight in waiting:
            flight.thread.join(_GRACE_S)
        context.run(stack.close)


class _Flight(Generic[T]):
    """A job in a thread of its own, which waits for its worker."""

    def __init__(self, workers: Workers, what: T, job: Job, context: contextvars.Context) -> None:
        self.what = what
        self._workers, self._job = workers, job
        self._found: Outcome | BaseException
        self._done = threading.Event()
        self.thread = threading.Thread(target=context.run, args=[self._work], name="stepsynth-job", daemon=True)
        self.thread.start()

    def outcome(self) -> Outcome:
        """Wait for the outcome, or raise what the job raised."""
        while not self._done.wait(_TICK_S):
            check_stop()
        if isinstance(self._found, BaseException):
            raise self._found
        return self._found

    def _work(self) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="stepsynth-") as scratch:
                self._found = self._workers.train(self._job, None, Path(scratch), _Deaf())
        except BaseException as error:
            self._found = error
        finally:
            self._done.set()


class _Deaf:
    """Hears of no training: there is none."""

    def step(self, done: int, steps: int) -> None:
        pass

    def fitted(self) -> None:
        pass

    def predicts(self) -> None:
        pass
