"""From a raw row to an example of the task's family: every text, label and span is checked here.

    reader = RowReader(task, source, "validation")
    reader.example("validation-0", raw, "row 0 of 'rows.csv'")

Unknown labels are counted instead of raised, so that one error can name them all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import isnan
from typing import TYPE_CHECKING

from stepsynth.data.columns import Columns, Tally, describe_has, shown
from stepsynth.data.labels import LabelFinder, label_list, label_text, literal
from stepsynth.errors import ConfigError, DataError, did_you_mean
from stepsynth.runtime.counting import counted
from stepsynth.tasks import create_family, join_labels, stored_family
from stepsynth.types import Example, Span

if TYPE_CHECKING:
    from stepsynth.config import SourceConfig, TaskConfig
    from stepsynth.data.columns import RawRow

__all__ = ["RowReader", "check_text", "kept_field", "text_columns", "wanted_columns", "written_field"]

MAX_WORDS = 20_000
MAX_CHARACTERS = 1_000_000
_MOST_PLACES = 100
_LISTED = re.compile("[,;]")


def kept_field(task: TaskConfig) -> str:
    """Return the column of the text that a row keeps: ``text1``, ``text2`` or ``context``; empty if there is none."""
    return stored_family(task).kept


def written_field(task: TaskConfig) -> str:
    """Return the column of the text that the teacher writes."""
    return stored_family(task).written


def text_columns(task: TaskConfig) -> tuple[str, ...]:
    """Return our names for a row's texts, in the order of files: one, or two if a row keeps a context."""
    return stored_family(task).text_columns


def wanted_columns(task: TaskConfig, named: Mapping[str, str], role: str, *, labelled: bool = True) -> Columns:
    """Return the columns of a task's rows.

    Args:
        task: gives the family.
        named: our name -> the source's.
        role: key of the source in the config's ``data``, for messages; empty outside a config.
        labelled: whether to read labels or answers as well.

    Raises:
        ConfigError: ``named`` has a name that the family does not have.
    """
    family = stored_family(task)
    texts = family.text_columns
    answers, optional = (family.answer_columns, family.optional_columns) if labelled else ((), ())
    for name in named:
        if name not in (known := (*texts, *answers, *optional)):
            where = f"data.{role}.columns names" if role else "there is"
            raise ConfigError(
                f"{where} {name!r}, which is not a column of the task family {task.family!r}.", hint=did_you_mean(name, known)
            )
    groups = (*((name,) for name in texts), *((answers,) if answers else ()))
    return Columns(groups, optional, named)


class RowReader:
    """Turns the raw rows of one source into examples.

    Args:
        task: gives the family, the labels, and which text of a pair is kept.
        source: gives the column and label mappings.
        role: key of the source in the config's ``data``, for messages.
        tally: receives the counts of the source.

    Attributes:
        columns: what to read.
        unknown: label value that the task does not have -> number of rows with it.
        tally: the counts of the source.

    Raises:
        ConfigError: the column or label mapping has a name that the task does not have.
    """

    def __init__(self, task: TaskConfig, source: SourceConfig, role: str, tally: Tally | None = None) -> None:
        for value, label in source.labels.items():
            if label not in task.labels:
                raise ConfigError(
                    f"data.{role}.labels maps {value!r} to {label!r}, which task.labels does not have.",
                    hint=did_you_mean(label, task.labels) or "Remove the mapping.",
                )
        self._finder = LabelFinder(task.labels, source.labels)
        columns = wanted_columns(task, dict(source.columns.items()), role)
        self.columns = replace(columns, labels=self._finder.spellings)
        self.tally = tally or Tally()
        self.unknown: Counter[str] = Counter()
        self._task = task
        self._source = source
        self._role = role
        self._family = create_family(task)

    def example(self, row_id: str, raw: RawRow, where: str) -> Example | None:
        """Return the checked row; ``None`` if its label is unknown, which is counted.

        Args:
            row_id: the example's id.
            raw: the row from the source.
            where: the name of the row in messages.

        Raises:
            DataError: anything else about the row is wrong.
        """
        try:
            return self._example(row_id, raw, where)
        except DataError as error:
            if self._source.hub is None or all(value is not None for value in raw.values.values()):
                raise
            raise DataError(
                error.message,
                hint=f"{error.hint} `datasets` reads cells such as None, NA, null and nan in tables as missing: "
                "if the value is such a word, give the file itself with 'path'.",
            ) from None

    def _example(self, row_id: str, raw: RawRow, where: str) -> Example | None:
        family = self._family
        texts = {name: check_text(raw.values[name], name, where) for name in family.text_columns}
        text, context = texts[family.written], texts.get(family.kept, "")
        if family.spans:
            return Example(row_id, text, context=context, answers=_answers(raw.values, context, where))
        (answer,) = (raw.values[name] for name in family.answer_columns)
        if family.several_labels:
            label = self._labels(answer, where)
        else:
            label = self._known(label_text(answer, self._source.labels, where), where)
        return None if label is None else Example(row_id, text, label, context)

    def refuse_unknown(self) -> None:
        """Raise `DataError` with all label values that the task does not have, if there were any."""
        if not self.unknown:
            return
        first = next(iter(self.unknown))
        counted = ", ".join(f"{shown(value, 40)} x {count}" for value, count in self.unknown.most_common(8))
        more = f" and {len(self.unknown) - 8} more" if len(self.unknown) > 8 else ""
        near, joined = did_you_mean(first, self._task.labels), ""
        if self._family.several_labels:
            joined = " Several labels of a row are a JSON list, or joined by '|'."
            parts = [part.strip() for part in _LISTED.split(first)]
            if len(parts) > 1 and all(map(self._finder.knows, parts)):
                near, joined = f"Several labels of a row are a JSON list, or joined by '|': {'|'.join(parts)!r}.", ""
        raise DataError(
            f"{describe_has(self._source)} labels that task.labels does not have: {counted}{more}.",
            hint=f"{near} Or map them with data.{self._role}.labels.{joined}",
        )

    def _known(self, value: str, where: str) -> str | None:
        label = self._finder.find(value, where)
        if label is not None:
            return label
        if len(self.unknown) < 1000 or value in self.unknown:
            self.unknown[value] += 1
        return None

    def _labels(self, value: object, where: str) -> str | None:
        """Return the labels of a list, or of a cell with one, in the config's spelling; no label is allowed, too."""
        if isinstance(value, str):
            items = label_list(value, self._finder, where)
        elif isinstance(value, list):
            items = value
        else:
            missing = value is None or value != value
            kind = "missing (null)" if missing else f"{type(value).__name__}: {shown(value)}"
            raise DataError(
                f"the labels of {where} are {kind}.",
                hint="Write a list ([] for no label), or a string with '|' between them.",
            )
        found = [self._known(label_text(item, self._source.labels, where, empty_is_missing=False), where) for item in items]
        return None if None in found else join_labels((label for label in found if label is not None), list(self._task.labels))


def check_text(text: object, name: str, where: str) -> str:
    """Return the text if a student and a teacher can read it.

    Args:
        text: the value.
        name: its name in messages, for instance ``question``.
        where: the name of the row in messages.

    Raises:
        DataError: it is missing, not a string, empty, too long, or holds an invalid character.
    """
    if text is None or (isinstance(text, float) and isnan(text)):
        raise DataError(f"{where} has no {name} (null).", hint="Fill it in or remove the row.")
    if not isinstance(text, str):
        raise DataError(
            f"the {name} of {where} is {type(text).__name__}, not a string: {shown(text)}.", hint="Write it as a string."
        )
    if not text.strip():
        raise DataError(f"{where} has an empty {name}: {shown(text)}.", hint="Fill it in or remove the row.")
    if "\0" in text:
        raise DataError(f"the {name} of {where} holds a NUL character (U+0000).", hint="Remove it; no tokenizer can use it.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"the {name} of {where} holds half a surrogate pair ({text[error.start]!a}), which is not a character.",
                hint="Write the whole character, or remove the row.",
            ) from None
    if len(text) > MAX_CHARACTERS:
        raise DataError(
            f"the {name} of {where} has {len(text):,} characters, more than {MAX_CHARACTERS:,}.",
            hint="Shorten it to what a student can read.",
        )
    if len(text) > 2 * MAX_WORDS and (words := len(text.split())) > MAX_WORDS:
        raise DataError(
            f"the {name} of {where} has {words:,} words, more than {MAX_WORDS:,}.", hint="Shorten it to what a student can read."
        )
    return text


def _answers(values: Mapping[str, object], context: str, where: str) -> tuple[Span, ...]:
    """Return the answers of a question as verified spans of its context, without repeats."""
    if "answers" in values:
        pairs = _listed(values["answers"], where)
        if not pairs:
            raise DataError(
                f"{where} has no answers: its context does not answer it (as in SQuAD 2.0).",
                hint="Remove such rows; every question needs an answer that occurs in its context.",
            )
    else:
        pairs = [(values["answer"], values.get("answer_start"))]
    return tuple(dict.fromkeys(_span(text, start, context, where) for text, start in pairs))


def _listed(value: object, where: str) -> list[tuple[object, object]]:
    """Return ``(text, start)`` of answers in SQuAD's form: a mapping of lists, a list of mappings, or either as JSON."""
    if isinstance(value, str):
        try:
            value = literal(value)
        except ValueError:
            raise DataError(
                f"the answers of {where} are not valid JSON: {shown(value)}.",
                hint='Write {"text": ["..."], "answer_start": [0]}, or use the columns answer and answer_start.',
            ) from None
    if isinstance(value, list) and all(isinstance(item, dict) and "text" in item for item in value):
        return [(item["text"], item.get("answer_start")) for item in value]
    texts = value.get("text") if isinstance(value, dict) else None
    starts = value.get("answer_start") if isinstance(value, dict) else None
    if not isinstance(texts, list) or not isinstance(starts, list | None):
        raise DataError(
            f"the answers of {where} are {shown(value)}.",
            hint='Write {"text": ["..."], "answer_start": [0]}, or use the columns answer and answer_start.',
        )
    starts = [None] * len(texts) if starts is None else starts
    if len(texts) != len(starts):
        raise DataError(
            f"the answers of {where} have {counted(len(texts), 'text')} and {len(starts)} answer_start.",
            hint="Give one answer_start for each text.",
        )
    return list(zip(texts, starts, strict=True))


def _span(value: object, start: object, context: str, where: str) -> Span:
    text = check_text(value, "answer", where)
    at = _offset(start, where)
    if at is not None and context.startswith(text, at):
        return Span(text, at)
    found = _places(text, context)
    answer = f"the answer {shown(text)} of {where}"
    if not found:
        there = "" if at is None else f"; at character {at} there is {shown(context[at : at + len(text)])}"
        raise DataError(
            f"{answer} does not occur in its context{there}.",
            hint="Copy it from the context letter by letter, or remove the row.",
        )
    if at is not None:
        around = (context.rfind(text, 0, at + len(text)), context.find(text, at))
        nearest = min((place for place in around if place >= 0), key=lambda place: abs(place - at))
        raise DataError(
            f"{answer} is not at character {at} of its context; there is {shown(context[at : at + len(text)])}.",
            hint=f"It is at {nearest}: answer_start counts characters (not bytes) from 0.",
        )
    if len(found) > 1:
        raise DataError(
            f"{answer} occurs {'more than ' * (len(found) > _MOST_PLACES)}{min(len(found), _MOST_PLACES)} times in its context, "
            f"at characters {', '.join(map(str, found[:5]))}.",
            hint="Set answer_start to the right one.",
        )
    return Span(text, found[0])


def _places(text: str, context: str) -> list[int]:
    """Return the positions of a text in a context, overlapping ones included; at most one more than `_MOST_PLACES`."""
    # A regular expression with lookahead would take time proportional to the product of both lengths.
    places: list[int] = []
    at = context.find(text)
    while at >= 0 and len(places) <= _MOST_PLACES:
        places.append(at)
        at = context.find(text, at + 1)
    return places


def _offset(start: object, where: str) -> int | None:
    """Return a start as a number; ``None`` if it is not given."""
    if start is None or (isinstance(start, str) and not start.strip()) or (isinstance(start, float) and isnan(start)):
        return None
    if isinstance(start, str) and re.fullmatch(r"[0-9]{1,9}(\.0)?", start.strip()):
        return int(float(start))
    if isinstance(start, int | float) and not isinstance(start, bool) and start >= 0 and float(start).is_integer():
        return int(start)
    raise DataError(
        f"the answer_start of {where} is {shown(start)}.",
        hint="Write the position of the answer's first character, counted from 0.",
    )
