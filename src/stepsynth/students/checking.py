"""Checks before a teacher is paid that a base model can be loaded: its config, tokenizer and weight headers.

No weights are loaded. For a hub id, only small files are downloaded, which training needs as well.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from stepsynth.errors import ConfigError
from stepsynth.model_cache.catalogue import ASSETS
from stepsynth.registry import FAMILIES
from stepsynth.runtime.imports import importing
from stepsynth.students.reproducibility import quiet

__all__ = ["check_base", "not_loadable"]

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_HINT = "It must be an encoder with safetensors weights: an embedded name, a local folder or a hub id."


def not_loadable(model: str, why: Exception | str) -> ConfigError:
    """Return the error for a base model that cannot be loaded.

    Args:
        model: as the config names it.
        why: the reason, or the library's error.
    """
    said = why if isinstance(why, str) else f"{type(why).__name__}: {' '.join(str(why).split())[:300]}"
    return ConfigError(f"student.model {model!r} cannot be loaded: {said}", hint=_HINT)


def check_base(model: str, where: Path | str, family: str, head: str = "fresh") -> None:
    """Refuse a local folder or hub id that cannot become a student of the task family.

    Args:
        model: as the config names it; an embedded one is known to be good.
        where: the result of `stepsynth.model_cache.resolve`.
        family: name of the task's family.
        head: ``student.head``.

    Raises:
        ConfigError: no such repository, wrong kind of model, no tokenizer, or incomplete safetensors weights.
    """
    if model in ASSETS:
        return
    try:
        with quiet(), importing():
            from transformers import AutoConfig, AutoTokenizer

            found = AutoConfig.from_pretrained(where, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except Exception as error:  # as of `load_base`
        raise not_loadable(model, error) from error
    # Without tokenizer files, the library makes up a tokenizer that knows no words.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise not_loadable(model, "its tokenizer's files (tokenizer.json and the like) are missing.")
    spans = FAMILIES.load(family).answer_kind == "span"
    if type(found) not in _known(spans=spans):
        kind = "questions" if spans else "labels"
        raise not_loadable(model, f"models of type {found.model_type!r} cannot be trained on {kind}.")
    if head != "fresh" and found.is_encoder_decoder and not spans:
        raise not_loadable(model, "it has a decoder beside its encoder, which needs student.head: fresh.")
    why = _local_weights(where) if isinstance(where, Path) else _hub_weights(where)
    if why:
        raise not_loadable(model, why)


def _known(*, spans: bool) -> Any:
    """Return the model configs that can become a student of a family."""
    with importing():
        from transformers.models.auto import modeling_auto

    if spans:
        return modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING
    return modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING


def _local_weights(folder: Path) -> str:
    """Return the fault of a folder's weights; empty if every file is whole."""
    with importing():
        from safetensors import safe_open

    names = [_WEIGHTS]
    if not (folder / _WEIGHTS).is_file() and (folder / _INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return f"{_INDEX} is damaged."
    for name in names:
        try:
            # Reads the header and checks the file's length against it.
            with safe_open(folder / name, framework="numpy"):
                pass
        except FileNotFoundError:
            others = sorted(path.name for path in folder.glob("*.bin"))[:1]
            return f"{name} is missing{f'; {others[0]} is not used, since such files can run code' if others else ''}."
        except Exception as error:  # safetensors has its own errors, and raises OSError, too
            return f"{name} is damaged ({re.sub(r'^Error while deserializing header: ', '', str(error))[:120]})."
    return ""


def _hub_weights(repository: str) -> str:
    """Return the fault of a repository's weights; empty if it cannot be told without downloading them."""
    with importing():
        from huggingface_hub import HfApi
        from transformers.utils import has_file

    try:
        if has_file(repository, _WEIGHTS) or has_file(repository, _INDEX):
            return ""
        # The hub's converter proposes safetensors for older models in a pull request, which transformers uses.
        refs = HfApi().list_repo_refs(repository, include_pull_requests=True).pull_requests or []
        if any(has_file(repository, _WEIGHTS, revision=ref.ref) for ref in refs[-20:]):
            return ""
    except Exception:  # from the hub's client or its HTTP library; cached files may still load
        return ""
    return f"the repository has no {_WEIGHTS}."
