"""Run a call in its own thread, so that it works in a notebook's event loop, in any thread, and several times at once.

State machine of an interrupt (``KeyboardInterrupt`` reaches the waiting thread if that is the main one)::

    working --first--> stopping: waits for answers in flight and commits them, then raises `Interrupted`
    stopping --second--> ending: the same exception is raised inside the thread, which ends at once
"""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, TypeVar

from stepsynth.errors import Interrupted, UserError
from stepsynth.runtime.shutdown import raise_in, stoppable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_apart"]

T = TypeVar("T")
# On some systems a wait without a time-out cannot be interrupted.
_TICK_S = 0.2


def run_apart(work: Callable[[], T], *, stopping: Callable[[], object] = lambda: None) -> T:
    """Run ``work`` in its own thread and return its result.

    Args:
        work: calls `stepsynth.runtime.shutdown.check_stop` regularly.
        stopping: called once, after the first interrupt.

    Raises:
        Interrupted: it was interrupted; answers received so far are kept.
        Exception: whatever ``work`` raises.
    """
    result: list[T] = []
    failed: list[BaseException] = []
    # Not `Thread.join`: when interrupted, it takes the thread for ended.
    ended = threading.Event()
    # After an interrupt during a thread's start, it is unknown whether it began: it is started again, and only one works.
    turn, workers = threading.Lock(), list[int]()
    with stoppable() as stop:
        context = contextvars.copy_context()

        def call() -> None:
            if not turn.acquire(blocking=False):
                return
            workers.append(threading.get_ident())
            try:
                result.append(context.run(work))
            except BaseException as error:
                failed.append(error)
            finally:
                ended.set()

        asked = told = 0
        while True:
            try:
                # All inside the try, so that an interrupt at any point is counted.
                if not workers:
                    threading.Thread(target=call, name="stepsynth", daemon=True).start()
                if told < asked and workers:
                    told += 1
                    if told > 1:
                        raise_in(workers[0])
                    else:
                        stop.set()
                        stopping()
                if ended.wait(_TICK_S):
                    break
            except KeyboardInterrupt:
                asked += 1
    if not failed:
        return result[0]
    if isinstance(failed[0], KeyboardInterrupt):
        raise Interrupted(
            "stopped at once; no answer that was received is lost.",
            hint="Requests still in flight may be billed. Make the same call to resume.",
        ) from None
    if isinstance(failed[0], (UserError, Interrupted)):
        # One line that says what to do; where it was found is of no use to the caller.
        raise failed[0].with_traceback(None) from failed[0].__cause__
    raise failed[0]
