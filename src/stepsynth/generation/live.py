"""A teacher behind a network: many requests in flight, failures retried, everything drained at the end.

The end of one request starts the next, so there are no idle workers and no polling. The `Scheduler` decides what is sent and
when, the `Committer` makes answers durable; this module has only the event loop, its tasks and the stop.

    answer or failure ──> scheduler, committer ──> actions ──> tasks: a send, a wait, a commit in a thread ──> ...
"""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from stepsynth.errors import TeacherError, TransientError
from stepsynth.generation.actions import Commit, GiveUp, Send, Wait
from stepsynth.generation.committer import COMMIT_EVERY_S
from stepsynth.generation.dispatcher import Dispatcher
from stepsynth.generation.grouping import grouped
from stepsynth.generation.scheduler import Scheduler
from stepsynth.runtime.shutdown import stop_requested

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from stepsynth.generation.actions import Action, Call
    from stepsynth.generation.committer import Group
    from stepsynth.generation.dispatcher import Context
    from stepsynth.generation.lookup import Lookup
    from stepsynth.journal import Cost
    from stepsynth.teachers import AsyncTeacher
    from stepsynth.types import Request, Response

__all__ = ["AsyncDispatcher", "MultiSampleTeacher"]

_TICK_S = COMMIT_EVERY_S / 2
# Requests looked up together, and planned before answers get their turn.
_FED_AT_ONCE = 500
_PLANNED_AT_ONCE = 50


@runtime_checkable
class MultiSampleTeacher(Protocol):
    """A teacher that gets answers to several requests with equal messages and sampling from one call to its server."""

    async def generate_many(self, requests: Sequence[Request]) -> list[Response]:
        """Return one answer per request, in order, in exactly one attempt; see `AsyncTeacher.generate`.

        A shorter list answers only the first requests; the rest are then sent one by one. A teacher may
        have an attribute ``rows_limit``: the most requests per call that it takes now.
        """
        ...


class AsyncDispatcher(Dispatcher):
    """Sends requests one by one, or in groups if the server gives several answers to one prompt.

    Args:
        teacher: closed at the end.
        missing: key and request, in plan order.
        context: see `Context`.
        more: the rest of the plan, looked up while the first requests are in flight.
    """

    def __init__(
        self, teacher: AsyncTeacher, missing: list[tuple[str, Request]], context: Context, more: Lookup | None = None
    ) -> None:
        config = context.config
        self._teacher = teacher
        self._committer = context.committer
        self._room = context.room
        self._pauses = context.state.pauses
        self._pause = context.pause
        self._clock = context.clock
        self._many = config.rows_per_request if isinstance(teacher, MultiSampleTeacher) else 1
        self._scheduler = Scheduler(
            grouped(missing, self._many),
            attempts=config.attempts,
            concurrency=config.most_in_flight,
            state=context.state,
            budget=context.budget,
            jitter=context.jitter,
            more=more is not None,
        )
        self._more = more
        self._outcomes = context.state.outcomes
        self._show = context.show
        self._idle = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "commits")
        # asyncio keeps only weak references to running tasks.
        self._sending: set[asyncio.Task[None]] = set()
        self._sleeping: set[asyncio.Task[None]] = set()
        self._writing: asyncio.Task[None] | None = None
        self._closing = False

    def run(self) -> None:
        """Send until every request is answered or has failed for good, or until a cap or a stop.

        Raises:
            TeacherError: the teacher does not work at all.
        """
        asyncio.run(self._all())
        if stop_requested():
            self._scheduler.stop()
        if (error := self._scheduler.conclusion()) is not None:
            raise error

    async def _all(self) -> None:
        watch = asyncio.create_task(self._watch())
        feeding = asyncio.create_task(self._feed(self._more)) if self._more is not None else watch
        try:
            self._scheduler.begin(self._clock())
            self._go_on()
            await self._idle.wait()
        finally:
            self._closing = True
            self._scheduler.close()
            for task in (watch, feeding, *self._sleeping):
                task.cancel()
            try:
                if self._writing is not None:
                    await asyncio.wait([self._writing])
            finally:
                # A second Ctrl-C ends the wait, too; what has come is committed all the same.
                await self._close()

    async def _close(self) -> None:
        # After a second Ctrl-C a commit may still be running.
        self._thread.shutdown()
        try:
            # First, since the next steps may fail.
            self._committer.commit()
        finally:
            try:
                await self._teacher.close()
            finally:
                self._pauses.end()

    async def _watch(self) -> None:
        """Commit pending answers even if no new ones come, and notice a stop while all tasks sleep."""
        while True:
            await asyncio.sleep(_TICK_S)
            if stop_requested():
                self._go_on()
            if self._committer.old:
                self._flush()

    async def _feed(self, more: Lookup) -> None:
        """Plan and look up the rest of the requests, a little at a time, beside those in flight."""
        try:
            while not self._scheduler.ending:
                chunk: dict[str, Request] = {}
                while len(chunk) < _FED_AT_ONCE and (some := more.plan(_PLANNED_AT_ONCE)):
                    chunk |= some
                    await asyncio.sleep(0)
                if not chunk:
                    break
                # In the thread of the commits, since both use the journal's connection.
                found = await asyncio.wrap_future(self._thread.submit(more.find, chunk))
                self._scheduler.feed(more.take(chunk, found))
                if found:
                    self._outcomes.known()
                    self._show()
                self._go_on()
        except Exception as error:
            self._scheduler.broke(error)
        self._scheduler.fed()
        self._go_on()

    # actions ---------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Carry out all actions due now; notice the end."""
        scheduler = self._scheduler
        try:
            scheduler.rows_limit = getattr(self._teacher, "rows_limit", self._many)
            scheduler.most_in_flight = getattr(self._teacher, "most_in_flight", None)
            while (action := self._next()) is not None:
                self._do(action)
        except Exception as error:
            scheduler.broke(error)
        if scheduler.ending:
            # A long wait must not hold up Ctrl-C.
            for task in self._sleeping:
                task.cancel()
            self._sleeping.clear()
        if scheduler.ended:
            self._idle.set()

    def _next(self) -> Action | None:
        if stop_requested():
            self._scheduler.stop()
        return self._scheduler.next(self._clock())

    def _do(self, action: Action) -> None:
        match action:
            case Send(call):
                self._start(self._send(call), self._sending)
            case Wait():
                self._start(self._sleep(action), self._sleeping)
            case Commit(least):
                self._flush(least)
                if self._writing is None:
                    self._scheduler.committed()
            case GiveUp(keys, error):
                self._committer.give_up(keys, error)

    def _start(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    # sending ---------------------------------------------------------------------------

    async def _send(self, call: Call) -> None:
        try:
            await self._attempt(call)
        except Exception as error:
            # A defect must not lose the answers of other requests in flight.
            self._scheduler.broke(error)
        self._go_on()

    async def _attempt(self, call: Call) -> None:
        """Make one attempt and report its outcome."""
        started = self._clock()
        try:
            responses = await self._ask(call)
            if not responses:
                raise TransientError("the teacher gave no answer.", kind="damaged")
        except TeacherError as error:
            self._scheduler.failed(call, error, self._clock())
        except Exception as error:
            self._scheduler.broke_down(call, error)
        else:
            self._scheduler.answered(call, responses, self._clock() - started)
            self._keep(call, responses)

    async def _ask(self, call: Call) -> list[Response]:
        if len(call.items) == 1:
            return [await self._teacher.generate(call.items[0][1])]
        teacher: Any = self._teacher
        responses: list[Response] = await teacher.generate_many(call.requests)
        return responses

    def _keep(self, call: Call, responses: list[Response]) -> None:
        """Hand answers to the committer; an error with one does not affect the others."""
        for (key, request), response in zip(call.items, responses, strict=False):
            try:
                self._committer.add(key, request, response)
                self._room.check()
            except Exception as error:
                self._scheduler.broke(error)
        if self._committer.due:
            self._flush()

    # waiting ---------------------------------------------------------------------------

    async def _sleep(self, wait: Wait) -> None:
        task = asyncio.current_task()
        try:
            paused = self._pause(wait.seconds)
            if inspect.isawaitable(paused):
                await paused
            if task is not None:
                self._sleeping.discard(task)
            self._scheduler.waited(wait)
        except Exception as error:
            self._scheduler.broke(error)
        self._go_on()

    # committing ------------------------------------------------------------------------

    def _flush(self, least: Cost | None = None) -> None:
        """Commit in the background, one commit at a time."""
        if self._writing is None and not self._closing and (self._committer.pending or least is not None):
            self._writing = asyncio.get_running_loop().create_task(self._write(least))

    async def _write(self, least: Cost | None) -> None:
        # Prepared here, not when it was asked for: requests sent since then need no new reservation.
        group = self._committer.prepare(self._scheduler.upcoming, least)
        try:
            await asyncio.wrap_future(self._thread.submit(self._committer.write, group))
        except BaseException as error:
            # Retried at the end; answers already durable are not rewritten.
            self._committer.put_back(group)
            if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
                raise
            self._scheduler.broke(error)
        else:
            self._confirm(group)
        self._writing = None
        self._scheduler.committed()
        self._go_on()

    def _confirm(self, group: Group) -> None:
        try:
            self._committer.confirm(group)
        except Exception as error:
            self._scheduler.broke(error)
