"""Finds the student in a folder: the best one of a run, or an exported one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.errors import ConfigError
from stepsynth.exporting.loading import load_model, stored_form
from stepsynth.exporting.student import CONFIG_FILE, read_config
from stepsynth.run import RunDirectory
from stepsynth.run.existing import trained_round

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.students import Model

__all__ = ["FoundStudent", "find_student", "student_config"]


@dataclass(frozen=True)
class FoundStudent:
    """A student that is not loaded yet.

    Attributes:
        config: of the run that trained it.
        folder: of its files.
        round: of its run; ``None`` of an exported student.
    """

    config: RunConfig
    folder: Path
    round: int | None

    @property
    def form(self) -> str:
        """``safetensors``, ``onnx`` or ``openvino``; a user's own student is ``own``."""
        return "own" if self.config.student.own else stored_form(self.folder) or "safetensors"

    def load(self) -> Model:
        """Return the student, ready to answer.

        Raises:
            RunError: its files are damaged.
            ConfigError: what its form needs is not installed.
        """
        return load_model(self.config, self.folder)

    def __str__(self) -> str:
        """Name the student for a message."""
        name = self.config.task.name
        return f"round {self.round}'s student of {name!r}" if self.round is not None else f"student {name!r}"


def find_student(folder: Path, round_number: int | None = None) -> FoundStudent:
    """Find the student in a folder.

    Args:
        folder: a run directory, or an export: the folder ``student`` of one, or the folder above it.
        round_number: of a run, use this round's student instead of the best one.

    Raises:
        RunError: there is no run and no exported student, or the run has no student.
        ConfigError: a round of an exported student was asked for.
    """
    exported = _exported(folder)
    if exported is None:
        directory = RunDirectory.read(folder)
        best = trained_round(directory, round_number)
        return FoundStudent(directory.config, directory.model_path(best), best)
    if round_number is not None:
        raise ConfigError(
            f"{str(exported)!r} is an exported student and has no round {round_number}.", hint="Name a round of a run only."
        )
    return FoundStudent(read_config(exported), exported, None)


def student_config(folder: Path) -> RunConfig:
    """Return the config of the run that trained, or will train, the student in a folder; see `find_student`.

    Raises:
        RunError: there is no run and no exported student.
    """
    exported = _exported(folder)
    return RunDirectory.read(folder).config if exported is None else read_config(exported)


def _exported(folder: Path) -> Path | None:
    return next((place for place in (folder, folder / "student") if (place / CONFIG_FILE).is_file()), None)
