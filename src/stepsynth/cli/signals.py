"""Signals: the first Ctrl-C, SIGTERM or hang-up asks for a clean stop, the second one stops at once."""

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
    """Turn the first SIGINT, SIGTERM or SIGHUP (the terminal closed) into a clean stop; the second ends the block at once.

    SIGHUP stays ignored under ``nohup``.

    Raises:
        Interrupted: the second one came.
    """
    with stoppable() as stop:

        def ask(_signal: int, _frame: FrameType | None) -> None:
            if stop.is_set():
                raise KeyboardInterrupt
            stop.set()

        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, ask) for number in numbers}
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
