"""Records a run's pauses in its log and in a small file that ``status`` reads from another shell.

The file exists while a pause lasts, and after a run that ended because a pause was too long. A file left by
a killed process is recognised by its pid and removed when the run resumes.
"""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from stepsynth.run.doing import Doing
from stepsynth.runtime.files import write_atomic
from stepsynth.runtime.progress import Pause
from stepsynth.runtime.shutdown import stop_requested

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.runtime.progress import Progress, RequestStats

__all__ = ["PauseNotes", "read_pause"]

FILE = "pause.json"
# The end of a pause may take a moment to reach the file.
_SLACK_S = 5.0


class PauseNotes:
    """Forwards every report to another progress, and records pauses and the current stage.

    Args:
        inner: the progress to forward to.
        folder: the run directory, locked by this process.
    """

    def __init__(self, inner: Progress, folder: Path) -> None:
        self._inner = inner
        self._file = folder / FILE
        self._doing = Doing(folder)
        self._log = logging.getLogger("stepsynth")
        self._file.unlink(missing_ok=True)

    def start(self, stage: str, target: int, unit: str) -> None:
        """Record the stage, and forward."""
        self._doing.start(stage, target, unit)
        self._inner.start(stage, target, unit)

    def advance(self, done: int, *, answers: int = 0, traffic: RequestStats | None = None) -> None:
        """Record how far the stage is, and forward."""
        self._doing.advance(done)
        self._inner.advance(done, answers=answers, traffic=traffic)

    def finish(self, summary: str) -> None:
        """Record the end of the stage, and forward."""
        self._doing.end()
        self._inner.finish(summary)

    def note(self, message: str) -> None:
        """Forward."""
        self._inner.note(message)

    def paused(self, pause: Pause | None) -> None:
        """Record a pause or its end, and forward it."""
        # A full disk is reported where answers are written.
        with suppress(Exception):
            if pause is None:
                self._file.unlink(missing_ok=True)
                self._log.warning("the pause is ended by a stop" if stop_requested() else "the pause is over")
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
    """Return the pause that a run is in, or the one that ended it if that is not over yet.

    Args:
        folder: the run directory.
        holder: the process that writes to it now, from `RunDirectory.holder`.

    Returns:
        ``who``, ``why``, ``until`` (seconds since 1970), ``ended`` and ``said``, a line about it; ``None``
        if there is none, or if a killed process left it.
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
