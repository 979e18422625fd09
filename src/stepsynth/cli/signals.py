"""Signals: the first Ctrl-C or SIGTERM asks for a clean stop, the second one stops at once."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepsynth.errors import Interrupted
from stepsynth.runtime.shutdown import stoppable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["handle_signals"]


@contextmanager
def handle_signals() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a clean stop; the second ends the block at once.

    Raises:
        Interrupted: the second one came.
    """
    with stoppable() as stop:

        def ask(_signal: int, _frame: FrameType | None) -> None:
            if stop.is_set():
                raise KeyboardInterrupt
            stop.set()

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except KeyboardInterrupt:
            # Raised here because typer would end the program without a message.
            raise Interrupted(
                "stopped at once; no answer that was received is lost.",
                hint="Requests still in flight may be billed. Run the same command again to resume.",
            ) from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
