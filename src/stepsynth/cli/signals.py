"""Signals: the first Ctrl-C, SIGTERM or hang-up asks for a clean stop, the second one stops at once."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepsynth.errors import Interrupted
from stepsynth.runtime.shutdown import current_stop, stoppable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["as_ctrl_c", "handle_signals"]


@contextmanager
def as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that what it began to write is removed."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def handle_signals() -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP (the terminal closed) into a clean stop; the second ends the block at once.

    SIGHUP stays ignored under ``nohup``. The enclosing block is asked to stop, too: this one may reach its end before it looks
    for a stop again, and then nothing else must begin.

    Raises:
        Interrupted: the second one came.
    """
    outer = current_stop()
    with stoppable() as stop:

        def ask(_signal: int, _frame: FrameType | None) -> None:
            if stop.is_set():
                raise KeyboardInterrupt
            stop.set()
            if outer is not None:
                outer.set()

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
