"""The final student as ONNX or OpenVINO files, in float32 or eight bits, which answer as it does in PyTorch.

    export_student(RunDirectory.read(run), Path("small"), "onnx", "int8")

The files are written into a folder of another name, loaded again, and compared with PyTorch on gold rows. Only then does the
folder get its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError, RunError, StepsynthError
from stepsynth.exporting.agreement import Agreement, Proof, check_same, check_score, compare, proof_rows
from stepsynth.exporting.engines import Engine, choose
from stepsynth.exporting.folder import new_folder, refuse_existing
from stepsynth.exporting.loading import SECTION, load_model
from stepsynth.exporting.student import MAX_LOSS, check_max_loss, write_config
from stepsynth.run.existing import trained_round
from stepsynth.runtime.files import DISK_ERRORS
from stepsynth.runtime.imports import importing
from stepsynth.runtime.shutdown import check_stop
from stepsynth.students import create_student
from stepsynth.students.reproducibility import quiet, seeded
from stepsynth.tasks import create_family
from stepsynth.types import Example

if TYPE_CHECKING:
    from stepsynth.run import RunDirectory
    from stepsynth.students.batches import Row

__all__ = ["StudentExport", "export_student", "fill_folder"]

_FORMAT = 1
_NAMES = {"onnx": "ONNX", "openvino": "OpenVINO"}
_WEIGHTS = ("model.safetensors", "head.safetensors")


@dataclass(frozen=True)
class StudentExport:
    """An exported student, and the proof that it answers as the trained one.

    Attributes:
        form: ``onnx`` or ``openvino``.
        precision: ``fp32`` or ``int8``.
        files: name -> bytes.
        trained_bytes: bytes of the trained weights.
        agreement: its answers beside PyTorch's, on all rows.
        splits: split -> the same, on its rows.
        calibrated_on: rows of which the ranges of activations were taken; 0 if none were needed.
        notes: what is special about these rows, a sentence each.
    """

    form: str
    precision: str
    files: dict[str, int]
    trained_bytes: int
    agreement: Agreement
    splits: dict[str, Agreement]
    calibrated_on: int = 0
    notes: tuple[str, ...] = ()

    @property
    def model_bytes(self) -> int:
        """Bytes of the model's files."""
        return sum(size for name, size in self.files.items() if name.startswith("model."))

    def __str__(self) -> str:
        """What was proved, in a sentence or two."""
        found, sizes = self.agreement, f"{self.model_bytes / 1e6:.1f} MB instead of {self.trained_bytes / 1e6:.1f} MB"
        said = f"{_NAMES[self.form]} in {self.precision}, {sizes}."
        if self.precision == "fp32":
            return f"{said} All {found.rows:,} answers are PyTorch's, probabilities differ by at most {found.furthest:.1g}."
        return f"{said} {found.same:,} of {found.rows:,} answers are PyTorch's; the score changes by {found}."


def export_student(
    directory: RunDirectory,
    folder: Path,
    form: str,
    precision: str = "fp32",
    max_loss: float = MAX_LOSS,
    round_number: int | None = None,
) -> StudentExport:
    """Write a run's student into a new folder; after an error nothing of it is left.

    Args:
        directory: the run.
        folder: must not exist.
        form: ``onnx`` or ``openvino``.
        precision: ``fp32`` or ``int8``.
        max_loss: points of the score that ``int8`` may lose.
        round_number: of the student; the best one by default.

    Raises:
        ConfigError: the form, the precision or ``max_loss`` is not possible, a package is missing, the student is of the
            user's own class, or the folder exists.
        RunError: the run has no student, the export does not answer as PyTorch does, or it cannot be written.
    """
    _check(directory, form, precision, max_loss)
    refuse_existing(folder)
    number = trained_round(directory, round_number)
    with new_folder(folder) as part:
        return fill_folder(directory, number, part, form, precision, max_loss)


def fill_folder(
    directory: RunDirectory, round_number: int, folder: Path, form: str, precision: str = "fp32", max_loss: float = MAX_LOSS
) -> StudentExport:
    """Write a round's student into an empty folder that becomes an export later; see `export_student`.

    Raises:
        ConfigError: see `export_student`.
        RunError: see `export_student`; the folder is then of no use.
    """
    engine = _check(directory, form, precision, max_loss)
    config, source = directory.config, directory.model_path(round_number)
    proof = proof_rows(directory, round_number)
    if not proof.rows:
        raise RunError("the run has no labelled rows to compare the export on.", hint="Export the student as safetensors.")
    with quiet():
        model: Any = create_student(config).load(source)
        model.network.to("cpu")
        check_stop()
        calibration = model.rows(proof.calibration) if precision == "int8" else []
        _write_model(engine, model, folder, precision, calibration, f"the student as {_NAMES[form]}")
        _write_settings(directory, source, folder, form, precision, model.settings)
        check_stop()
        found, splits = _proved(directory, model, folder, proof)
    what = f"the student as {_NAMES[form]} in {precision}"
    if precision == "fp32":
        check_same(found, what)
    else:
        check_score(found, what, max_loss)
    return StudentExport(
        form=form,
        precision=precision,
        files={file.name: file.stat().st_size for file in sorted(folder.iterdir())},
        trained_bytes=sum((source / name).stat().st_size for name in _WEIGHTS if (source / name).is_file()),
        agreement=found,
        splits=splits,
        calibrated_on=len(proof.calibration) if precision == "int8" and form == "openvino" else 0,
        notes=proof.notes,
    )


def _check(directory: RunDirectory, form: str, precision: str, max_loss: float) -> Engine:
    """Check what can be checked without loading anything; return the engine.

    Raises:
        ConfigError: it is not possible.
    """
    engine = choose(form, precision)
    check_max_loss(max_loss)
    if directory.config.student.own:
        raise ConfigError(
            f"the student {directory.config.student.kind!r} is your own class, which stepsynth cannot turn into {_NAMES[form]}.",
            hint="Export its files as they are (safetensors), or let its fit() write such a file.",
        )
    return engine


def _write_model(engine: Engine, model: Any, folder: Path, precision: str, calibration: Sequence[Row], what: str) -> None:
    """Convert the network into the folder."""
    import torch

    outputs = ("logits",) if hasattr(model, "labels") else ("start_logits", "end_logits")
    feed = _example(model)
    plain = folder / engine.FILE
    if precision == "int8":
        (folder / "fp32").mkdir()
        plain = folder / "fp32" / engine.FILE
    try:
        with seeded(0), importing(), torch.inference_mode():
            engine.convert(_as_function(model.network, outputs), feed, outputs, plain)
        if precision == "int8":
            check_stop()
            engine.quantise(plain, folder / engine.FILE, [_alone(row) for row in calibration])
            for file in plain.parent.iterdir():
                file.unlink()
            plain.parent.rmdir()
    except (StepsynthError, MemoryError):
        raise
    except Exception as error:  # torch and the engines raise their own
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        kind = model.network.config.model_type
        raise RunError(f"{what} cannot be written, its base is a {kind!r}: {said}.", hint="Export it as safetensors.") from error


def _example(model: Any) -> dict[str, Any]:
    """Return a batch of two rows, one of them padded, as tensors: the network is traced with it."""
    import torch

    row = model.rows([Example("0", "one text", "one", "and another text")])[0]
    ids = torch.tensor([row["input_ids"]] * 2)
    mask = torch.ones_like(ids)
    mask[1, -1] = 0
    feed = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in row:
        feed["token_type_ids"] = torch.tensor([row["token_type_ids"]] * 2)
    return feed


def _alone(row: Row) -> dict[str, Any]:
    """Return a batch of one row as arrays."""
    import numpy

    feed = {name: numpy.asarray([values], dtype=numpy.int64) for name, values in row.items()}
    return {"input_ids": feed.pop("input_ids"), "attention_mask": numpy.ones((1, len(row["input_ids"])), numpy.int64), **feed}


def _as_function(network: Any, outputs: Sequence[str]) -> Any:
    """Return a module whose outputs are tensors in order, as exporters want it."""
    import torch

    class Function(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
        ) -> tuple[torch.Tensor, ...]:
            segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            found = self.network(input_ids=input_ids, attention_mask=attention_mask, **segments)
            return tuple(getattr(found, name) for name in outputs)

    return Function().eval()


def _write_settings(
    directory: RunDirectory, source: Path, folder: Path, form: str, precision: str, settings: dict[str, int]
) -> None:
    """Write the tokenizer and both configs: one for stepsynth, one for other programs."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    family = create_family(directory.config.task)
    told = {
        "format": _FORMAT,
        "form": form,
        "precision": precision,
        "labels": list(family.labels),
        "several_labels": family.several_labels,
        # The columns in the order in which the tokenizer takes them.
        "texts": list(family.texts(Example("", family.written, context=family.kept))),
        "settings": settings,
    }
    values = {**json.loads((source / "config.json").read_text(encoding="utf-8")), SECTION: told}
    (folder / "config.json").write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_config(directory, folder)


def _proved(directory: RunDirectory, model: Any, folder: Path, proof: Proof) -> tuple[Agreement, dict[str, Agreement]]:
    """Compare the files in the folder with the model in PyTorch, on all rows and on those of each split."""
    exported, family = load_model(directory.config, folder), create_family(directory.config.task)
    rows = proof.examples
    after = exported.predict(rows)
    # Alone, too: a size that was fixed when the network was traced would show.
    if any(math.isnan(share) for found in (*after, *exported.predict(rows[:1])) for share in found.probabilities.values()):
        raise RunError("the exported student gives probabilities that are no numbers.", hint="Export it as safetensors.")
    before = model.predict(rows)
    splits, start = {}, 0
    for split, members in proof.rows.items():
        place = slice(start, start + len(members))
        splits[split] = compare(family, members, before[place], after[place])
        start = place.stop
    return compare(family, rows, before, after), splits
