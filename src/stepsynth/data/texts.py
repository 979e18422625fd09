"""Unlabelled rows, for `stepsynth predict`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
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

__all__ = ["load_texts"]


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
    path = source.path
    if path is None:
        raise DataError("texts to predict are read from a file.", hint="Give its 'path'.")
    wanted = wanted_columns(task, columns or {}, "", labelled=False)
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
            return _some([Example(str(n), line.rstrip("\r\n")) for n, line in enumerate(lines)], path)
    rows = []
    with closing(read_file(source, wanted, keep_empty=True)) as raw_rows:
        for number, raw in enumerate(raw_rows):
            where = f"row {number} of {str(path)!r}"
            texts = {n: check_text(raw.values[n], n, where) if family.spans else _string(raw.values[n], n, where) for n in names}
            rows.append(Example(str(number), texts[written], context=texts.get(kept, "")))
    return _some(rows, path)


def _string(value: object, name: str, where: str) -> str:
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where} has {shown(value)} for its {name}, not a string.", hint="Write it as a string.")
    return value or ""


def _some(rows: list[Example], path: Path) -> list[Example]:
    if not rows:
        raise DataError(f"{str(path)!r} has no rows.", hint="Add texts to it.")
    return rows
