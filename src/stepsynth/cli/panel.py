"""Live progress: one bar per stage on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepsynth.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from collections.abc import Iterator

    import rich.progress

__all__ = ["open_panel"]

_LINE_EVERY_S = 10.0


@contextmanager
def open_panel(*, quiet: bool) -> Iterator[Progress]:
    """Yield where a run reports to; everything goes to standard error."""
    if quiet:
        yield SilentProgress()
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description:22}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f} / {task.total:,.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            yield _Bars(bars)
    else:
        yield _Lines()


class _Clock:
    """Rate and time left of one stage."""

    def __init__(self, stage: str, target: int, unit: str) -> None:
        self.stage, self.target, self.unit = stage, target, unit
        self.started = time.monotonic()

    def rate(self, done: int) -> float:
        return done / max(time.monotonic() - self.started, 1e-6)

    def left(self, done: int) -> str:
        rate = self.rate(done)
        seconds = (self.target - done) / rate if rate > 0 else 0.0
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}" if done else "?"

    def seconds(self) -> float:
        return time.monotonic() - self.started


class _Bars:
    """Bars on a terminal."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self._bars = bars
        self._task: rich.progress.TaskID | None = None
        self._clock = _Clock("", 0, "")

    def start(self, stage: str, target: int, unit: str) -> None:
        self._clear()
        self._clock = _Clock(stage, target, unit)
        self._task = self._bars.add_task(stage, total=target, unit=unit, rate="")

    def advance(self, done: int, *, answers: int = 0) -> None:
        if self._task is not None:
            rate = f"{self._clock.rate(done):.1f} {self._clock.unit}/s"
            rate += f", {answers:,} answers" if answers else ""
            self._bars.update(self._task, completed=done, rate=rate)

    def finish(self, summary: str) -> None:
        self._bars.console.print(
            f"{self._clock.stage:22} {summary}  [{self._clock.seconds():.0f} s]", highlight=False, markup=False
        )
        self._clear()

    def note(self, message: str) -> None:
        self._bars.console.print(message, highlight=False, markup=False)

    def _clear(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None


class _Lines:
    """A line now and then, for logs and pipes."""

    def __init__(self) -> None:
        self._clock = _Clock("", 0, "")
        self._next = 0.0

    def start(self, stage: str, target: int, unit: str) -> None:
        self._clock = _Clock(stage, target, unit)
        self._next = time.monotonic() + _LINE_EVERY_S
        self._say(f"{stage}: 0 / {target:,} {unit}")

    def advance(self, done: int, *, answers: int = 0) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LINE_EVERY_S
        clock = self._clock
        asked = f", {answers:,} answers" if answers else ""
        self._say(
            f"{clock.stage}: {done:,} / {clock.target:,} {clock.unit}{asked}, {clock.rate(done):.1f}/s, {clock.left(done)} left"
        )

    def finish(self, summary: str) -> None:
        self._say(f"{self._clock.stage}: {summary} [{self._clock.seconds():.0f} s]")

    def note(self, message: str) -> None:
        self._say(message)

    def _say(self, line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
