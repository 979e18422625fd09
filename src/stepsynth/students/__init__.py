"""Students: small models trained on the teacher's rows.

A student knows nothing of teachers, journals or rounds: rows in, a saved model out.
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
        """Return one prediction per example, in order; labels of the examples are not read."""
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
            select: gold rows that pick the best checkpoint; with none, the last one is kept.
            seed: of initialisation, order and dropout; same seed, same weights on one CPU.
            out: an existing empty folder; the caller renames it when it is whole.
            start: folder of an earlier student whose weights are trained on; the base model's when absent.
            progress: called with ``(steps done, steps in all)``.
        """
        ...

    def load(self, folder: Path) -> Model:
        """Return the model that ``fit`` wrote into ``folder``."""
        ...


def create_student(config: RunConfig) -> Student:
    """Return the student that a config names, or the one for its task family; no heavy import happens before this call."""
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
