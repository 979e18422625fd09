"""A call that works in a thread of its own, so that it works everywhere: in a notebook's loop, in any thread, twice at once.

State machine of an interrupt (``KeyboardInterrupt`` reaches the waiting thread where that is the main one)::

    working --first--> stopping: answers on their way are waited for and committed, then `Interrupted`
    stopping --second--> ending: the same exception is raised inside the thread, which ends where it is
"""

from __future__ import annotations

import contextvars
import ctypes
import threading
from typing import TYPE_CHECKING, TypeVar

from stepsynth.errors import Interrupted
from stepsynth.shutdown import stoppable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_apart"]

T = TypeVar("T")
# A wait without end would not let an interrupt through on every system.
_TICK_S = 0.2


def run_apart(work: Callable[[], T], *, stopping: Callable[[], object] = lambda: None) -> T:
    """Return what ``work`` returns, run in a thread of its own.

    Args:
        work: asks `stepsynth.shutdown.check_stop` now and then.
        stopping: called once, when a first interrupt came.

    Raises:
        Interrupted: it was interrupted; what had come is kept.
        Exception: whatever ``work`` raises.
    """
    result: list[T] = []
    failed: list[BaseException] = []
    # Not `Thread.join`: interrupted, it takes the thread for ended.
    ended = threading.Event()
    # An interrupt in the middle of a thread's start leaves open whether it began: it is started again, and only one works.
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
                # All in here, so that an interrupt which comes meanwhile is counted, too.
                if not workers:
                    threading.Thread(target=call, name="stepsynth", daemon=True).start()
                if told < asked and workers:
                    told += 1
                    if told > 1:
                        _raise_in(workers[0])
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
            "stopped at once; no answer that had come is lost.",
            hint="What was still on its way may be billed. The same call goes on.",
        ) from None
    raise failed[0]


def _raise_in(thread: int) -> None:
    """Raise `KeyboardInterrupt` in a thread, as soon as it runs Python code again."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
