"""Live progress: a few lines that stay in place on a terminal, plain lines elsewhere, nothing when quiet.

::

    seed rows  ━━━━━━━━━╸━━━━━━━  212 / 400 rows  3.1 rows/s  left 1:01
    4.0 answers/s · 24 of 64 in flight · 338 answers · 71,204 tokens
    cost 0.0182 USD, about 0.034 for this stage · sent again: 3 overload
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepsynth.cli.screens import plain_text
from stepsynth.runtime.counting import counted
from stepsynth.runtime.progress import Pause, Progress, RequestStats, SilentProgress
from stepsynth.runtime.shutdown import current_stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

__all__ = ["StageView", "clock_time", "dollars", "open_lines", "open_panel"]

_LINE_EVERY_S = 10.0
_FRAMES_PER_S = 4
_BAR = 30
_SHORTEST_BAR = 6
_SHORTEST_NAME = 20
_STOPPING = "stopping: waiting for answers in flight; press Ctrl-C again to stop at once"


@contextmanager
def open_panel(*, quiet: bool) -> Iterator[Progress]:
    """Yield the progress display of a run; everything goes to standard error."""
    if quiet:
        yield _Quiet()
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live

        panel = _Terminal()
        # Transient: only the lines of `finish` stay on the screen.
        with Live(panel, console=Console(stderr=True), refresh_per_second=_FRAMES_PER_S, transient=True) as live:
            panel.live = live
            yield panel
    else:
        yield _Lines()


def open_lines(prefix: str, *, quiet: bool) -> Progress:
    """Return the progress of one of several runs that go on at once: plain lines that begin with its name."""
    return _Quiet() if quiet else _Lines(prefix=prefix)


def dollars(value: float) -> str:
    """Format dollars with two significant digits when below one: small sums are common here."""
    return f"{value:,.2f}" if value >= 1 or value == 0 else f"{value:.2g}" if value >= 1e-4 else f"{value:.1e}"


def clock_time(seconds: int) -> str:
    """Format seconds as on a clock.

    Examples:
        >>> clock_time(62), clock_time(3_700)
        ('1:02', '1:01:40')
    """
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def pace(per_second: float, unit: str) -> str:
    """Return a pace in words, per minute if that is easier to read.

    Examples:
        >>> pace(3.14, "rows"), pace(0.08, "rows"), pace(0.0, "rows")
        ('3.1 rows/s', '4.8 rows/min', '0.0 rows/s')
    """
    return f"{60 * per_second:.1f} {unit}/min" if 0 < per_second < 0.5 else f"{per_second:.1f} {unit}/s"


@dataclass
class StageView:
    """The progress of one stage, as shown; tests pass a clock of their own.

    Attributes:
        stage: its title.
        part: which part of it, in a training in two stages, for instance.
        target: units to do.
        unit: their name.
        clock: seconds, from any starting point.
        done: units done.
        answers: answers that have come of the current wave.
        traffic: the latest snapshot.
        pause: the pause that the server asked for, while it lasts.
        ended: whether its last line has been shown.
    """

    stage: str = ""
    target: int = 0
    unit: str = ""
    clock: Callable[[], float] = time.monotonic
    done: int = 0
    answers: int = 0
    traffic: RequestStats | None = None
    pause: Pause | None = None
    ended: bool = False
    part: int = 1
    _started: float = field(init=False)
    _began: float = field(init=False)
    _first: tuple[float, int] | None = field(init=False, default=None)
    _before: RequestStats | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._started = self._began = self.clock()

    def after(self, earlier: StageView | None) -> StageView:
        """Return itself, as a further part of the stage that was shown before: a training in two stages is one."""
        if earlier is not None and earlier.stage == self.stage and not earlier.ended:
            self._began, self.part = earlier._began, earlier.part + 1
        return self

    def advance(self, done: int, answers: int, traffic: RequestStats | None) -> None:
        """Take the arguments of `Progress.advance`."""
        self._before = self._before or traffic
        if self._first is None:
            self._first = (self._started, 0)
        # Cached answers come at once and say nothing about pace or cost.
        if traffic is not None and self._before is not None and traffic.answers == self._before.answers:
            self._first = (self.clock(), done)
        # When a wave is complete, rules over all its rows may drop some that were counted; the shown count never falls.
        self.done, self.answers, self.traffic = max(self.done, done), answers, traffic or self.traffic

    @property
    def name(self) -> str:
        """The title, with the part from the second one on."""
        return self.stage if self.part == 1 else f"{self.stage}, part {self.part}"

    @property
    def seconds(self) -> float:
        """Seconds since the stage began, with its earlier parts."""
        return self.clock() - self._began

    @property
    def rate(self) -> float:
        """Units per second."""
        if self._first is None:
            return 0.0
        since, before = self._first
        return max(self.done - before, 0) / max(self.clock() - since, 1e-6) if self.done > before else 0.0

    @property
    def paid(self) -> float | None:
        """Dollars spent on this stage so far; ``None`` if unknown or nothing was asked."""
        if self.traffic is None or self.traffic.usd is None or self._before is None:
            return None
        if self._before.usd is None and self._before.answers:
            return None
        # A server that reports the cost itself has reported none before its first answer.
        return self.traffic.usd - (self._before.usd or 0.0)

    def left(self) -> str:
        """Return the time left, at the pace so far; empty while too little is known."""
        if self.rate <= 0 or self.done > self.target or self._in_first_wave():
            return ""
        return clock_time(int((self.target - self.done) / self.rate))

    def _in_first_wave(self) -> bool:
        """Whether most requests that were sent first are still out: a pace would say how long one takes, not how many end."""
        if self.traffic is None or self._before is None:
            return False
        return self.traffic.answers - self._before.answers < self.traffic.in_flight

    def traffic_parts(self) -> list[str]:
        """Return the traffic in words: pace, requests in flight, answers, tokens."""
        if self.traffic is None:
            return [counted(self.answers, "answer")] if self.answers else []
        traffic = self.traffic
        return [
            # An engine on a few cores answers in bursts; "0.0 answers/s" between them looks like a run that hangs.
            *([pace(traffic.per_second, "answers")] if traffic.per_second else []),
            f"{traffic.in_flight:,} of {traffic.limit:,} in flight"
            if traffic.limit
            else f"{traffic.in_flight:,} at the provider",
            counted(traffic.answers, "answer"),
            counted(traffic.tokens, "token"),
            *([f"at most {traffic.per_minute:.0f} requests/min"] if traffic.per_minute else []),
        ]

    def pause_parts(self) -> list[str]:
        """Return the current pause: who asked for it, until when, and why."""
        return [str(self.pause)] if self.pause is not None and not self.pause.ended else []

    def cost_parts(self) -> list[str]:
        """Return the cost so far, the stage's expected cost, and how many requests were retried and why."""
        if self.traffic is None:
            return []
        parts = [f"cost {self._cost()}"]
        if again := ", ".join(f"{count:,} {kind}" for kind, count in self.traffic.retries.items() if count):
            parts.append(f"sent again: {again}")
        return parts

    def _cost(self) -> str:
        usd = self.traffic.usd if self.traffic else None
        if usd is None:
            return "unknown"
        text = f"{dollars(usd)} USD"
        before = self._first[1] if self._first else 0
        if self.paid and before < self.done < self.target:
            text += f", about {dollars(self.paid * (self.target - before) / (self.done - before))} for this stage"
        return text

    def summary(self, text: str) -> str:
        """Return the line that stays when the stage is over."""
        paid = f", {dollars(self.paid)} USD" if self.paid else ""
        return f"{text} [{self.seconds:.0f} s{paid}]"


class _Quiet(SilentProgress):
    """Reports long pauses and nothing else."""

    def paused(self, pause: Pause | None) -> None:
        if pause is not None and pause.long:
            sys.stderr.write(f"stepsynth: {pause}.\n")
            sys.stderr.flush()


class _Terminal:
    """A few lines at the bottom of a terminal, redrawn a few times a second."""

    def __init__(self) -> None:
        self.live: Live | None = None
        # Kept here because another thread draws the panel.
        self._stop = current_stop()
        self._view: StageView | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        view = self._view
        if view is None:
            return
        right = f"{view.done:,} / {view.target:,} {view.unit}  {pace(view.rate, view.unit)}  left {view.left() or '?'}"
        room = max(options.max_width - len(right) - _SHORTEST_BAR - 4, _SHORTEST_NAME)
        name = view.name if len(view.name) <= room else f"{view.name[: room - 1]}…"
        width = min(_BAR, options.max_width - len(name) - len(right) - 4)
        if width >= _SHORTEST_BAR:
            line = Table.grid(padding=(0, 2, 0, 0))
            line.add_row(name, ProgressBar(max(view.target, 1), min(view.done, view.target), width=width), right)
            yield line
        else:
            yield Text(f"{name}  {right}", no_wrap=True, overflow="ellipsis")
        for parts in (view.traffic_parts(), view.cost_parts(), view.pause_parts()):
            joined = " · ".join(parts)
            for text in [joined] if len(joined) <= options.max_width else parts:
                if text:
                    yield Text(text, style="dim", no_wrap=True, overflow="ellipsis")
        if self._stop is not None and self._stop.is_set():
            yield Text(_STOPPING, style="yellow", overflow="fold")

    def start(self, stage: str, target: int, unit: str) -> None:
        self._view = StageView(stage, target, unit).after(self._view)

    def advance(self, done: int, *, answers: int = 0, traffic: RequestStats | None = None) -> None:
        if self._view is not None:
            self._view.advance(done, answers, traffic)

    def finish(self, summary: str) -> None:
        view, self._view = self._view, None
        if view is not None:
            self._print(f"{view.stage}: {view.summary(summary)}")

    def note(self, message: str) -> None:
        self._print(message)

    def paused(self, pause: Pause | None) -> None:
        if self._view is not None:
            self._view.pause = pause
        if pause is not None and pause.long:
            self._print(f"{pause}.")

    def _print(self, line: str) -> None:
        if self.live is not None:
            self.live.console.print(plain_text(line), highlight=False, markup=False)


class _Lines:
    """A plain line every few seconds, for logs and pipes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, prefix: str = "") -> None:
        self._clock = clock
        self._prefix = prefix
        self._view = StageView(clock=clock)
        self._next = 0.0

    def start(self, stage: str, target: int, unit: str) -> None:
        self._view = StageView(stage, target, unit, self._clock).after(self._view)
        self._next = self._clock() + _LINE_EVERY_S
        self._say(f"{self._view.name}: 0 / {target:,} {unit}")

    def advance(self, done: int, *, answers: int = 0, traffic: RequestStats | None = None) -> None:
        view = self._view
        view.advance(done, answers, traffic)
        if self._clock() < self._next:
            return
        self._next = self._clock() + _LINE_EVERY_S
        left = view.left()
        parts = [pace(view.rate, view.unit), *view.traffic_parts(), *view.cost_parts(), *([f"{left} left"] if left else [])]
        self._say(f"{view.name}: {view.done:,} / {view.target:,} {view.unit}; {'; '.join(parts)}")

    def finish(self, summary: str) -> None:
        self._say(f"{self._view.stage}: {self._view.summary(summary)}")
        self._view.ended = True

    def note(self, message: str) -> None:
        self._say(message)

    def paused(self, pause: Pause | None) -> None:
        if pause is not None and pause.long:
            self._say(f"{pause}.")

    def _say(self, line: str) -> None:
        # In one call, so that lines of several threads do not mix.
        sys.stderr.write(f"{plain_text(self._prefix + line)}\n")
        sys.stderr.flush()
