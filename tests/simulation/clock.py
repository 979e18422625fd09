"""Simulated time: an event loop that jumps to its next timer, and a thread pool without threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .world import World

__all__ = ["Killed", "Loop", "Policy", "Pool"]


_MOST_LAST_TURNS = 100


class Killed(BaseException):
    """The process is gone. Whatever still runs works on files that nobody reads again."""


class _Jump:
    """In place of a selector: there are no files to wait for, so waiting is adding to the time."""

    def __init__(self, world: World) -> None:
        self._world = world

    def select(self, timeout: float | None) -> list[object]:
        self._world.wait(timeout)
        return []


class Loop(asyncio.BaseEventLoop):
    """An event loop in simulated time. Every turn is a step, at which the process may be killed.

    Args:
        world: has the time and hears of each step.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._selector = _Jump(world)
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        return self._world.now

    def _run_once(self) -> None:
        self._world.turn()
        super()._run_once()  # type: ignore[misc]

    def close(self) -> None:
        """Let the tasks of a process that is gone come to their end, on files that nobody reads again."""
        if self._world.dead or self._world.broken:
            self._world.unwinding = True
            asyncio.events._set_running_loop(self)
            for _ in range(_MOST_LAST_TURNS):
                if not (tasks := asyncio.all_tasks(self)):
                    break
                for task in tasks:
                    task.cancel()
                self._run_once()
            asyncio.events._set_running_loop(None)
        super().close()

    def _process_events(self, _events: list[object]) -> None:
        """Nothing: there is no network."""

    def _write_to_self(self) -> None:
        """Nothing: there is no other thread to be woken by."""


class Policy(asyncio.DefaultEventLoopPolicy):
    """Gives `asyncio.run` a loop in the time of the present world.

    Args:
        world: returns the present world.
    """

    def __init__(self, world: Callable[[], World]) -> None:
        super().__init__()
        self._world = world

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return Loop(self._world())


class Pool:
    """In place of the dispatcher's one thread: a job is done at a later step, and its end is noticed at a later one still.

    Between the two, a commit is durable and nobody knows it.

    Args:
        world: draws how long both take.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._jobs: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._jobs.append((future, lambda: work(*args)))
        self._world.writing += 1
        asyncio.get_running_loop().call_later(self._world.stall(), self._work)
        return future

    def _work(self) -> None:
        """Do the first job, if it is still there."""
        if not self._jobs:
            return
        future, job = self._jobs.pop(0)
        if not future.set_running_or_notify_cancel():
            self._world.wrote()
            return
        try:
            result, error = job(), None
        except BaseException as raised:
            result, error = None, raised
        asyncio.get_running_loop().call_later(self._world.stall(), lambda: self._end(future, result, error))

    def _end(self, future: Future[Any], result: object, error: BaseException | None) -> None:
        self._world.wrote()
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def shutdown(self, wait: bool = True) -> None:
        """Do what is left, as a real pool does before it returns."""
        while self._jobs:
            future, job = self._jobs.pop(0)
            self._world.wrote()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job())
                except BaseException as error:
                    future.set_exception(error)
