"""What a tracker is: the Protocol, and what it is told.

A tracker of your own is one class in one file. Derive it from `Tracker`; `start`, `log` and `summarise` are enough::

    class Lines(Tracker):
        name = "lines"

        def start(self, run):
            self.file = run.folder / "lines.txt"
            return run.folder.name

        def log(self, number, metrics):
            with self.file.open("a") as file:
                print(number, dict(metrics), file=file)

        def summarise(self, summary): ...
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = ["TrackedRun", "TrackedSummary", "Tracker"]


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run as its trackers see it when it starts or resumes.

    Attributes:
        name: the name of its folder.
        group: the name of the comparison that it is a cell of; empty if it is none.
        folder: the run directory; only stepsynth writes to it.
        task: the task's name.
        version: stepsynth's.
        params: the settings that the run was started with, flat: ``method.rounds`` -> 2. Paths of this machine, addresses of
            private servers and headers are left out.
        id: what `Tracker.start` returned in an earlier process of this run; ``None`` the first time.

    Examples:
        >>> run = TrackedRun("shop", "", Path("runs/shop"), "shop", "0.2.0", {"method.rounds": 2})
        >>> run.params["method.rounds"], run.id
        (2, None)
    """

    name: str
    group: str
    folder: Path
    task: str
    version: str
    params: Mapping[str, str | int | float | bool]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class TrackedSummary:
    """The end of a run.

    Attributes:
        metrics: the final figures, such as ``final/test/accuracy``.
        table: a line per student: its round, rows and scores; every line has the same keys.
        files: the page, the results and the config by name; they exist as long as the call lasts.

    Examples:
        >>> TrackedSummary({"final/test/accuracy": 0.9}, [{"round": 0, "rows": 40}], {}).table[0]["rows"]
        40
    """

    metrics: Mapping[str, float]
    table: Sequence[Mapping[str, Any]]
    files: Mapping[str, Path]


@runtime_checkable
class Tracker(Protocol):
    """Receives a run's scores. All calls of a run come one after the other, from one thread.

    A call that raises or takes longer than a minute ends the tracking, never the run.

    Attributes:
        name: what it is called in messages; the name that a package registers it under.

    Examples:
        >>> class Printed(Tracker):
        ...     name = "printed"
        ...
        ...     def start(self, run):
        ...         return run.name
        ...
        ...     def log(self, number, metrics):
        ...         print(f"round {number}: {metrics['select/accuracy']:.3f}")
        >>> Printed().log(0, {"select/accuracy": 0.8125})
        round 0: 0.812
    """

    name: str

    def start(self, run: TrackedRun) -> str:
        """Begin, or continue the tracker's run that ``run.id`` names; return its id, which the run directory keeps."""
        ...

    def rounds(self) -> Collection[int]:
        """Return the rounds that a continued run already has, if the store can be asked.

        stepsynth keeps a list, too; this covers a process that was killed before it wrote a round into it.
        """
        return ()

    def log(self, number: int, metrics: Mapping[str, float]) -> None:
        """Record the figures of a round; with ``test/...`` they come a second time, when the test set was opened."""
        ...

    def summarise(self, summary: TrackedSummary) -> None:
        """Record the final figures, the table and the files of a finished run."""
        ...

    def close(self, state: Literal["finished", "stopped", "failed"]) -> None:
        """End the connection; a run that was stopped or failed may be continued later."""
