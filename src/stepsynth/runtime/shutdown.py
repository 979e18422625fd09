"""A clean stop: requests in flight are awaited and committed, then `Interrupted` ends the run.

    with stoppable() as stop:        # in the command line or a notebook cell
        run_loop(...)                # calls `check_stop` where everything is committed
    stop.set()                       # from a signal handler or another thread

The flag belongs to a context (`contextvars`): runs in different threads do not stop each other. A nested block
stops with the outer one.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from stepsynth.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_stop", "current_stop", "raise_in", "stop_requested", "stoppable"]

# The flags of all enclosing blocks, the innermost last.
_stops: ContextVar[tuple[threading.Event, ...]] = ContextVar("stops", default=())


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """Yield the flag that asks the code in the block for a clean stop."""
    stop = threading.Event()
    token = _stops.set((*_stops.get(), stop))
    try:
        yield stop
    finally:
        _stops.reset(token)


def current_stop() -> threading.Event | None:
    """Return the enclosing block's flag, to pass to a thread with its own context; ``None`` outside any block."""
    return next(reversed(_stops.get()), None)


def stop_requested() -> bool:
    """Whether a stop was asked for."""
    return any(stop.is_set() for stop in _stops.get())


def check_stop() -> None:
    """Stop here, where everything is committed, if a stop was asked for.

    Raises:
        Interrupted: a stop was asked for.
    """
    if stop_requested():
        raise Interrupted("stopped; nothing is lost.", hint="Run it again to resume.")


def raise_in(thread: int) -> None:
    """Raise `KeyboardInterrupt` in a thread, as soon as it runs Python code again.

    Args:
        thread: its identifier.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
