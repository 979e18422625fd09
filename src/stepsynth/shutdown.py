"""A clean stop: whatever is in flight is waited for and committed, then `Interrupted` ends the run.

    with stoppable() as stop:        # whoever may be asked to stop: the command line, a notebook's cell
        run_loop(...)                # asks `check_stop` where everything is committed
    stop.set()                       # from a signal handler or another thread

The flag belongs to a context (`contextvars`): two runs in two threads do not stop one another. A block within a block
stops with it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from stepsynth.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_stop", "current_stop", "stop_requested", "stoppable"]

# The flags of all blocks around, the innermost last.
_stops: ContextVar[tuple[threading.Event, ...]] = ContextVar("stops", default=())


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """Yield the flag that asks for a clean stop of what runs in the block."""
    stop = threading.Event()
    token = _stops.set((*_stops.get(), stop))
    try:
        yield stop
    finally:
        _stops.reset(token)


def current_stop() -> threading.Event | None:
    """Return the flag of the block that this runs in, for a thread with a context of its own; ``None`` outside of any."""
    return next(reversed(_stops.get()), None)


def stop_requested() -> bool:
    """Whether a stop was asked for."""
    return any(stop.is_set() for stop in _stops.get())


def check_stop() -> None:
    """Raise at a point where everything is committed.

    Raises:
        Interrupted: when a stop was asked for.
    """
    if stop_requested():
        raise Interrupted("stopped; nothing is lost.", hint="Run the same command again to go on.")
