"""Writers of ONNX and OpenVINO students for `stepsynth.exporting.student`: the files, and what the card says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.exporting.conversion import fill_folder
from stepsynth.exporting.sections import code
from stepsynth.exporting.student import MAX_LOSS, WrittenStudent
from stepsynth.runtime.counting import counted
from stepsynth.tasks import stored_family

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.run import RunDirectory

__all__ = ["write_onnx", "write_onnx_int8", "write_openvino", "write_openvino_int8"]

_INSTALL = {"onnx": "pip install 'stepsynth[onnx]'", "openvino": "pip install stepsynth"}


def write_onnx(directory: RunDirectory, round_number: int, folder: Path, max_loss: float = MAX_LOSS) -> WrittenStudent:
    """Write a student as ONNX in float32; see `stepsynth.exporting.conversion.fill_folder`."""
    return _write(directory, round_number, folder, "onnx", "fp32", max_loss)


def write_onnx_int8(directory: RunDirectory, round_number: int, folder: Path, max_loss: float = MAX_LOSS) -> WrittenStudent:
    """Write a student as ONNX in eight bits; see `stepsynth.exporting.conversion.fill_folder`."""
    return _write(directory, round_number, folder, "onnx", "int8", max_loss)


def write_openvino(directory: RunDirectory, round_number: int, folder: Path, max_loss: float = MAX_LOSS) -> WrittenStudent:
    """Write a student for OpenVINO in float32; see `stepsynth.exporting.conversion.fill_folder`."""
    return _write(directory, round_number, folder, "openvino", "fp32", max_loss)


def write_openvino_int8(directory: RunDirectory, round_number: int, folder: Path, max_loss: float = MAX_LOSS) -> WrittenStudent:
    """Write a student for OpenVINO in eight bits; see `stepsynth.exporting.conversion.fill_folder`."""
    return _write(directory, round_number, folder, "openvino", "int8", max_loss)


def _write(
    directory: RunDirectory, round_number: int, folder: Path, form: str, precision: str, max_loss: float
) -> WrittenStudent:
    found = fill_folder(directory, round_number, folder, form, precision, max_loss)
    texts = stored_family(directory.config.task).text_columns
    row = '"..."' if len(texts) == 1 else "{" + ", ".join(f'"{name}": "..."' for name in texts) + "}"
    lines = ["import stepsynth as ss", "", 'student = ss.TrainedStudent.load("FOLDER")', f"student.predict([{row}])"]
    compared = ", ".join(counted(part.rows, f"{split} row") for split, part in found.splits.items())
    notes = " ".join([f"It was compared with PyTorch on {compared}.", *found.notes])
    loading = "\n\n".join(
        [
            code(_INSTALL[form], "sh"),
            code("\n".join(lines), "python"),
            f"{found} {notes}",
            "It also runs without stepsynth: the file config.json holds the order of the labels and the longest input.",
        ]
    )
    return WrittenStudent(loading, found)
