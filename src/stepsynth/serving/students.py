"""The student that is served: the best one of a run, or an exported one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.exporting.finding import FoundStudent, find_student
from stepsynth.tasks import create_family

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.students import Model
    from stepsynth.tasks import TaskFamily

__all__ = ["Served", "open_student"]


@dataclass(frozen=True)
class Served:
    """A student that is ready to answer.

    Attributes:
        found: where it was found, and the config of the run that trained it.
        model: the loaded student.
        family: of its task.
    """

    found: FoundStudent
    model: Model
    family: TaskFamily


def open_student(folder: Path, round_number: int | None = None) -> Served:
    """Load the student in a folder.

    Args:
        folder: a run directory, or an export: the folder ``student`` of one, or the folder above it.
        round_number: of a run, use this round's student instead of the best one.

    Raises:
        RunError: there is no run and no exported student, the run has no student, or its files are damaged.
        ConfigError: a round of an exported student was asked for, or what its form needs is not installed.
    """
    found = find_student(folder, round_number)
    return Served(found, found.load(), create_family(found.config.task))
