"""Says what a run is doing now, in its lock file, so that ``status`` can tell from another shell.

The lock's first line names the process; the second is the stage and how far it is. It holds as long as the lock is held: a killed
process leaves it, and nobody reads it.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Doing", "read_doing"]

_FILE = "lock"
_EVERY_S = 2.0
_MOST_BYTES = 2_000


class Doing:
    """Writes the second line of a lock file.

    Args:
        folder: the run directory, locked by this process.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE
        self._now: dict[str, Any] = {}
        self._next = 0.0

    def start(self, stage: str, target: int, unit: str) -> None:
        """Begin a stage of so many units, or a further part of the one that has not ended."""
        since = self._now["since"] if self._now.get("stage") == stage else time.time()
        self._now = {"stage": stage, "done": 0, "target": target, "unit": unit, "since": since}
        self._write()

    def advance(self, done: int) -> None:
        """Note how many units are done; written every two seconds at most."""
        if self._now and time.monotonic() >= self._next:
            self._now["done"] = done
            self._write()

    def end(self) -> None:
        """Note that the stage is over."""
        self._now = {}
        self._write()

    def _write(self) -> None:
        self._next = time.monotonic() + _EVERY_S
        # The text is for people: on a full disk, the run goes on without it.
        with suppress(OSError), self._file.open("r+b") as file:
            first = file.readline(_MOST_BYTES).rstrip(b"\n")
            second = json.dumps(self._now).encode() if self._now else b""
            # One call, so that a reader sees the whole line; what was there before may be longer.
            os.pwrite(file.fileno(), first + b"\n" + second + b"\n" * bool(second), 0)
            os.ftruncate(file.fileno(), len(first) + 1 + len(second) + bool(second))


def read_doing(folder: Path, holder: str | None) -> dict[str, Any] | None:
    """Return what a run is doing now.

    Args:
        folder: the run directory.
        holder: the process that writes to it now, from `RunDirectory.holder`.

    Returns:
        ``stage`` (its title), ``done``, ``target``, ``unit`` and ``seconds`` since it began; ``None`` if no process holds the
        run, or it is between two stages.
    """
    if holder is None:
        return None
    try:
        lines = (folder / _FILE).read_text(encoding="utf-8", errors="replace").splitlines()
        found = json.loads(lines[1])
        seconds = max(0.0, round(time.time() - float(found["since"]), 1))
        done, target = int(found["done"]), int(found["target"])
        return {"stage": str(found["stage"]), "done": done, "target": target, "unit": str(found["unit"]), "seconds": seconds}
    except (OSError, ValueError, OverflowError, KeyError, TypeError, IndexError):
        return None
