"""Whether a base model can be loaded, told before a teacher is paid: its config, tokenizer and the heads of its weights.

No weights are loaded. Of a hub id only small files are fetched, which training needs as well.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from stepsynth.errors import ConfigError
from stepsynth.imports import importing
from stepsynth.model_cache.catalogue import ASSETS
from stepsynth.registry import FAMILIES
from stepsynth.students.reproducibility import quiet

__all__ = ["check_base", "not_loadable"]

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_HINT = "It must be an encoder with safetensors weights: an embedded name, a local folder or a hub id."


def not_loadable(model: str, why: Exception | str) -> ConfigError:
    """Return the error of a base model that cannot be loaded.

    Args:
        model: as the config names it.
        why: one reason, or the library's error.
    """
    said = why if isinstance(why, str) else f"{type(why).__name__}: {' '.join(str(why).split())[:300]}"
    return ConfigError(f"student.model {model!r} cannot be loaded: {said}", hint=_HINT)


def check_base(model: str, where: Path | str, family: str, head: str = "fresh") -> None:
    """Refuse a local folder or a hub id that no student of a task family can be made of.

    Args:
        model: as the config names it; an embedded one is known to be good.
        where: what `stepsynth.model_cache.resolve` made of it.
        family: name of the task's.
        head: ``student.head``.

    Raises:
        ConfigError: no such repository, another kind of model, no tokenizer, or no whole safetensors weights.
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
    # Where there are no files of it, the library makes one up that knows no word.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise not_loadable(model, "its tokenizer's files (tokenizer.json and the like) are missing.")
    spans = FAMILIES.load(family).answer_kind == "span"
    if type(found) not in _known(spans=spans):
        kind = "questions" if spans else "labels"
        raise not_loadable(model, f"a model of the type {found.model_type!r} has no form that learns {kind}.")
    if head != "fresh" and found.is_encoder_decoder and not spans:
        raise not_loadable(model, "it has a decoder beside its encoder, which needs student.head: fresh.")
    why = _local_weights(where) if isinstance(where, Path) else _hub_weights(where)
    if why:
        raise not_loadable(model, why)


def _known(*, spans: bool) -> Any:
    """Return the configs of the models that students of a family are made of."""
    with importing():
        from transformers.models.auto import modeling_auto

    if spans:
        return modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING
    return modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING


def _local_weights(folder: Path) -> str:
    """Return what is wrong with a folder's weights; nothing where each file is whole."""
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
            # Reads the head, and whether the file is as long as that says.
            with safe_open(folder / name, framework="numpy"):
                pass
        except FileNotFoundError:
            others = sorted(path.name for path in folder.glob("*.bin"))[:1]
            return f"{name} is missing{f', and {others[0]} is not read, since such files can run code' if others else ''}."
        except Exception as error:  # safetensors has its own, and raises OSError, too
            return f"{name} is damaged ({re.sub(r'^Error while deserializing header: ', '', str(error))[:120]})."
    return ""


def _hub_weights(repository: str) -> str:
    """Return what is wrong with a repository's weights; nothing where nobody can tell before they are fetched."""
    with importing():
        from huggingface_hub import HfApi
        from transformers.utils import has_file

    try:
        if has_file(repository, _WEIGHTS) or has_file(repository, _INDEX):
            return ""
        # The hub's own converter offers safetensors of older models as a proposed change, which transformers takes.
        refs = HfApi().list_repo_refs(repository, include_pull_requests=True).pull_requests or []
        if any(has_file(repository, _WEIGHTS, revision=ref.ref) for ref in refs[-20:]):
            return ""
    except Exception:  # of the hub's client or its HTTP library; what is cached may still be loaded
        return ""
    return f"the repository has no {_WEIGHTS}."
