"""How long a run trains: the student makes a few steps on the labelled rows, and the rest is counted.

    found = training_time(config, gold, trainings=19, parts=[180, 60])
    found["minutes"]

Only a trial asks for this, since it loads the student's base model. What else runs on the machine then counts, too.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.runtime.imports import importing
from stepsynth.runtime.shutdown import check_stop
from stepsynth.students import create_student
from stepsynth.students.batches import training_steps
from stepsynth.tasks import create_family
from stepsynth.training import with_half_the_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import RunConfig
    from stepsynth.types import Example

__all__ = ["makes_steps", "training_time"]

# The first step also allocates; the median of the others is not moved by a short break.
_STEPS = 6
_LEAST = 3
# More rows would only take time to read.
_BATCHES = 4


class _EnoughError(Exception):
    """The steps that were wanted are made."""


def training_time(config: RunConfig, gold: Sequence[Example], *, trainings: int, parts: Sequence[int]) -> dict[str, Any] | None:
    """Return how long a run's trainings take on this machine.

    Args:
        config: the run's.
        gold: labelled rows, which are as long as those that students learn from.
        trainings: how many students are trained.
        parts: how many rows each learns from, one part after the other; parts without rows are skipped. Another student whose
            mistakes are extrapolated counts as if it were as fast.

    Returns:
        ``students``, ``steps`` of each, ``steps_per_s`` and ``minutes``. Reading, judging and loading are not counted. ``None``
        for a probe, which makes no steps; for a student named by ``student.kind``, of which it is not known what ends its
        training early; and for questions, whose passages may be read in several windows.

    Raises:
        UserError: the student cannot be trained; a run would say the same.
        Interrupted: a stop was asked for.
    """
    seconds = _seconds_per_step(config, gold) if makes_steps(config) else None
    if seconds is None:
        return None
    learned = [rows for rows in parts if rows]
    student = (with_half_the_steps(config) if len(learned) > 1 else config).student
    steps = sum(training_steps(student, rows) for rows in learned)
    return {
        "students": trainings,
        "steps": steps,
        "steps_per_s": round(1 / seconds, 2),
        "minutes": round(trainings * steps * seconds / 60, 1),
    }


def makes_steps(config: RunConfig) -> bool:
    """Whether a few steps tell how long a training is; see `training_time` for those of which they do not."""
    return config.student.kind is None and config.student.head != "probe" and not create_family(config.task).spans


def _seconds_per_step(config: RunConfig, gold: Sequence[Example]) -> float | None:
    times: list[float] = []

    with importing():
        import torch

    def step(done: int, steps: int) -> None:
        check_stop()
        if torch.cuda.is_available():
            # A GPU has then made the step; before, it may only have been told to.
            torch.cuda.synchronize()
        times.append(time.monotonic())
        if len(times) == _STEPS:
            raise _EnoughError

    most = _BATCHES * config.student.batch_size
    # Every n-th row: a file may be sorted by label.
    shown = list(gold)[:: math.ceil(len(gold) / most)]
    student = config.student.model_copy(update={"min_steps": max(_STEPS, config.student.min_steps)})
    with tempfile.TemporaryDirectory(prefix="stepsynth-") as folder:
        try:
            made = create_student(config.model_copy(update={"student": student}))
            made.fit(shown, [], seed=config.seed, out=Path(folder), progress=step)
        except _EnoughError:
            pass
    gaps = [after - before for before, after in pairwise(times)]
    return statistics.median(gaps) if len(gaps) >= _LEAST else None
