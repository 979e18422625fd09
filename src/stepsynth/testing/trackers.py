"""The contract of an experiment tracker as tests, for its author.

    from stepsynth.testing import TrackerContract

    class TestMyTracker(TrackerContract):
        def make(self, folder: Path) -> Tracker:
            return MyTracker(folder / "store")

Pytest finds the tests in the subclass. Only ``make`` is required; `read`, if it is there, returns what the store holds.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stepsynth.tracking import TrackedRun, TrackedSummary
from stepsynth.tracking.guard import Guarded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.tracking import Tracker

__all__ = ["TrackerContract"]

_FIRST = {"select/accuracy": 0.5, "rows/accepted": 30.0, "rows/total": 30.0, "cost/usd": 0.01}
_SECOND = {"select/accuracy": 0.75, "rows/accepted": 12.0, "rows/total": 42.0, "cost/usd": 0.02}
_TABLE = ({"round": 0, "rows": 30, "select": 0.5, "test": None}, {"round": 1, "rows": 42, "select": 0.75, "test": 0.5})


class TrackerContract:
    """The behaviour that stepsynth relies on; subclass it in a test file."""

    # the author's part ----------------------------------------------------------------

    def make(self, folder: Path) -> Tracker:
        """Return a new tracker that keeps what it is told in a folder, or in a server of the test."""
        raise NotImplementedError("a TrackerContract needs a make()")

    def read(self, folder: Path, id: str) -> dict[int, dict[str, float]] | None:
        """Return what the store holds of a run: round -> name -> value; ``None`` if it cannot be asked."""
        del folder, id
        return None

    # the tests -------------------------------------------------------------------------

    def test_it_takes_a_run_from_its_start_to_its_end(self) -> None:
        """Two rounds, the table and the files."""
        with _place() as (folder, run):
            own = self._whole(folder, run)
            self._holds(folder, own, {0: _FIRST, 1: _SECOND})

    def test_a_run_that_was_stopped_goes_on_under_the_same_id(self) -> None:
        """Another process continues it; what it had is kept."""
        with _place() as (folder, run):
            first, second = self.make(folder), self.make(folder)
            thread = Guarded()
            own = thread.call(lambda: first.start(run))
            thread.call(lambda: first.log(0, _FIRST))
            thread.call(lambda: first.close("stopped"))
            _check(thread.call(lambda: second.start(replace(run, id=own))) == own, "a continued run has another id")
            thread.call(lambda: second.log(1, _SECOND))
            thread.call(lambda: second.close("finished"))
            self._holds(folder, own, {0: _FIRST, 1: _SECOND})

    def test_one_tracker_takes_the_runs_of_a_comparison_one_after_the_other(self) -> None:
        """A program's own object is used again."""
        with _place() as (folder, run):
            one = self.make(folder)
            names = [self._whole(folder, replace(run, name=name, group="compare-shop"), one) for name in ("gold-0", "s3-0")]
            _check(len(set(names)) == 2, "two runs have the same id")
            for name in names:
                self._holds(folder, name, {0: _FIRST, 1: _SECOND})

    def test_the_test_scores_of_a_round_come_later(self) -> None:
        """Round 0 comes after round 1 then; nothing may be lost."""
        with _place() as (folder, run):
            tracker, thread = self.make(folder), Guarded()
            own = thread.call(lambda: tracker.start(run))
            late = {"test/accuracy": 0.625}
            for number, metrics in ((0, _FIRST), (1, _SECOND), (0, late), (1, late)):
                thread.call(lambda number=number, metrics=metrics: tracker.log(number, metrics))  # type: ignore[misc]
            thread.call(lambda: tracker.close("finished"))
            self._holds(folder, own, {0: {**_FIRST, **late}, 1: {**_SECOND, **late}})

    def _whole(self, folder: Path, run: TrackedRun, tracker: Tracker | None = None) -> str:
        tracker, thread = tracker or self.make(folder), Guarded()
        own = thread.call(lambda: tracker.start(run))
        _check(isinstance(own, str) and own, f"start returned {own!r}, not an id")
        thread.call(lambda: tracker.log(0, _FIRST))
        thread.call(lambda: tracker.log(1, _SECOND))
        files = {path.name: path for path in (run.folder / "report.html", run.folder / "results.json")}
        thread.call(lambda: tracker.summarise(TrackedSummary({"final/test/accuracy": 0.5}, _TABLE, files)))
        thread.call(lambda: tracker.close("finished"))
        return own

    def _holds(self, folder: Path, id: str, wanted: dict[int, dict[str, float]]) -> None:
        found = self.read(folder, id)
        if found is None:
            return
        for number, metrics in wanted.items():
            for name, value in metrics.items():
                # A store may keep single precision only.
                kept = found.get(number, {}).get(name)
                _check(kept is not None and abs(kept - value) < 1e-6, f"{name} of round {number} is {kept}, not {value}")


@contextmanager
def _place() -> Iterator[tuple[Path, TrackedRun]]:
    """Yield a folder for the store and a run in another one."""
    with tempfile.TemporaryDirectory(prefix="stepsynth-tracker-") as name:
        store, run = Path(name) / "store", Path(name) / "runs" / "shop"
        store.mkdir()
        run.mkdir(parents=True)
        (run / "report.html").write_text("<p>a page</p>\n", encoding="utf-8")
        (run / "results.json").write_text("{}\n", encoding="utf-8")
        params: dict[str, str | int | float | bool] = {
            "method.name": "s3",
            "method.rounds": 1,
            "student.learning_rate": 0.001,
            "student.continued": False,
        }
        yield store, TrackedRun("shop", "", run, "shop", "0.0.0", params)


def _check(holds: object, fault: str) -> None:
    if not holds:
        raise AssertionError(fault)
