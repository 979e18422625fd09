"""A clean stop: the first Ctrl-C or SIGTERM asks for it, the second one ends at once.

Whatever is in flight is waited for and committed; then `Interrupted` ends the run.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepsynth.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["check_stop", "handle_signals", "stop_requested"]

_stop = threading.Event()


def stop_requested() -> bool:
    """Whether a stop was asked for."""
    return _stop.is_set()


def check_stop() -> None:
    """Raise at a point where everything is committed.

    Raises:
        Interrupted: when a stop was asked for.
    """
    if _stop.is_set():
        raise Interrupted("stopped; nothing is lost.", hint="Run the same command again to go on.")


@contextmanager
def handle_signals() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a clean stop; the second ends the block at once.

    Raises:
        Interrupted: the second one came.
    """

    def ask(_signal: int, _frame: FrameType | None) -> None:
        if _stop.is_set():
            raise KeyboardInterrupt
        _stop.set()

    _stop.clear()
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        # Said here: the library of the command line ends a program without a word.
        raise Interrupted(
            "stopped at once; no answer that had come is lost.",
            hint="What was still on its way may be billed. Run the same command again to go on.",
        ) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _stop.clear()
