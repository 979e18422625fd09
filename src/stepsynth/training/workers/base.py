"""What every way of running workers has in common: the job, its outcome, the work itself, and attempts.

The driver alone repeats what failed: a worker that is lost (killed, silent, or with files that are not those it made) has its
job done again, at most `ATTEMPTS` times. An error that the job itself raised is not repeated.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from stepsynth.errors import ConfigError, RunError
from stepsynth.types import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.students import Model, Student
    from stepsynth.types import Example, Prediction

__all__ = [
    "ATTEMPTS",
    "Job",
    "Outcome",
    "Told",
    "WorkerLostError",
    "Workers",
    "insist",
    "perform",
    "step_limit",
    "with_half_the_steps",
]

ATTEMPTS = 3
_STEP_S = 3600.0


@dataclass(frozen=True)
class Job:
    """A student to train, to judge, or both.

    Attributes:
        config: its sections ``task`` and ``student`` and its seed are the recipe.
        parts: rows to learn from, one training after the other; without any, the student in ``start`` is only judged.
        select: gold rows that pick the best epoch.
        start: folder of the student to continue from, or to judge.
        judged: lists of rows to predict afterwards, one after the other.
        loader: ``MODULE:FUNCTION`` that loads the student in ``start`` from its config and folder, for one that no training needs
            (an exported one, say). A worker keeps it for the next such job. By default the recipe loads it.
    """

    config: RunConfig
    parts: Sequence[Sequence[Example]]
    select: Sequence[Example] = ()
    start: Path | None = None
    judged: Sequence[Sequence[Example]] = ()
    loader: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a job gave, besides the files of its student.

    Attributes:
        steps: the student's optimiser steps, if it counts them.
        predictions: for each list of rows; empty if the model is to be loaded and asked here.
        seconds: for predicting each list.
    """

    steps: int | None
    predictions: Sequence[Sequence[Prediction]] = ()
    seconds: Sequence[float] = ()


class Told(Protocol):
    """Hears of a training."""

    def step(self, done: int, steps: int) -> None:
        """A step was made; an exception ends the training."""
        ...

    def fitted(self) -> None:
        """One part of the rows has been learned."""
        ...

    def predicts(self) -> None:
        """Predictions begin, which report no steps."""
        ...


class Workers(Protocol):
    """A way of running jobs; its methods may be called by several threads at once.

    Attributes:
        apart: whether jobs run in other processes than this one.
    """

    apart: bool

    def at_once(self) -> int:
        """Return how many jobs can run at once now."""
        ...

    def takes(self, config: RunConfig) -> bool:
        """Whether a worker can do such jobs; it cannot know classes of the calling program."""
        ...

    def train(self, job: Job, out: Path | None, scratch: Path, told: Told) -> Outcome:
        """Do a job and return its outcome.

        Args:
            job: what to do.
            out: an existing folder for the student's files; ``None`` keeps none.
            scratch: an existing folder of this job alone, removed by the caller.
            told: hears of its steps.

        Raises:
            Interrupted: a stop was asked for; the job is dropped.
            UserError: the job failed, or workers were lost again and again.
        """
        ...

    def close(self) -> None:
        """Stop all workers; jobs in progress are dropped."""
        ...


def with_half_the_steps(config: RunConfig) -> RunConfig:
    """Return the config for one of two trainings that together make as many optimiser steps as one."""
    steps = math.ceil(config.student.min_steps / 2)
    return config.model_copy(update={"student": config.student.model_copy(update={"min_steps": steps})})


class WorkerLostError(Exception):
    """A worker did not do its job, through no fault of the job; another one may do it. The text goes on from "a worker"."""


def perform(job: Job, student: Student, staged: Student, out: Path | None, scratch: Path, told: Told) -> Outcome:
    """Do a job in this process; every worker calls this.

    Args:
        job: what to do.
        student: the recipe.
        staged: the recipe of each of several trainings.
        out: as for `Workers.train`.
        scratch: as for `Workers.train`.
        told: as for `Workers.train`.
    """
    model: Model | None = None
    recipe, start = (student, job.start) if len(job.parts) == 1 else (staged, None)
    for place, rows in enumerate(job.parts, 1):
        into = out if out and place == len(job.parts) else scratch / str(place)
        into.mkdir(mode=0o700, exist_ok=True)
        model = recipe.fit(rows, job.select, seed=job.config.seed, out=into, start=start, progress=told.step)
        told.fitted()
        start = into
    if model is None or (job.judged and out):
        # Predict with the saved files, not with the model in memory.
        saved = out or job.start
        assert saved is not None  # noqa: S101
        model = _loaded(job, saved) if job.loader else student.load(saved)
    predictions, seconds = [], []
    told.predicts()
    for rows in job.judged:
        assert model is not None  # noqa: S101
        began = time.monotonic()
        # One list at a time: a prediction's last digits depend on its batch.
        predictions.append(model.predict(rows))
        seconds.append(time.monotonic() - began)
    steps = getattr(model, "steps", None)
    return Outcome(None if steps is None else int(steps), predictions, seconds)


_last: list[tuple[str, Model]] = []


def _loaded(job: Job, folder: Path) -> Model:
    """Return the student of a job with a loader; the last one is kept."""
    files = sorted((path.name, found.st_size, found.st_mtime_ns) for path in folder.iterdir() for found in [path.stat()])
    key = digest([job.loader, str(folder), files, job.config.resolved()])
    if not _last or _last[0][0] != key:
        # Before the next one needs its memory.
        _last.clear()
        module, _, name = job.loader.partition(":")
        _last.append((key, getattr(import_module(module), name)(job.config, folder)))
    return _last[0][1]


def step_limit() -> float:
    """Return for how many seconds a worker may report no step while it lives: ``$STEPSYNTH_WORKER_STEP_S``, or an hour.

    Raises:
        ConfigError: the variable is no number of seconds.
    """
    said = os.environ.get("STEPSYNTH_WORKER_STEP_S") or _STEP_S
    with suppress(ValueError):
        if (found := float(said)) > 0:
            return found
    raise ConfigError(f"STEPSYNTH_WORKER_STEP_S is {said!r}.", hint="Give a number of seconds above 0, such as 3600.")


def insist(once: Callable[[], Outcome], folders: Sequence[Path | None], note: Callable[[str], object]) -> Outcome:
    """Do a job, again if its worker is lost.

    Args:
        once: does it.
        folders: emptied before each further attempt.
        note: called with a sentence about each lost worker.

    Raises:
        RunError: `ATTEMPTS` workers were lost.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return once()
        except WorkerLostError as lost:
            if attempt == ATTEMPTS:
                raise RunError(
                    f"a job was given up after {ATTEMPTS} attempts: a worker {lost}.",
                    hint="Run it again, with fewer at once if memory is short.",
                ) from None
            note(f"A worker {lost}; its job is done again (attempt {attempt + 1} of {ATTEMPTS}).")
        for folder in filter(None, folders):
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    raise AssertionError
