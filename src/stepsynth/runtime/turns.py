"""What several threads of one call do one at a time: in the order of their numbers, or once for each name.

turns.taken(3)      # a block that nobody else is in; of those who wait, the lowest number is next
once.alone("name")  # a block for one name: whoever needs the same one waits, and then finds it done
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepsynth.runtime.shutdown import check_stop

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Once", "Turns"]

_TICK_S = 0.2


class Turns:
    """One at a time; of those who wait, the lowest number is next."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: set[int] = set()
        self._taken = False

    @contextmanager
    def taken(self, number: int) -> Iterator[None]:
        """Wait for the turn and keep it for the block.

        Args:
            number: no two that wait at the same time have the same.

        Raises:
            Interrupted: a stop was asked for while waiting.
        """
        with self._changed:
            self._waiting.add(number)
            try:
                while self._taken or min(self._waiting) != number:
                    self._changed.wait(_TICK_S)
                    check_stop()
                self._taken = True
            finally:
                self._waiting.discard(number)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


class Once:
    """One at a time for each name."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: set[str] = set()

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Wait until nobody else has the name, and keep it for the block.

        Raises:
            Interrupted: a stop was asked for while waiting.
        """
        with self._changed:
            while name in self._busy:
                self._changed.wait(_TICK_S)
                check_stop()
            self._busy.add(name)
        try:
            yield
        finally:
            with self._changed:
                self._busy.discard(name)
                self._changed.notify_all()
