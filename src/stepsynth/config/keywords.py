"""Keys of a config's sections as keyword arguments: what editors complete, type checkers check and `help` shows.

The typed dicts are for type checkers, which read source only; a test holds them to the sections' fields. What a class takes at
run time is `signature_of` and `described`, made from the fields themselves.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pydantic import BaseModel

__all__ = [
    "AnyTask",
    "AnyTeacher",
    "BudgetKeys",
    "FunctionKeys",
    "MethodKeys",
    "SourceKeys",
    "StudentKeys",
    "TaskKeys",
    "TeacherKeys",
    "TeacherWithAddress",
    "described",
    "signature_of",
    "with_keywords",
]

_ATTRIBUTE = re.compile(r"    (\w+): ")


class TaskKeys(TypedDict, total=False):
    """Keys of ``task`` that every class of tasks takes."""

    text_kind: str
    fields: Mapping[Literal["text1", "text2"], Mapping[str, Any]]
    order: Sequence[Literal["text1", "text2"]]
    prompts: Mapping[Literal["rationale", "seed", "zerogen", "extrapolate", "answer"], str]
    paragraphs: Literal["auto", "first", "all"]
    prompt_style: Literal["auto", "small", "capable"]
    options: Mapping[str, Any]


class AnyTask(TaskKeys, total=False):
    """Keys of ``task`` that `Task` takes besides its own arguments."""

    labels: Mapping[str, str] | Iterable[str]


class SourceKeys(TypedDict, total=False):
    """Keys of a source of rows, besides the rows themselves."""

    config: str
    revision: str
    split: str
    delimiter: str
    encoding: str
    sheet: str
    columns: Mapping[str, str | int]
    labels: Mapping[Any, str]
    sample: int
    seed: int


class FunctionKeys(TypedDict, total=False):
    """Keys of ``teacher`` for a function in this process."""

    sampling: Mapping[str, float]
    structured: Literal["text", "json"]
    concurrency: int
    timeout_s: float
    connect_timeout_s: float
    attempts: int
    requests_per_minute: int | None
    longest_pause_s: float
    price: Mapping[str, float] | None


class TeacherKeys(FunctionKeys, total=False):
    """Keys of ``teacher`` that every other class of teachers takes."""

    api_version: str
    rows_per_request: int
    mode: Literal["live", "batch"]
    options: Mapping[str, Any]
    headers: Mapping[str, str | Mapping[Literal["env"], str]]
    reasoning_tokens: int
    logprobs: bool
    replicas: int
    cluster: str | None
    resources: Mapping[str, Any]


class TeacherWithAddress(TeacherKeys, total=False):
    """Those, and a server's address."""

    base_url: str | Sequence[str]


class AnyTeacher(TeacherWithAddress, total=False):
    """All keys of ``teacher``."""

    backend: str
    model: str | os.PathLike[str]
    api_key_env: str | None


class StudentKeys(TypedDict, total=False):
    """Keys of ``student`` besides its model."""

    head: Literal["probe-start", "probe", "fresh"]
    max_length: int
    epochs: int
    min_steps: int
    keep: Literal["last", "best"]
    precision: Literal["auto", "float32", "bfloat16"]
    learning_rate: float
    batch_size: int
    warmup: float
    weight_decay: float
    label_smoothing: float
    continued: bool
    stride: int
    max_answer_tokens: int
    kind: str | None
    options: Mapping[str, Any]


class BudgetKeys(TypedDict, total=False):
    """Keys of ``budget``."""

    requests: int | None
    tokens: int | None
    usd: float | None


class MethodKeys(TypedDict, total=False):
    """Keys of ``method`` that methods share; a method refuses those that it does not read."""

    seed_rows: int
    seed_from: Literal["auto", "reasons", "instruction", "gold", "examples"]
    demonstrations: Literal["auto", "fixed", "drawn"]
    rounds: int
    rows_per_mistake: int
    rationales: int
    rationales_per_row: int
    rows_per_answer: int
    max_overgeneration: float
    feedback: Literal["auto", "drops", "none"]
    balance: Literal["even", "mistakes"]
    label_check: Literal["auto", "harvest", "none"]
    label_check_ratio: float
    second_reading: Literal["none", "drop", "relabel"]
    readings: int
    stop: Literal["rounds", "no-gain"]
    mistakes_of: str | None
    few_shot: int
    folds: int
    final: Literal["auto", "labels", "written", "both", "stages", "pool", "all", "weighted"]
    pool_labels: Literal["hard", "soft", "aligned", "confident"]
    pool_rows: int
    annotate_rows: int
    annotate_per_mistake: int
    near_duplicates: float | Literal["none"]
    pool_near_duplicates: float | Literal["auto", "none"]


def signature_of(own: Callable[..., Any], keys: Iterable[str], section: type[BaseModel]) -> inspect.Signature:
    """Return what a constructor takes, with the keys of a section in the place of its ``**settings``.

    Args:
        own: its ``__init__``.
        keys: the keys that it takes.
        section: the section, whose fields have their types and defaults.
    """
    wanted = set(keys)
    taken = (
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=field.get_default(call_default_factory=True))
        for key, field in section.model_fields.items()
        if key in wanted
    )
    return with_keywords(own, taken, bound=True)


def with_keywords(call: Callable[..., Any], more: Iterable[inspect.Parameter], *, bound: bool = False) -> inspect.Signature:
    """Return a call's signature with parameters in the place of its ``**settings``; those that it names itself stay as they are.

    Args:
        call: the call.
        more: the parameters; as many as there are, if it has ``**settings`` at all.
        bound: whether its first parameter is ``self``, which is left out.
    """
    signature = inspect.signature(call)
    named = {name: given for name, given in list(signature.parameters.items())[bound:] if given.kind is not given.VAR_KEYWORD}
    if len(named) + bound < len(signature.parameters):
        named |= {given.name: given for given in more if given.name not in named}
    return signature.replace(parameters=list(named.values()))


def described(section: type[BaseModel], keys: Iterable[str]) -> str:
    """Return what a section's docstring says of these keys, as a part of another docstring; empty without docstrings."""
    lines, found, key = inspect.getdoc(section) or "", dict[str, list[str]](), ""
    for line in lines.partition("Attributes:")[2].splitlines()[1:]:
        if match := _ATTRIBUTE.match(line):
            key = match[1]
        found.setdefault(key, []).append(line)
    wanted = set(keys)
    kept = [line for key in section.model_fields if key in wanted for line in found.get(key, ())]
    return "\n".join(["Settings:", *kept]).rstrip() if kept else ""
