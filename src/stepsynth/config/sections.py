"""What a config says of task, data and student; unknown keys are refused. The teacher's section is `config.teacher`."""

from __future__ import annotations

import codecs
import inspect
import os
import re
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from stepsynth.config.addresses import address_problem, as_given
from stepsynth.config.labels import refuse_no_descriptions, refuse_no_labels, refuse_repeats
from stepsynth.errors import StepsynthError
from stepsynth.registry import FAMILIES, STUDENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "FREE_SOURCE_KEYS",
    "Column",
    "DataConfig",
    "Family",
    "FieldConfig",
    "Section",
    "SourceConfig",
    "StudentConfig",
    "TaskConfig",
    "ask_family",
]

# How a file is read: its rows are compared when a run is resumed, so where and in which form they lie is free.
FREE_SOURCE_KEYS = ("path", "delimiter", "encoding", "sheet")
# Ours; a program or a package may bring others.
Family = Literal["classification", "multi_label", "pair", "extractive_qa"]
Prompt = Literal["rationale", "seed", "zerogen", "extrapolate", "answer"]
Column = Literal["text", "label", "labels", "text1", "text2", "context", "question", "answers", "answer", "answer_start"]

# What cannot be the id of a data set on the hub.
_PLACE = re.compile(r"[./~]|[A-Za-z]:[\\/]")


def _is_folder(path: Path) -> bool:
    # Unlike Path.is_dir, this takes names that are too long.
    return os.path.isdir(path)


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class FieldConfig(Section):
    """One text of a pair.

    Attributes:
        name: what it is called in prompts, for instance ``premise``.
        context: whether it is kept as it is; the other one is written.
    """

    name: str = Field(min_length=1, max_length=80)
    context: bool = False


class TaskConfig(Section):
    """What the student has to decide.

    Attributes:
        family: ``classification`` (one label per text), ``multi_label`` (any number of them),
            ``pair`` (one label per two texts), ``extractive_qa`` (an answer inside a passage), or the name
            of an own one, see `stepsynth.tasks.TaskFamily`.
        name: short name, used in file names and titles.
        instruction: one sentence that tells a person what to decide.
        text_kind: what one text is, for instance ``sentence from a movie review``; for pairs
            and questions what the context is, for instance ``paragraph of an article``.
        labels: label -> what it means, in the order in which they are reported; none for
            ``extractive_qa``.
        fields: pairs only: ``text1`` and ``text2``, of which exactly one is the context.
        order: pairs only: the order in which the student reads the two texts.
        prompts: own templates by name (``rationale``, ``seed``, ``zerogen``, ``extrapolate``, ``answer``).
        paragraphs: what is taken of an answer: ``all`` of them, the ``first``, or as gold texts are (``auto``).
        prompt_style: which default templates are used: those for ``small`` teachers, those for ``capable``
            ones (about a billion parameters and more), or what fits the teacher (``auto``).
        options: own families only: what the family is made with.
        identity: own families only: what the family says of itself; filled in when a run begins.
    """

    family: str = "classification"
    name: str = Field(min_length=1, max_length=80)
    instruction: str = Field(min_length=1, max_length=2000)
    text_kind: str = Field(default="text", min_length=1, max_length=200)
    labels: dict[str, str] = {}
    fields: dict[Literal["text1", "text2"], FieldConfig] = {}
    order: tuple[Literal["text1", "text2"], Literal["text1", "text2"]] = ("text1", "text2")
    prompts: dict[Prompt, str] = {}
    paragraphs: Literal["auto", "first", "all"] = "auto"
    prompt_style: Literal["auto", "small", "capable"] = "auto"
    options: dict[str, Any] = {}
    identity: dict[str, Any] = {}

    @field_validator("labels", mode="before")
    @classmethod
    def _named_labels(cls, value: Any) -> Any:
        if not isinstance(value, dict | list | tuple):
            return value
        refuse_no_labels(value)
        refuse_repeats(value)
        if isinstance(value, dict):
            refuse_no_descriptions(value)
        meanings = value if isinstance(value, dict) else dict.fromkeys(value)
        return {str(k): "" if v is None else str(v) for k, v in meanings.items()}

    @field_validator("family", mode="before")
    @classmethod
    def _known_family(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str) and (value in FAMILIES.built_in or _is_stored(info) or value in FAMILIES.names()):
            return value
        raise _not_among(FAMILIES.names())

    @model_validator(mode="after")
    def _fits_its_family(self, info: ValidationInfo) -> TaskConfig:
        ask_family(self.family, "check_task", self, info)
        return self


def _is_stored(info: ValidationInfo) -> bool:
    """Whether the values are those of a run on disk, which can be read without the family's class."""
    return bool(info.context and info.context.get("stored"))


def ask_family(name: str, check: str, values: Section, info: ValidationInfo) -> None:
    """Let a family check values by one of its methods; a stored config has passed the checks of an own family already.

    Raises:
        ValueError: it refuses them, in one line, or fails.
    """
    if _is_stored(info) and name not in FAMILIES.built_in:
        return
    family = FAMILIES.load(name)
    if not hasattr(family, check):
        raise ValueError(f"the task family {name!r} is {family!r}; derive its class from stepsynth.TaskFamily")
    for method in ("check_task", "check_fields", "check_config"):
        if isinstance(inspect.getattr_static(family, method, None), FunctionType):
            raise ValueError(f"{method} of the task family {name!r} is an ordinary method; write @classmethod above it")
    try:
        getattr(family, check)(values)
    except (ValueError, StepsynthError):
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ValueError(f"the task family {name!r} failed on this: {said}") from error


def _not_among(names: Iterable[str]) -> PydanticCustomError:
    return PydanticCustomError("literal_error", "is none of the known ones", {"expected": ", ".join(map(repr, names))})


def _column(value: Any, info: ValidationInfo) -> Any:
    """Refuse a name that no family has for a column; what an own family has is checked where its rows are read."""
    if value in get_args(Column):
        return value
    if isinstance(value, str) and (_is_stored(info) or set(FAMILIES.names()) - set(FAMILIES.built_in)):
        return value
    raise _not_among(get_args(Column))


class SourceConfig(Section):
    """Where rows come from: a file or a hub data set, never both.

    Attributes:
        path: CSV, TSV, JSON, JSONL, Parquet, Arrow or Excel file, compressed or not, or a folder that
            ``datasets`` saved; relative to the config; ``${NAME}`` is an environment variable.
        hub: data set id on the Hugging Face hub, for instance ``stanfordnlp/imdb``, or a folder that
            ``datasets`` can load; relative to the config.
        config: the hub data set's configuration name.
        revision: the hub data set's commit or tag.
        split: the hub data set's split, also of a saved folder.
        delimiter: what stands between the cells of a table; found out when absent.
        encoding: of a text file; UTF-8, or UTF-16 with a byte order mark, when absent.
        sheet: name of the sheet of an Excel file; needed where several have rows.
        columns: our name -> the source's column: ``text``, ``label``; ``labels`` (multi-label);
            ``text1``, ``text2`` (pairs); ``context``, ``question``, ``answers`` (or ``answer`` and
            ``answer_start``) for question answering.
        labels: the source's label value -> our label.
        sample: how many rows to draw, stratified by label; all when absent.
        seed: seed of that draw; the run's seed when absent.
    """

    path: Path | None = None
    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    split: str = "train"
    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    columns: dict[Annotated[str, BeforeValidator(_column)], str] = {}
    labels: dict[str, str] = {}
    sample: int | None = Field(default=None, ge=2)
    seed: int | None = Field(default=None, ge=0)

    # The config's folder; no part of what is stored, so that a project can move.
    _base: Path | None = PrivateAttr(default=None)
    # Rows that a program gave; ``path`` is where a run keeps them.
    _rows: tuple[dict[str, Any], ...] | None = PrivateAttr(default=None)

    @property
    def rows(self) -> tuple[dict[str, Any], ...] | None:
        """The rows themselves, where a program gave them; ``None`` where they are read from their place."""
        return self._rows

    def holding(self, rows: Iterable[dict[str, Any]]) -> SourceConfig:
        """Return the same source with its rows in memory."""
        copy = self.model_copy()
        copy._rows = tuple(rows)
        return copy

    def in_place_of(self, other: SourceConfig) -> SourceConfig:
        """Return the same source with the folder and the rows of another one, whose values it was made from."""
        copy = self.model_copy()
        copy._base, copy._rows = other._base, other._rows
        return copy

    @property
    def base(self) -> Path | None:
        """The config's folder, where the config came from a file."""
        return self._base

    @property
    def folder(self) -> Path | None:
        """The folder that ``hub`` names on this machine, ``None`` where it is the id of a data set on the hub."""
        if self.hub is None:
            return None
        places = (self._base, Path()) if self._base else (Path(),)
        found = [place / Path(self.hub).expanduser() for place in places]
        return next((folder for folder in found if _is_folder(folder)), found[0] if _PLACE.match(self.hub) else None)

    def beside(self, base: Path) -> SourceConfig:
        """Return the same source, with the folder that a relative ``hub`` starts from."""
        copy = self.model_copy()
        copy._base = base
        return copy

    @field_validator("path", "hub", mode="before")
    @classmethod
    def _no_address(cls, value: Any) -> Any:
        if isinstance(value, str | Path) and (problem := address_problem(as_given(value))):
            raise ValueError(problem)
        return value

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        named = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}.get(value or "", value)
        if named is not None and (len(named) != 1 or named in '\r\n"' or named.isalnum()):
            raise ValueError(f"delimiter {value!r} is not one of ',', ';', 'tab', '|' or another single sign")
        return named

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        try:
            if value is None or codecs.lookup(value)._is_text_encoding:
                return value
        # A NUL in a name is a ValueError.
        except (LookupError, ValueError):
            pass
        raise ValueError(f"encoding {value!r} is not known; write utf-8, cp1252 (Western European Windows), latin-1, utf-16, ...")

    @field_validator("labels", mode="before")
    @classmethod
    def _string_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        refuse_no_labels((*value, *value.values()))
        refuse_repeats(value)
        return {str(k): str(v) for k, v in value.items()}

    @model_validator(mode="after")
    def _one_source(self) -> SourceConfig:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of 'path' (a file) and 'hub' (a data set id)")
        return self


class DataConfig(Section):
    """Gold data.

    Attributes:
        validation: the small labelled set; cut into a harvest and a select half.
        test: the sealed test set, read once at the end; optional.
        contexts: pairs and questions: unlabelled contexts to write about (column ``context``);
            the contexts of the harvest half when absent.
        seed: written rows to start from, with the task's columns; no seed rows are asked for then.
        harvest_share: share of the validation rows that mistakes may come from.
    """

    validation: SourceConfig
    test: SourceConfig | None = None
    contexts: SourceConfig | None = None
    seed: SourceConfig | None = None
    harvest_share: float = Field(default=0.5, ge=0.1, le=0.9)


class StudentConfig(Section):
    """The small model and how it is trained (from scratch every round).

    Attributes:
        model: embedded model name, local folder or hub id of an encoder.
        head: classifiers only: ``probe-start`` (a linear layer on the mean of the tokens, started from a
            logistic regression on the frozen encoder, then trained together with it), ``probe``
            (the same, but nothing is trained any further) or ``fresh`` (transformers' own head,
            random at the start).
        max_length: tokens per text, longer ones are cut.
        epochs: passes over the data; at least ``min_steps`` optimiser steps are made.
        min_steps: least number of optimiser steps, for small data sets.
        keep: which weights are kept: the ``last`` ones, or those of the epoch that is ``best`` on the select half.
        precision: of training: ``float32``, ``bfloat16`` (autocast: products are rounded, weights and
            optimiser stay in float32) or ``auto``: bfloat16 where the processor computes in it.
        learning_rate: peak of the linear schedule.
        batch_size: rows per step.
        warmup: steps with rising learning rate; below 1 a share of all steps.
        weight_decay: of AdamW.
        label_smoothing: one label per row only: mass taken from the asked label, a guard against label noise.
        continued: go on from the previous round's weights instead of the base model (an ablation).
        stride: question answering: tokens that neighbouring windows of a long context share.
        max_answer_tokens: question answering: longest answer that is considered.
        kind: name of a student of the user's, see `stepsynth.students.own`; what the family needs when absent.
        options: what a student of the user's is made with; part of what a run is known by.
    """

    model: str = "minilm-l6"
    head: Literal["probe-start", "probe", "fresh"] = "probe-start"
    max_length: int = Field(default=128, ge=8, le=8192)
    epochs: int = Field(default=3, ge=1, le=1000)
    min_steps: int = Field(default=100, ge=0)
    keep: Literal["last", "best"] = "last"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    learning_rate: float = Field(default=1e-4, gt=0, lt=1)
    batch_size: int = Field(default=32, ge=1, le=4096)
    warmup: float = Field(default=0.1, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    continued: bool = False
    stride: int = Field(default=64, ge=0, le=4096)
    max_answer_tokens: int = Field(default=30, ge=1, le=512)
    kind: str | None = Field(default=None, min_length=1, max_length=80)
    options: dict[str, Any] = {}

    @property
    def own(self) -> bool:
        """Whether it is one of the user's, which has no base model."""
        return self.kind is not None and self.kind not in STUDENTS.built_in

    @property
    def called(self) -> str:
        """What pages and results call it: its base model, or a user's own name."""
        return self.kind if self.kind is not None and self.own else self.model

    @model_validator(mode="after")
    def _options_of_a_kind(self) -> StudentConfig:
        if self.options and not self.own:
            raise ValueError("options are for a student of your own: name it in student.kind")
        return self
