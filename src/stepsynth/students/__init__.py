"""Students: small models trained on the teacher's rows.

A student knows nothing about teachers, journals or rounds: rows in, a saved model out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.types import Example, Prediction

__all__ = ["Model", "Student", "create_student"]


class Model(Protocol):
    """A trained student."""

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        """Return one prediction per example, in order; the examples' labels are not read."""
        ...


class Student(Protocol):
    """A recipe that turns rows into a `Model`."""

    def fit(
        self,
        train: Sequence[Example],
        select: Sequence[Example],
        *,
        seed: int,
        out: Path,
        start: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Model:
        """Train and write the model's files into ``out``.

        Args:
            train: rows to learn from.
            select: gold rows that pick the best checkpoint; without any, the last one is kept.
            seed: for initialisation, order and dropout; same seed, same weights on one CPU.
            out: an existing empty folder; the caller renames it when it is complete.
            start: folder of an earlier student to continue from; by default the base model.
            progress: called with ``(steps done, total steps)``.
        """
        ...

    def load(self, folder: Path) -> Model:
        """Load the model that ``fit`` wrote into ``folder``."""
        ...


def create_student(config: RunConfig) -> Student:
    """Create the configured student, or the default of the task family; heavy libraries are first imported here."""
    from stepsynth.registry import STUDENTS
    from stepsynth.tasks import create_family

    family = create_family(config.task)
    if config.student.kind is not None:
        from stepsynth.students.guarding import GuardedStudent
        from stepsynth.students.own import StudentRecipe, chosen_student

        chosen = chosen_student(config)
        return GuardedStudent(chosen, family) if isinstance(chosen, StudentRecipe) else chosen
    made: Student = STUDENTS.load(family.student)(config.student, family)
    return made
