"""Tells trackers about one run: what its journal has and they have not had yet.

``tracking.json`` in the run directory keeps, for each tracker, the id of its run and the rounds that it has had, so that a
resumed run continues there. Nothing is lost without it: then a resumed run begins a new one.
"""

from __future__ import annotations

import json
import logging
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stepsynth.errors import Interrupted
from stepsynth.runtime.files import write_atomic
from stepsynth.runtime.imports import importing
from stepsynth.tracking.base import TrackedRun, TrackedSummary, Tracker
from stepsynth.tracking.figures import final_metrics, final_table, flat, round_metrics, scored_rounds, test_metrics
from stepsynth.tracking.guard import GaveUp, Guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stepsynth.config import RunConfig, TrackerConfig
    from stepsynth.journal import Journal

__all__ = ["FILE", "Tracking", "tracked_run"]

FILE = "tracking.json"
_FORMAT = 1
_ARTEFACTS = ("report.html", "results.json")


@dataclass
class _Had:
    """What one tracker has had of a run.

    Attributes:
        tracker: its name.
        options: its options.
        id: of its own run.
        rounds: rounds whose figures it has.
        tested: rounds whose test scores it has.
        finished: whether it has the summary.
    """

    tracker: str
    options: dict[str, Any] = field(default_factory=dict)
    id: str | None = None
    rounds: list[int] = field(default_factory=list)
    tested: list[int] = field(default_factory=list)
    finished: bool = False


class _Follower:
    """One tracker of a run, as long as it works."""

    def __init__(
        self, tracker: Tracker, had: _Had, save: Callable[[], None], warn: Callable[[str], None], *, prints: bool
    ) -> None:
        self.had = had
        self._tracker, self._save, self._warn, self._prints = tracker, save, warn, prints
        self._thread: Guarded | None = None
        self._gone = False

    def start(self, run: TrackedRun) -> None:
        """Begin, or continue in the tracker's run of an earlier process."""

        def begin() -> tuple[str, list[int]]:
            found = str(self._tracker.start(replace(run, id=self.had.id)))
            return found, [int(number) for number in (getattr(self._tracker, "rounds", tuple)() or ())]

        # A library is imported here, in another thread; the lock is this one's, so that a hanging import cannot keep it.
        with importing():
            found = self._call(begin)
        if found is None:
            return
        name, rounds = found
        if name != self.had.id:
            self.had.rounds, self.had.tested, self.had.finished = [], [], False
        self.had.id, self.had.rounds = name, sorted({*self.had.rounds, *rounds})
        self._save()

    def log(self, number: int, metrics: Mapping[str, float], rounds: list[int]) -> None:
        """Send the figures of a round, unless it is among those that the tracker has had."""
        if metrics and number not in rounds and self._told(lambda: self._tracker.log(number, metrics)):
            rounds.append(number)
            self._save()

    def summarise(self, summary: TrackedSummary) -> None:
        """Send the end of the run, once."""
        if not self.had.finished and self._told(lambda: self._tracker.summarise(summary)):
            self.had.finished = True
            self._save()

    def close(self, state: Literal["finished", "stopped", "failed"]) -> None:
        """End the tracker's run and its thread."""
        if self._thread is not None:
            self._told(lambda: self._tracker.close(state))
            self._thread.close()

    def _told(self, work: Callable[[], None]) -> bool:
        """Make a call; return whether the tracker took it."""

        def done() -> bool:
            work()
            return True

        return bool(self._call(done))

    def _call(self, work: Callable[[], Any]) -> Any:
        if self._gone:
            return None
        self._thread = self._thread or Guarded(prints=self._prints)
        try:
            return self._thread.call(work)
        except GaveUp as error:
            self._gone = True
            self._warn(f"{self.had.tracker!r} no longer tracks this run, which goes on: {str(error).rstrip('.')}.")
            return None


class Tracking:
    """The trackers of a run; without any, every call does nothing.

    Args:
        config: the run's settled config.
        folder: the run directory.
        journal: the run's journal.
        trackers: each with its entry in the config; ``None`` for one that a program gave.
        note: shows the user a line.
        group: the comparison's name, if the run is a cell of one.
        params: the settings to show.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        journal: Journal,
        trackers: Sequence[tuple[TrackerConfig | None, Tracker]],
        note: Callable[[str], None],
        *,
        group: str = "",
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self._config, self._folder, self._journal, self._note = config, folder, journal, note
        self._params = dict(params or {})
        self._group = group
        self._known = _read(folder / FILE) if trackers else []
        self._followers = [
            _Follower(tracker, self._entry(entry, tracker), self._save, self._warn, prints=entry is None)
            for entry, tracker in trackers
        ]

    def start(self) -> None:
        """Begin or continue; a tracker that has had everything of a finished run is not asked again."""
        from stepsynth import __version__

        with self._harmless():
            done = self._journal.meta("finished") is not None
            self._followers = [one for one in self._followers if not (done and one.had.finished)]
            name = self._folder.name
            run = TrackedRun(name, self._group, self._folder, self._config.task.name, __version__, flat(self._params))
            for one in self._followers:
                one.start(run)
        self.update()

    def update(self) -> None:
        """Send the rounds that the journal has and the trackers have not had."""
        if not self._followers:
            return
        with self._harmless():
            for number in scored_rounds(self._journal):
                if any(number not in one.had.rounds for one in self._followers):
                    metrics = round_metrics(self._journal, self._config, number)
                    for one in self._followers:
                        one.log(number, metrics, one.had.rounds)
                metrics = test_metrics(self._journal, number)
                for one in self._followers:
                    one.log(number, metrics, one.had.tested)

    def finish(self, results: Mapping[str, Any]) -> None:
        """Send the final figures, the table, the page, the results and the config."""
        if not self._followers:
            return
        self.update()
        with self._harmless(), tempfile.TemporaryDirectory(prefix="stepsynth-", ignore_cleanup_errors=True) as folder:
            config = Path(folder) / "config.json"
            config.write_text(json.dumps(self._params, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            files = {name: path for name in _ARTEFACTS if (path := self._folder / name).is_file()}
            summary = TrackedSummary(final_metrics(results), final_table(results), {**files, config.name: config})
            for one in self._followers:
                one.summarise(summary)

    def close(self, state: Literal["finished", "stopped", "failed"]) -> None:
        """End the trackers' runs."""
        for one in self._followers:
            one.close(state)

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Turn any fault in telling into a warning."""
        try:
            yield
        except Interrupted:
            raise
        except Exception as error:
            logging.getLogger("stepsynth").warning("tracking failed", exc_info=True)
            self._note(f"Tracking failed, the run goes on: {type(error).__name__}: {' '.join(str(error).split())[:200]}.")

    def _warn(self, line: str) -> None:
        logging.getLogger("stepsynth").warning("%s", line)
        self._note(line)

    def _entry(self, entry: TrackerConfig | None, tracker: Tracker) -> _Had:
        name = entry.name if entry else str(getattr(tracker, "name", "") or type(tracker).__name__)
        options = dict(entry.options) if entry else {}
        # Another server or project has none of it.
        found = next((had for had in self._known if (had.tracker, had.options) == (name, options)), None)
        if found is None:
            found = _Had(name, options)
            self._known.append(found)
        return found

    def _save(self) -> None:
        with self._harmless():
            document = {"format": _FORMAT, "trackers": [asdict(had) for had in self._known]}
            write_atomic(self._folder / FILE, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _read(path: Path) -> list[_Had]:
    """Return what trackers had before; an unreadable file is as good as none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return [_Had(**found) for found in document["trackers"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


@contextmanager
def tracked_run(tracking: Tracking) -> Iterator[Tracking]:
    """Begin the tracking of a run that is open for writing, and end it with the block."""
    state: Literal["finished", "stopped", "failed"] = "failed"
    try:
        tracking.start()
        yield tracking
        state = "finished"
    except (Interrupted, KeyboardInterrupt):
        state = "stopped"
        raise
    finally:
        tracking.close(state)
