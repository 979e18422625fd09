"""Unlabelled rows, for `stepsynth predict`: all at once, or one by one with the columns that no task reads."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from stepsynth.config import SourceConfig
from stepsynth.data.columns import shown
from stepsynth.data.examples import check_text, wanted_columns
from stepsynth.data.rows import read_file, read_lines
from stepsynth.errors import DataError
from stepsynth.tasks import create_family
from stepsynth.types import Example

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.config import TaskConfig

__all__ = ["each_text", "load_texts"]


def load_texts(source: SourceConfig | Path, task: TaskConfig, columns: Mapping[str, str] | None = None) -> list[Example]:
    """Return the rows of a file in their order, unlabelled, with ids ``0``, ``1``, ...

    Empty texts are kept, so that rows stay aligned; only a question and its context must not be empty,
    because then there is nothing to answer.

    Args:
        source: a file in any supported format, alone or with settings for reading it; for tasks with
            one text, also ``.txt`` with one text per line.
        task: gives the family and thus the texts: ``text``; ``text1`` and ``text2``; ``context`` and ``question``.
        columns: our name -> the file's column, if they differ; not used for ``.txt``.

    Raises:
        DataError: the file cannot be read or lacks a column, or a text is not a string.
        ConfigError: ``columns`` has a name that the family does not have.
    """
    source = source if isinstance(source, SourceConfig) else SourceConfig(path=source)
    rows = [example for example, _ in each_text(source, task, columns)]
    if not rows:
        raise DataError(f"{str(source.path)!r} has no rows.", hint="Add texts to it.")
    return rows


def each_text(
    source: SourceConfig, task: TaskConfig, columns: Mapping[str, str] | None = None, *, rest: bool = False
) -> Generator[tuple[Example, Mapping[str, object]], None, None]:
    """Yield the rows of `load_texts` with their values, only a few in memory at a time (all of a ``.json`` or Excel file).

    Args:
        source: see `load_texts`.
        task: see `load_texts`.
        columns: see `load_texts`.
        rest: whether the values include all other columns, in the file's order; their names begin with
            `stepsynth.data.columns.OTHER`.

    Raises:
        DataError: as `load_texts`, except that there may be no rows.
        ConfigError: as `load_texts`.
    """
    path = source.path
    if path is None:
        raise DataError("texts to predict are read from a file.", hint="Give its 'path'.")
    wanted = replace(wanted_columns(task, columns or {}, "", labelled=False), rest=rest)
    wanted.refuse_double_use()
    family = create_family(task)
    names, kept, written = family.text_columns, family.kept, family.written
    if path.suffix.lower() == ".txt" and path.is_file():
        if len(names) > 1:
            raise DataError(
                f"{str(path)!r} has one text per line, but a row of this task has {' and '.join(names)}.",
                hint="Save the rows as CSV or JSONL.",
            )
        with closing(read_lines(path, source.encoding)) as lines:
            for number, line in enumerate(lines):
                text = line.rstrip("\r\n")
                yield Example(str(number), text), {written: text}
        return
    with closing(read_file(source, wanted, keep_empty=True)) as raw_rows:
        for number, raw in enumerate(raw_rows):
            where = f"row {number} of {str(path)!r}"
            texts = {n: check_text(raw.values[n], n, where) if family.spans else _string(raw.values[n], n, where) for n in names}
            yield Example(str(number), texts[written], context=texts.get(kept, "")), raw.values


def _string(value: object, name: str, where: str) -> str:
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where} has {shown(value)} for its {name}, not a string.", hint="Write it as a string.")
    return value or ""
