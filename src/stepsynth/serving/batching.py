"""Batches of many clients' rows: one thread asks the model, and what arrives meanwhile is the next batch.

Rows are answered in the order of arrival. A request's rows may be spread over batches. Nothing that one request does reaches
another: if a batch fails, its requests are asked one by one, and a request whose client has gone leaves the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from stepsynth.serving.failures import note_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepsynth.serving.limits import Limits
    from stepsynth.types import Example, Prediction

__all__ = ["Batcher", "Busy", "StudentFailed"]

_LONGEST_RETRY = 60


class Busy(Exception):
    """Too many rows wait already.

    Args:
        retry_after: seconds after which there may be room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"busy for {retry_after} s")
        self.retry_after = retry_after


class StudentFailed(Exception):
    """The model raised an error on the rows of this request."""


@dataclass(eq=False)
class _Job:
    """The rows of one request.

    Attributes:
        rows: of the request.
        future: gets the predictions, in the order of the rows.
        taken: rows that are in a batch or done.
        found: predictions so far.
    """

    rows: Sequence[Example]
    future: asyncio.Future[list[Prediction]]
    taken: int = 0
    found: list[Prediction] = field(default_factory=list)


class _Piece(NamedTuple):
    """Rows of one request in a batch."""

    job: _Job
    rows: Sequence[Example]


class Batcher:
    """Answers rows in batches; made and used in one event loop.

    Args:
        predict: the model: one prediction per row, in order. It runs in a thread, one call at a time.
        limits: of the server.

    Attributes:
        waiting: rows that no batch has yet.
        requests: requests answered so far.
        rows: rows answered so far.
        batches: calls of the model so far.
    """

    def __init__(self, predict: Callable[[list[Example]], list[Prediction]], limits: Limits) -> None:
        self._predict = predict
        self._limits = limits
        self._jobs: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "student")
        # Seconds per row, of the last batches.
        self._pace = 0.0
        self.waiting = self.requests = self.rows = self.batches = 0

    async def answer(self, rows: Sequence[Example]) -> list[Prediction]:
        """Return one prediction per row; if the caller is cancelled, rows that no batch has yet are forgotten.

        Raises:
            Busy: too many rows wait.
            StudentFailed: the model cannot answer these rows.
        """
        if self.waiting + len(rows) > self._limits.max_waiting:
            raise Busy(min(_LONGEST_RETRY, max(1, math.ceil(self.waiting * self._pace))))
        job = _Job(rows, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self.waiting += len(rows)
        self._arrived.set()
        if self.waiting >= self._limits.max_batch:
            self._full.set()
        try:
            found = await job.future
        finally:
            self._forget(job)
        self.requests += 1
        return found

    async def work(self) -> None:
        """Answer what arrives, until cancelled."""
        try:
            while True:
                await self._arrived.wait()
                if self._limits.max_wait and self.waiting < self._limits.max_batch:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._full.wait(), self._limits.max_wait / 1000)
                if batch := self._take():
                    await self._run(batch)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _take(self) -> list[_Piece]:
        """Take the oldest rows out of the queue."""
        batch: list[_Piece] = []
        room = self._limits.max_batch
        while room and self._jobs:
            job = self._jobs[0]
            rows = job.rows[job.taken : job.taken + room]
            job.taken += len(rows)
            if job.taken == len(job.rows):
                self._jobs.popleft()
            self.waiting -= len(rows)
            room -= len(rows)
            batch.append(_Piece(job, rows))
        if not self._jobs:
            self._arrived.clear()
        if self.waiting < self._limits.max_batch:
            self._full.clear()
        return batch

    def _forget(self, job: _Job) -> None:
        """Take a request that is over out of the queue, with the rows that no batch has."""
        if job.taken < len(job.rows) and job in self._jobs:
            self._jobs.remove(job)
            self.waiting -= len(job.rows) - job.taken
            job.taken = len(job.rows)

    async def _run(self, batch: list[_Piece]) -> None:
        began, count = time.monotonic(), sum(len(piece.rows) for piece in batch)
        try:
            found = await self._ask([row for piece in batch for row in piece.rows])
        except Exception as error:
            if len(batch) > 1:
                # One request's rows must not fail another's.
                for piece in batch:
                    await self._run([piece])
                return
            note_failure("The student", error)
            self._fail(batch[0].job)
            return
        # The first batches may be slow, so the past counts for less and less.
        pace = (time.monotonic() - began) / count
        self._pace = pace if not self._pace else 0.8 * self._pace + 0.2 * pace
        self.rows += count
        start = 0
        for job, rows in batch:
            job.found += found[start : start + len(rows)]
            start += len(rows)
            if len(job.found) == len(job.rows) and not job.future.done():
                job.future.set_result(job.found)

    async def _ask(self, rows: list[Example]) -> list[Prediction]:
        self.batches += 1
        found = await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, rows)
        if len(found) != len(rows):
            raise ValueError(f"{len(found)} predictions for {len(rows)} rows")
        return found

    def _fail(self, job: _Job) -> None:
        self._forget(job)
        if not job.future.done():
            job.future.set_exception(StudentFailed())
