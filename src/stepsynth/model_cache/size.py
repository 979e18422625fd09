"""The size of a model, if it can be told without loading it; it decides which prompts the model gets."""

from __future__ import annotations

import os
import re
from pathlib import Path

from stepsynth.errors import AssetError
from stepsynth.model_cache.catalogue import ASSETS
from stepsynth.model_cache.gguf_header import read_header

__all__ = ["model_parameters"]

# Matches "Qwen2.5-0.5B-Instruct", "smollm2:135m", "gemma-3-270m", but not "q4_k_m" or "3m-index".
_NAMED = re.compile(r"(?<![a-z0-9.])(?:\d{1,3}x)?(\d{1,4}(?:\.\d{1,3})?)([bm])(?![a-z0-9])", re.IGNORECASE)


def model_parameters(model: str) -> float | None:
    """Return a model's number of parameters from the catalogue, its file or its name; ``None`` if none of them tells.

    Args:
        model: the value of ``teacher.model``: an embedded model, a GGUF file, a folder, a hub id or a server's model.
    """
    if model in ASSETS:
        return ASSETS[model].parameters
    path = Path(os.path.expanduser(model))
    if path.suffix == ".gguf" and path.is_file():
        try:
            return float(sum(tensor.elements for tensor in read_header(path).tensors))
        except AssetError:
            return None
    # The largest: "7B-Instruct-1M" has room for a million tokens, "30B-A3B" uses three billion at a time.
    found = _NAMED.findall(model.replace("_", "-"))
    return max((float(number) * (1e9 if unit in "bB" else 1e6) for number, unit in found), default=None)
