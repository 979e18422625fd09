"""Loads students, exported or not: torch's files, ONNX or OpenVINO, whatever is in the folder.

An exported student is the same `Model` around another network, so texts are cut, batched, rounded and decided as in PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from stepsynth.errors import RunError, StepsynthError
from stepsynth.exporting.engines import ENGINES, Run, choose
from stepsynth.runtime.imports import importing
from stepsynth.students import create_student
from stepsynth.students.reproducibility import quiet
from stepsynth.tasks import create_family

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.students import Model

__all__ = ["SECTION", "ExportedNetwork", "load_model", "stored_form"]

# Of an exported student's config.json.
SECTION = "stepsynth"


class ExportedNetwork:
    """A network in another engine, in the shape that `stepsynth.students.batches.forward` calls.

    Args:
        inputs: the names of its inputs.
        run: computes its outputs.
    """

    def __init__(self, inputs: Sequence[str], run: Run) -> None:
        with importing():
            import torch

        self.device = torch.device("cpu")
        self.segments = "token_type_ids" in inputs
        self._inputs = tuple(inputs)
        self._run = run

    def __call__(self, **batch: Any) -> Any:
        """Return the outputs of one batch as tensors, by name."""
        import torch

        found = self._run({name: batch[name].numpy() for name in self._inputs})
        return SimpleNamespace(**{name: torch.from_numpy(values) for name, values in found.items()})


def stored_form(folder: Path) -> str:
    """Return the form of an exported student; empty if its weights are torch's."""
    return str(_section(folder).get("form", ""))


def load_model(config: RunConfig, folder: Path) -> Model:
    """Load the student in a folder.

    Args:
        config: of the run that trained it.
        folder: of a round's student, or an export.

    Raises:
        RunError: files are missing or unreadable, or the student has other labels.
        ConfigError: its engine is not installed.
    """
    told = _section(folder)
    if not told:
        return create_student(config).load(folder)
    engine = choose(told.get("form"), told.get("precision"))
    family = create_family(config.task)
    try:
        with quiet(), importing():
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        network = ExportedNetwork(*engine.open(folder / engine.FILE))
        settings = {name: int(value) for name, value in told["settings"].items()}
        if family.spans:
            from stepsynth.students.extractive_qa import ExtractiveQAModel

            return ExtractiveQAModel(network, tokenizer, family, settings)
        if told["labels"] != list(family.labels):
            raise RunError(f"the student in {str(folder)!r} has labels {told['labels']!r}, not {list(family.labels)!r}.")
        from stepsynth.students.classifier import ClassifierModel

        return ClassifierModel(network, tokenizer, family, settings["max_length"])
    except StepsynthError:
        raise
    except Exception as error:  # every engine raises its own
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise RunError(f"the student in {str(folder)!r} cannot be loaded: {said}", hint="Export it again.") from error


def _section(folder: Path) -> dict[str, Any]:
    """Return what an export wrote about itself; empty for torch's weights."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get(SECTION)
    except (OSError, ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) and found.get("form") in ENGINES else {}
