"""The progress of a call: tqdm bars, which suit both terminals and notebooks.

with open_progress(True) as progress:
    execute(config, folder, progress=progress)
"""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError
from stepsynth.runtime.progress import SilentProgress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.runtime.progress import Pause, Progress, RequestStats

__all__ = ["OneOfSeveral", "open_progress"]


@contextmanager
def open_progress(progress: bool | Progress | None) -> Iterator[Progress]:
    """Yield the object that a call reports its progress to.

    Args:
        progress: ``False`` shows nothing. ``True`` and ``None`` draw bars on a terminal and in a notebook; elsewhere
            ``True`` writes a line per stage to standard error, and ``None`` logs it (logger ``stepsynth``, level INFO).
            Or your own object.
    """
    if progress is not None and not isinstance(progress, bool):
        if missing := [name for name in ("start", "advance", "finish", "note", "paused") if not hasattr(progress, name)]:
            raise ConfigError(
                f"progress is {progress!r}, which has no method {missing[0]!r}.",
                hint="Give True, False, None or an object with all methods of Progress.",
            )
        yield progress
    elif progress is False:
        yield SilentProgress()
    elif sys.stderr.isatty() or _in_notebook():
        bars = _Bars()
        try:
            yield bars
        finally:
            bars.close()
    elif progress:
        yield _Written()
    else:
        yield _Logged()


class OneOfSeveral(SilentProgress):
    """One of several runs that go on at once: a note, with the run's name, for each stage that ended.

    Args:
        shown: gets the notes.
        name: the run's.
    """

    def __init__(self, shown: Progress, name: str) -> None:
        self._shown = shown
        self._name = name
        self._stage = ""

    def start(self, stage: str, target: int, unit: str) -> None:
        """Remember the stage."""
        self._stage = stage

    def finish(self, summary: str) -> None:
        """Note how it ended."""
        self.note(f"{self._stage}: {summary}")

    def note(self, message: str) -> None:
        """Pass a message on."""
        self._shown.note(f"{self._name}: {message}")

    def paused(self, pause: Pause | None) -> None:
        """Pass a pause on."""
        self._shown.paused(pause)


def _in_notebook() -> bool:
    # Looks only at an IPython that is already loaded; one in a terminal does not count.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


class _Logged(SilentProgress):
    """A log line for every stage, note and long pause."""

    def __init__(self) -> None:
        self._log = logging.getLogger("stepsynth")
        self._stage = ""

    def start(self, stage: str, target: int, unit: str) -> None:
        self._stage = stage
        self.note(f"{stage}: 0 / {target:,} {unit}")

    def finish(self, summary: str) -> None:
        self.note(f"{self._stage}: {summary}")

    def note(self, message: str) -> None:
        self._log.info("%s", message)

    def paused(self, pause: Pause | None) -> None:
        if pause is not None and pause.long:
            self._log.warning("%s", pause)


class _Written(_Logged):
    """The same lines on standard error: a bar that overwrites itself fills a file or a pipe with blanks."""

    def note(self, message: str) -> None:
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()

    def paused(self, pause: Pause | None) -> None:
        if pause is not None and pause.long:
            self.note(f"{pause}.")


class _Bars(SilentProgress):
    """A bar for the current stage; finished stages leave a line."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # Without notebook widgets tqdm warns and draws with characters, which is fine.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm
        self._tqdm: Any = tqdm
        self._bar: Any = None
        self._stage = ""

    def start(self, stage: str, target: int, unit: str) -> None:
        self.close()
        self._stage = stage
        self._bar = self._tqdm(total=target, desc=stage, unit=f" {unit}", leave=False, file=sys.stderr, dynamic_ncols=True)

    def advance(self, done: int, *, answers: int = 0, traffic: RequestStats | None = None) -> None:
        if self._bar is None:
            return
        # A wave judged in plan order may take accepted rows back; the bar must not go back.
        self._bar.update(max(done - self._bar.n, 0))
        if traffic is not None:
            cost = {} if not traffic.usd else {"usd": f"{traffic.usd:.4f}"}
            self._bar.set_postfix({"answers": traffic.answers, **cost}, refresh=False)

    def finish(self, summary: str) -> None:
        self.close()
        self.note(f"{self._stage}: {summary}")

    def note(self, message: str) -> None:
        self._tqdm.write(message, file=sys.stderr)

    def paused(self, pause: Pause | None) -> None:
        if pause is not None and pause.long:
            self.note(f"{pause}.")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
