"""The final student as files: one writer per form, each in its own module.

A writer is a function ``write(directory, round, folder, max_loss)`` that fills a folder and returns a `WrittenStudent`: how the
student is loaded, and the proof that it answers as the trained one. It is named here and imported when it is asked for.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from stepsynth import __version__
from stepsynth.config import parse_stored
from stepsynth.errors import ConfigError, RunError, did_you_mean
from stepsynth.exporting.sections import code, joined
from stepsynth.run.public import public_config

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.exporting.conversion import StudentExport
    from stepsynth.run import RunDirectory

__all__ = [
    "CONFIG_FILE",
    "MAX_LOSS",
    "STUDENT_FORMATS",
    "StudentWriter",
    "WrittenStudent",
    "check_max_loss",
    "read_config",
    "student_writer",
    "write_config",
    "write_plain",
]

# Points of the task's score that eight bits may cost.
MAX_LOSS = 1.0

# What `stepsynth.api.student.TrainedStudent.load` reads beside the weights.
CONFIG_FILE = "stepsynth.json"
STUDENT_FORMATS = {
    "safetensors": "stepsynth.exporting.student:write_plain",
    "onnx": "stepsynth.exporting.engine_writers:write_onnx",
    "onnx-int8": "stepsynth.exporting.engine_writers:write_onnx_int8",
    "openvino": "stepsynth.exporting.engine_writers:write_openvino",
    "openvino-int8": "stepsynth.exporting.engine_writers:write_openvino_int8",
}
_NOT_COPIED = ("done.json",)


def check_max_loss(value: object) -> None:
    """Check the points of the score that eight bits may cost.

    Raises:
        ConfigError: it is no number from 0 to 100.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise ConfigError(f"max_loss is {value!r}.", hint="Give the points that int8 may lose, from 0 to 100.")


@dataclass(frozen=True)
class WrittenStudent:
    """What a writer has written.

    Attributes:
        loading: how the student is loaded, as Markdown.
        proof: its answers beside those of the trained one; ``None`` if its files are the trained ones.
    """

    loading: str
    proof: StudentExport | None = None


class StudentWriter(Protocol):
    """Writes a student in one form."""

    def __call__(self, directory: RunDirectory, round_number: int, folder: Path, max_loss: float) -> WrittenStudent:
        """Fill ``folder`` with the student of a round; in eight bits it may lose ``max_loss`` points of the score."""


def student_writer(name: object) -> StudentWriter:
    """Return the writer of a form.

    Raises:
        ConfigError: there is no such form.
    """
    if not isinstance(name, str) or name not in STUDENT_FORMATS:
        raise ConfigError(f"the student format {name!r} is not known.", hint=did_you_mean(name, STUDENT_FORMATS))
    module, _, attribute = STUDENT_FORMATS[name].partition(":")
    writer: StudentWriter = getattr(import_module(module), attribute)
    return writer


def write_plain(directory: RunDirectory, round_number: int, folder: Path, max_loss: float = MAX_LOSS) -> WrittenStudent:
    """Copy a student's weights, tokenizer and settings; nothing can be lost."""
    for file in sorted(directory.model_path(round_number).iterdir()):
        if file.is_file() and file.name not in _NOT_COPIED:
            shutil.copyfile(file, folder / file.name)
    write_config(directory, folder)
    return WrittenStudent(loading(directory))


def write_config(directory: RunDirectory, folder: Path) -> None:
    """Write what stepsynth needs to load the student, without paths of this machine."""
    values = public_config(directory.config, directory.config.resolved())
    text = json.dumps({"stepsynth": __version__, "config": values}, indent=1, ensure_ascii=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def read_config(folder: Path) -> RunConfig:
    """Return the config of an exported student.

    Raises:
        RunError: there is none.
    """
    try:
        values = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            f"there is no exported student at {str(folder)!r}: {CONFIG_FILE} is missing or cannot be read.",
            hint="Give the folder 'student' of an export; of a run, use Run.load(...).student.",
        ) from None
    return parse_stored(values)


def loading(directory: RunDirectory) -> str:
    """Return how to load a student with stepsynth."""
    from stepsynth.tasks import stored_family

    family = stored_family(directory.config.task)
    texts = family.text_columns
    row = '"..."' if len(texts) == 1 else "{" + ", ".join(f'"{name}": "..."' for name in texts) + "}"
    own = directory.config.student.own
    lines = ["import stepsynth as ss", "", 'student = ss.TrainedStudent.load("FOLDER")', f"student.predict([{row}])"]
    if not family.spans and not own:
        lines.append(f"student.pipeline()  # transformers' text-classification pipeline, with stepsynth {__version__} installed")
    return joined(
        code("\n".join(lines), "python"),
        "The weights are safetensors and the tokenizer is that of the base model; no file contains code."
        + (f" The class of the student {directory.config.student.kind!r} must be imported first." if own else ""),
    ).rstrip()
