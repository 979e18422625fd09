"""Has students trained and asked: by workers, if there are any that know their classes, else in this process."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepsynth.runtime.files import disk_errors
from stepsynth.runtime.shutdown import check_stop
from stepsynth.training.workers import Here, Job, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.run import RunDirectory
    from stepsynth.runtime.progress import Progress
    from stepsynth.students import Model, Student
    from stepsynth.training.workers import Workers
    from stepsynth.types import Example, Prediction

__all__ = ["Fitter"]


class Fitter:
    """Trains a run's students.

    Args:
        directory: where models and temporary folders are.
        recipes: makes a config's student, and that of each of several trainings, for this process.
        progress: told about steps.
        workers: other processes; ``None`` if there are none.
    """

    def __init__(
        self,
        directory: RunDirectory,
        recipes: Callable[[RunConfig], tuple[Student, Student]],
        progress: Progress,
        workers: Workers | None,
    ) -> None:
        self._directory = directory
        self._student = recipes
        self._here = Here(recipes)
        self._workers = workers
        self._progress = progress
        self._title = self._next = ""

    def keep(
        self,
        parts: Sequence[Sequence[Example]],
        select: Sequence[Example],
        start: Path | None,
        out: Path,
        title: str,
        judged: Sequence[Sequence[Example]],
    ) -> Outcome:
        """Train a student into ``out``.

        Args:
            parts: rows to learn from, one part after the other.
            select: gold rows that pick the best epoch.
            start: the student to continue from.
            out: an existing folder.
            title: what is shown meanwhile.
            judged: rows about which `saved` will be asked: workers predict them at once.
        """
        config = self._directory.config
        apart = self._chosen(config).apart
        job = Job(config, parts, select, start, judged if apart else ())
        return self._do(job, out, title, "first")

    def aside(
        self,
        parts: Sequence[Sequence[Example]],
        select: Sequence[Example],
        judged: Sequence[Sequence[Example]],
        title: str,
        *,
        name: str,
        config: RunConfig | None = None,
    ) -> Sequence[Sequence[Prediction]]:
        """Train a temporary student and return its predictions; none of its files is kept.

        Args:
            parts: as for `keep`.
            select: as for `keep`.
            judged: lists of rows that it has not seen.
            title: what is shown meanwhile.
            name: of its folder.
            config: another recipe than the run's.
        """
        return self._do(Job(config or self._directory.config, parts, select, judged=judged), None, title, name).predictions

    def saved(self, folder: Path, expected: Sequence[Sequence[Example]] = (), known: Outcome | None = None) -> Model:
        """Return a kept student.

        Args:
            folder: its folder.
            expected: lists of rows that it will be asked about.
            known: the outcome of its training, if it was trained just now.
        """
        config = self._directory.config
        if not self._chosen(config).apart:
            return self._student(config)[0].load(folder)

        def ask(lists: Sequence[Sequence[Example]]) -> Outcome:
            return self._do(Job(config, [], start=folder, judged=lists), None, "", "judge")

        return _Asked(ask, expected, known)

    def _chosen(self, config: RunConfig) -> Workers:
        return self._workers if self._workers is not None and self._workers.takes(config) else self._here

    def _do(self, job: Job, out: Path | None, title: str, name: str) -> Outcome:
        check_stop()
        self._title = self._next = title
        with self._scratch(name) as folder:
            return self._chosen(job.config).train(job, out, folder, self)

    def step(self, done: int, steps: int) -> None:
        """Show a step of a training.

        Raises:
            Interrupted: a stop was asked for.
        """
        check_stop()
        if self._title:
            self._progress.start(self._title, steps, "steps")
            self._title = ""
        self._progress.advance(done)

    def fitted(self) -> None:
        """Give the title of a training that reported no step, such as a probe's, for the lines that follow."""
        if self._title:
            self._progress.start(self._title, 1, "fits")
            self._progress.advance(1)
        # Each training counts its own steps.
        self._title = self._next

    def predicts(self) -> None:
        """Nothing is shown: whoever asked for the predictions does."""

    @contextmanager
    def _scratch(self, name: str) -> Iterator[Path]:
        """Yield an empty folder for temporary students; it is removed afterwards."""
        folder = self._directory.path / "models" / f".{name}.part"
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True, mode=0o700)
        folder.mkdir(mode=0o700)
        try:
            with disk_errors(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Asked:
    """A kept student that workers ask.

    Args:
        ask: has lists of rows predicted.
        expected: the lists to ask about at once.
        known: what has been predicted already.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[Sequence[Example]]], Outcome],
        expected: Sequence[Sequence[Example]],
        known: Outcome | None,
    ) -> None:
        self._ask = ask
        self._expected = [list(rows) for rows in expected]
        self._known = known
        self.seconds = 0.0

    @property
    def steps(self) -> int | None:
        """Its optimiser steps, if it counts them."""
        return self._told().steps

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """Return one prediction per example, in order; ``seconds`` is then the time that it took the worker."""
        rows = list(examples)
        outcome, place = (self._told(), self._expected.index(rows)) if rows in self._expected else (self._ask([rows]), 0)
        self.seconds = outcome.seconds[place]
        return list(outcome.predictions[place])

    def _told(self) -> Outcome:
        if self._known is None:
            self._known = self._ask(self._expected)
        return self._known


def taken(model: object, began: float) -> float:
    """Return the seconds that predicting took: a worker's own, or those since ``began``."""
    return model.seconds if isinstance(model, _Asked) else time.monotonic() - began
