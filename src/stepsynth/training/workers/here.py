"""Trains in this process, one student at a time: the default, and for classes that only this program knows."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stepsynth.training.workers.base import Job, Outcome, Told, perform

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.students import Student

__all__ = ["Here"]

# A user's own student may use what belongs to the process, such as random states.
_turn = threading.RLock()


class Here:
    """This process.

    Args:
        recipes: makes the recipe of a config, and that of each of several trainings.
    """

    apart = False

    def __init__(self, recipes: Callable[[RunConfig], tuple[Student, Student]]) -> None:
        self._recipes = recipes

    def at_once(self) -> int:
        """Return 1."""
        return 1

    def takes(self, config: RunConfig) -> bool:
        """Whether a job can be done: always."""
        return True

    def train(self, job: Job, out: Path | None, scratch: Path, told: Told) -> Outcome:
        """See `base.Workers`."""
        student, staged = self._recipes(job.config)
        with _turn:
            return perform(job, student, staged, out, scratch, told)

    def close(self) -> None:
        """Do nothing."""
