"""Pauses of a run, told beside the panel: in the log, and in a small file that ``status`` reads from another shell.

The file is there while a pause lasts, and after a run that ended because a pause was too long. What a
killed process left behind is known by its process, and removed when the run goes on.
"""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stepsynth.progress import Pause
from stepsynth.run import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.progress import Progress, RequestStats

__all__ = ["PauseNotes", "read_pause"]

FILE = "pause.json"
# A pause that is over may still be on its way out.
_SLACK_S = 5.0


class PauseNotes:
    """Hands everything on to another progress, and notes pauses.

    Args:
        inner: what draws.
        folder: the run directory, which this process holds.
    """

    def __init__(self, inner: Progress, folder: Path) -> None:
        self._inner = inner
        self._file = folder / FILE
        self._log = logging.getLogger("stepsynth")
        self._file.unlink(missing_ok=True)

    def start(self, stage: str, target: int, unit: str) -> None:
        """Hand on."""
        self._inner.start(stage, target, unit)

    def advance(self, done: int, *, answers: int = 0, traffic: RequestStats | None = None) -> None:
        """Hand on."""
        self._inner.advance(done, answers=answers, traffic=traffic)

    def finish(self, summary: str) -> None:
        """Hand on."""
        self._inner.finish(summary)

    def note(self, message: str) -> None:
        """Hand on."""
        self._inner.note(message)

    def paused(self, pause: Pause | None) -> None:
        """Note a pause or its end, and hand it on."""
        # A disk that is full is said by what writes answers.
        with suppress(Exception):
            if pause is None:
                self._file.unlink(missing_ok=True)
                self._log.warning("the pause is over")
            else:
                self._log.warning("%s", pause)
                write_atomic(self._file, json.dumps(_as_json(pause)) + "\n")
        self._inner.paused(pause)


def _as_json(pause: Pause) -> dict[str, Any]:
    return {
        "who": pause.who,
        "why": pause.why,
        "seconds": pause.seconds,
        "until": pause.until,
        "ended": pause.ended,
        "pid": os.getpid(),
    }


def read_pause(folder: Path, holder: str | None) -> dict[str, Any] | None:
    """Return the pause that a run is in, or that it ended for and that is not over yet.

    Args:
        folder: the run directory.
        holder: who writes to it now, from `RunDirectory.holder`.

    Returns:
        ``who``, ``why``, ``until`` (seconds since 1970), ``ended`` and ``said``, a line about it; ``None``
        where there is none, or only what a killed process left.
    """
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        pause = Pause(float(found["seconds"]), float(found["until"]), str(found["who"]), str(found["why"]), bool(found["ended"]))
        owner = f"pid {int(found['pid'])} "
    except (OSError, ValueError, KeyError, TypeError):
        return None
    alive = holder is not None and f"{holder} ".startswith(owner)
    if pause.until + _SLACK_S < time.time() or not (alive or pause.ended):
        return None
    return {"who": pause.who, "why": pause.why, "until": pause.until, "ended": pause.ended, "said": str(pause)}
