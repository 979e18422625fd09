"""Loads base models and trained students, and saves a student's folder.

Weights are read only from safetensors, and code that comes with a model is never run.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth import model_cache
from stepsynth.errors import RunError
from stepsynth.runtime.imports import importing
from stepsynth.students.checking import not_loadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from stepsynth.config import StudentConfig
    from stepsynth.students.batches import Network, Tokenizer
    from stepsynth.students.trainer import Epoch

__all__ = ["load_base", "load_trained", "save", "steps_before"]

_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def load_base(architecture: Any, config: StudentConfig, **head: object) -> tuple[Network, Tokenizer]:
    """Load a student's base model in float32 with a fresh head, and its tokenizer.

    Args:
        architecture: one of transformers' ``AutoModelFor...`` classes.
        config: names the base model.
        head: settings of the head, for instance ``num_labels``.

    Raises:
        ConfigError: the base model cannot be loaded.
    """
    with importing():
        from transformers import AutoTokenizer

    where = model_cache.resolve(config.model, kind="student")
    try:
        with importing():
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
            network = architecture.from_pretrained(
                where, **head, ignore_mismatched_sizes=True, use_safetensors=True, trust_remote_code=False, dtype="float32"
            )
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and its dependencies' own
        raise not_loadable(config.model, error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    network.config.pad_token_id = tokenizer.pad_token_id
    return network.to(_device()), tokenizer


def load_trained(architecture: Any, folder: Path, settings: Sequence[str]) -> tuple[Network, Tokenizer, dict[str, int]]:
    """Load a student written by `save`: the network, its tokenizer, and the named numbers of ``training.json``.

    The numbers include ``steps`` if it was recorded; earlier versions did not.

    Raises:
        RunError: files are missing or unreadable.
    """
    with importing():
        from transformers import AutoTokenizer

    try:
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        numbers = {name: int(record[name]) for name in (*settings, *(["steps"] if "steps" in record else []))}
        with importing():
            network = architecture.from_pretrained(folder, use_safetensors=True, **_LOCAL)
            tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCAL)
    except Exception as error:  # safetensors, tokenizers and JSON each raise their own
        raise RunError(
            f"the student in {str(folder)!r} cannot be loaded: {_one_line(error)}",
            hint="Run it again to retrain it.",
        ) from error
    return network.to(_device()).eval(), tokenizer, numbers


def save(
    network: Network,
    tokenizer: Tokenizer,
    out: Path,
    *,
    settings: dict[str, int],
    seed: int,
    history: Sequence[Epoch],
    best: Epoch | None,
    steps: int,
) -> None:
    """Write weights, config, tokenizer and ``training.json`` into ``out``; the network is in eval mode afterwards.

    Args:
        network: the trained network.
        tokenizer: its tokenizer.
        out: an existing folder.
        settings: numbers to store; some are needed to use it.
        seed: the training's seed.
        history: the epochs.
        best: the one whose weights are kept, ``None`` if nothing was trained.
        steps: total optimiser steps.
    """
    network.eval()
    network.save_pretrained(out)
    tokenizer.save_pretrained(out)
    record: dict[str, Any] = {**settings, "seed": seed, "steps": steps}
    record.update(best_epoch=best.epoch if best else 0, epochs=[_shown(epoch) for epoch in history])
    (out / "training.json").write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def steps_before(start: Path | None) -> int:
    """Return the optimiser steps of the student that training continues from; 0 for a base model."""
    try:
        return int(json.loads((start / "training.json").read_text(encoding="utf-8")).get("steps", 0)) if start else 0
    except (OSError, ValueError, AttributeError):
        return 0


def _shown(epoch: Epoch) -> dict[str, float | None]:
    """Return an epoch's numbers, with F1 only if there is one."""
    return {name: value for name, value in asdict(epoch).items() if name != "select_f1" or value is not None}


def _device() -> torch.device:
    with importing():
        import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
