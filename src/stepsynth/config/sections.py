"""The sections ``task``, ``data`` and ``student`` of a config; unknown keys are refused. ``teacher`` is in `config.teacher`."""

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
    "SOURCES",
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

# How a file is read. Its rows are compared on resuming, so its path and format may change.
FREE_SOURCE_KEYS = ("path", "delimiter", "encoding", "sheet")
# Keys of the section ``data`` that name rows.
SOURCES = ("validation", "test", "contexts", "seed", "pool")
# The built-in ones; a program or package may add others.
Family = Literal["classification", "multi_label", "pair", "extractive_qa"]
Prompt = Literal["rationale", "seed", "zerogen", "extrapolate", "answer"]
Column = Literal["text", "label", "labels", "text1", "text2", "context", "question", "answers", "answer", "answer_start"]

# The start of a path, which cannot be a hub id.
_PLACE = re.compile(r"[./~]|[A-Za-z]:[\\/]")


def _is_folder(path: Path) -> bool:
    # Unlike Path.is_dir, this accepts names that are too long.
    return os.path.isdir(path)


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class FieldConfig(Section):
    """One text of a pair.

    Attributes:
        name: its name in prompts, for instance ``premise``.
        context: whether it is kept; the other one is written.
    """

    name: str = Field(min_length=1, max_length=80)
    context: bool = False


class TaskConfig(Section):
    """What the student has to decide.

    Attributes:
        family: ``classification`` (one label per text), ``multi_label`` (any number of them),
            ``pair`` (one label per two texts), ``extractive_qa`` (an answer inside a passage), or the name
            of your own, see `stepsynth.tasks.TaskFamily`.
        name: short name, used in file names and titles.
        instruction: one sentence that tells a person what to decide.
        text_kind: what a text is, for instance ``sentence from a movie review``; for pairs
            and questions, what a context is, for instance ``paragraph of an article``.
        labels: label -> meaning, in the order in which they are reported; none for
            ``extractive_qa``.
        fields: pairs only: ``text1`` and ``text2``, of which exactly one is the context.
        order: pairs only: the order in which the student reads the two texts.
        prompts: your own templates by name (``rationale``, ``seed``, ``zerogen``, ``extrapolate``, ``answer``).
        paragraphs: the paragraphs of an answer to keep: ``all``, the ``first``, or as in the gold texts (``auto``).
        prompt_style: the default templates: those for ``small`` teachers, those for ``capable`` ones
            (about a billion parameters and more), or whichever fits the teacher (``auto``).
        options: own families only: the family's constructor arguments.
        identity: own families only: what identifies the family; filled in when a run begins.
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
        if isinstance(value, str) and (_is_stored(info) or value in FAMILIES):
            return value
        raise _not_among(FAMILIES.names())

    @model_validator(mode="after")
    def _fits_its_family(self, info: ValidationInfo) -> TaskConfig:
        ask_family(self.family, "check_task", self, info)
        return self


def _is_stored(info: ValidationInfo) -> bool:
    """Whether the values come from a run on disk, which can be read without the family's class."""
    return bool(info.context and info.context.get("stored"))


def ask_family(name: str, check: str, values: Section, info: ValidationInfo) -> None:
    """Check values with a method of their family; stored configs have already passed the checks of an own family.

    Raises:
        ValueError: the family refuses them, in one line, or fails.
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
    """Refuse a column that no family has; the columns of an own family are checked when its rows are read."""
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
        hub: id of a data set on the Hugging Face hub, for instance ``stanfordnlp/imdb``, or a folder that
            ``datasets`` can load; relative to the config.
        config: the hub data set's configuration name.
        revision: the hub data set's commit or tag.
        split: the split of the hub data set or saved folder.
        delimiter: the delimiter of a table's cells; detected by default.
        encoding: of a text file; by default UTF-8, or UTF-16 with a byte order mark.
        sheet: the sheet of an Excel file; needed if several have rows.
        columns: our name -> the source's column: ``text``, ``label``; ``labels`` (multi-label);
            ``text1``, ``text2`` (pairs); ``context``, ``question``, ``answers`` (or ``answer`` and
            ``answer_start``) for question answering.
        labels: the source's label value -> our label.
        sample: number of rows to draw, stratified by label; by default all.
        seed: seed of that draw; by default the run's seed.
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

    # The config's folder; not stored, so that a project can move.
    _base: Path | None = PrivateAttr(default=None)
    # Rows given from Python; ``path`` is where a run keeps them.
    _rows: tuple[dict[str, Any], ...] | None = PrivateAttr(default=None)

    @property
    def rows(self) -> tuple[dict[str, Any], ...] | None:
        """The rows, if they were given from Python; ``None`` if they are read from a file or the hub."""
        return self._rows

    def holding(self, rows: Iterable[dict[str, Any]]) -> SourceConfig:
        """Return a copy with its rows in memory."""
        copy = self.model_copy()
        copy._rows = tuple(rows)
        return copy

    def in_place_of(self, other: SourceConfig) -> SourceConfig:
        """Return a copy with the folder and rows of another source, from whose values this one was made."""
        copy = self.model_copy()
        copy._base, copy._rows = other._base, other._rows
        return copy

    @property
    def base(self) -> Path | None:
        """The config's folder, if the config came from a file."""
        return self._base

    @property
    def folder(self) -> Path | None:
        """The local folder that ``hub`` names; ``None`` if it is the id of a data set on the hub."""
        if self.hub is None:
            return None
        places = (self._base, Path()) if self._base else (Path(),)
        found = [place / os.path.expanduser(self.hub) for place in places]
        return next((folder for folder in found if _is_folder(folder)), found[0] if _PLACE.match(self.hub) else None)

    def beside(self, base: Path) -> SourceConfig:
        """Return a copy with the folder that a relative ``hub`` starts from."""
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
            raise ValueError(f"delimiter {value!r} is not one of ',', ';', 'tab', '|' or another single character")
        return named

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        try:
            if value is None or codecs.lookup(value)._is_text_encoding:
                return value
        # A NUL in a name raises a ValueError.
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
        validation: the small labelled set; split into a harvest and a select half.
        test: the sealed test set, read once at the end; optional.
        contexts: pairs and questions: unlabelled contexts to write about (column ``context``);
            by default the contexts of the harvest half.
        seed: written rows to start from, with the task's columns; then no seed rows are asked for.
        pool: real texts without labels, with the task's text columns; ``method.pool_rows`` of them are drawn.
        harvest_share: share of the validation rows that mistakes may come from.
    """

    validation: SourceConfig
    test: SourceConfig | None = None
    contexts: SourceConfig | None = None
    seed: SourceConfig | None = None
    pool: SourceConfig | None = None
    harvest_share: float = Field(default=0.5, ge=0.1, le=0.9)

    @model_validator(mode="after")
    def _pool_without_labels(self) -> DataConfig:
        for key in ("labels", "sample", "seed") if self.pool is not None else ():
            if getattr(self.pool, key):
                drawn = "method.pool_rows says how many texts are drawn"
                use = "its texts have no labels" if key == "labels" else drawn
                raise ValueError(f"pool.{key} has no effect: {use}; remove it")
        return self


class StudentConfig(Section):
    """The small model and how it is trained (from scratch every round).

    Attributes:
        model: embedded model name, local folder or hub id of an encoder.
        head: classifiers only: ``probe-start`` (a linear layer on the mean of the tokens, started from a
            logistic regression on the frozen encoder, then trained together with it), ``probe``
            (the same without further training) or ``fresh`` (transformers' own head,
            initialised at random).
        max_length: tokens per text; longer texts are cut.
        epochs: passes over the data, but at least ``min_steps`` optimiser steps.
        min_steps: minimum number of optimiser steps, for small data sets.
        keep: the weights to keep: the ``last`` ones, or those of the epoch that is ``best`` on the select half.
        precision: of training: ``float32``, ``bfloat16`` (autocast: products are rounded, weights and
            optimiser stay in float32) or ``auto``: bfloat16 if the processor supports it natively.
        learning_rate: peak of the linear schedule.
        batch_size: rows per step.
        warmup: steps with a rising learning rate; a value below 1 is a share of all steps.
        weight_decay: of AdamW.
        label_smoothing: one label per row only: probability mass taken from the asked label, against label noise.
        continued: start from the previous round's weights instead of the base model (an ablation).
        stride: question answering: tokens that neighbouring windows of a long context share.
        max_answer_tokens: question answering: the longest answer considered.
        kind: name of your own student, see `stepsynth.students.own`; by default the one that the family needs.
        options: constructor arguments of your own student; part of a run's identity.
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
        """Whether it is the user's own student, which has no base model."""
        return self.kind is not None and self.kind not in STUDENTS.built_in

    @property
    def called(self) -> str:
        """Its name on pages and in results: the base model, or the name of the user's own."""
        return self.kind if self.kind is not None and self.own else self.model

    @model_validator(mode="after")
    def _options_of_a_kind(self) -> StudentConfig:
        if self.options and not self.own:
            raise ValueError("options are for a student of your own: name it in student.kind")
        return self
