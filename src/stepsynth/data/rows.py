"""Raw rows: the wanted values of each row, as they are in the source.

Only the container is checked here: whether the file exists, decodes, parses and has the wanted
columns. Text is streamed, one line at a time. A caller that stops reading early closes the
generator, so that the file is not left to the garbage collector.

A file's suffix, without ``.gz`` and the like, decides which module of `data/readers` reads it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

from stepsynth.config import SourceConfig
from stepsynth.config.addresses import address_problem, as_given
from stepsynth.data.columns import Columns, RawRow, Tally, describe, shown
from stepsynth.data.given import read_given
from stepsynth.data.readers.columnar import is_saved_folder, read_arrow, read_hub, read_parquet, read_saved_folder
from stepsynth.data.readers.decoding import PACKED, member_name, read_errors, read_lines, read_whole
from stepsynth.data.readers.delimited import has_stray_quotes, read_table
from stepsynth.data.readers.excel import read_sheet
from stepsynth.data.readers.objects import read_document, read_json_lines
from stepsynth.errors import DataError, did_you_mean

__all__ = ["SUFFIXES", "Columns", "RawRow", "Tally", "check_file", "describe", "read_file", "read_lines", "read_rows", "shown"]

_TEXT = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json")
_BINARY = (".parquet", ".arrow", ".feather", ".xlsx", ".xlsm")
_SUFFIXES = (*_TEXT, *_BINARY)
# The suffixes of data files, packed or not.
SUFFIXES = (*_SUFFIXES, *(f"{suffix}{packed}" for suffix in _TEXT for packed in PACKED), ".zip")
_REFUSED = {
    ".xls": "Save it as .xlsx or as CSV (UTF-8): the old Excel format is not read.",
    ".xlsb": "Save it as .xlsx or as CSV (UTF-8): the binary Excel format is not read.",
    ".ods": "Save it as .xlsx or as CSV (UTF-8): LibreOffice can do both.",
    ".numbers": "Export it as CSV (UTF-8).",
    ".pkl": "A pickle can run code, so it is never read; save the rows as JSONL.",
    ".7z": "Unpack it.",
    ".rar": "Unpack it.",
    ".tar": "Unpack it and name one file.",
    ".tgz": "Unpack it and name one file.",
}


def read_rows(source: SourceConfig, columns: Columns, tally: Tally | None = None) -> Generator[RawRow, None, None]:
    """Yield the raw rows of a file or hub data set, or rows given from Python, in their order.

    Args:
        source: the source.
        columns: the columns to read.
        tally: receives the counts.

    Raises:
        DataError: the source is missing, unreachable or damaged, has an unknown format or another
            encoding, or lacks a column.
    """
    columns.refuse_double_use()
    if source.rows is not None:
        return read_given(source, columns, tally or Tally())
    if source.path is None:
        return read_hub(source, columns, tally or Tally())
    if is_saved_folder(source.path):
        return read_saved_folder(source, source.path, columns, tally or Tally())
    return read_file(source, columns, tally)


def read_file(
    source: SourceConfig | Path, columns: Columns, tally: Tally | None = None, *, keep_empty: bool = False
) -> Generator[RawRow, None, None]:
    """Yield the raw rows of a file, by its suffix; see `read_rows`.

    Args:
        source: the file, alone or with settings for reading it.
        columns: the columns to read.
        tally: receives the counts.
        keep_empty: whether empty rows of a table are rows, if they can be recognised.
    """
    source = source if isinstance(source, SourceConfig) else SourceConfig(path=source)
    path = source.path
    assert path is not None  # noqa: S101
    tally = tally or Tally()
    suffix = check_file(path)
    _refuse_settings(source, suffix)
    with read_errors(path):
        if suffix == ".parquet":
            yield from read_parquet(path, columns, tally, source.labels)
        elif suffix in (".arrow", ".feather"):
            yield from read_arrow(path, columns, tally, source.labels)
        elif suffix in (".xlsx", ".xlsm"):
            yield from read_sheet(path, columns, tally, sheet=source.sheet, keep_empty=keep_empty)
        elif suffix == ".json" or (suffix in (".jsonl", ".ndjson") and _is_document(path, source.encoding)):
            yield from read_document(read_whole(path, source.encoding), repr(str(path)), columns, tally)
        else:
            yield from _from_lines(source, path, suffix, columns, tally, keep_empty)


def _from_lines(
    source: SourceConfig, path: Path, suffix: str, columns: Columns, tally: Tally, keep_empty: bool
) -> Iterator[RawRow]:
    name = repr(str(path))
    quotes = True
    if source.delimiter == "\t" or (source.delimiter is None and suffix in (".tsv", ".tab")):
        with closing(read_lines(path, source.encoding)) as lines:
            quotes = not has_stray_quotes(lines)
    with closing(read_lines(path, source.encoding)) as lines:
        if suffix in (".jsonl", ".ndjson"):
            yield from read_json_lines(lines, name, columns, tally)
        else:
            usual = "," if suffix == ".csv" else "\t"
            yield from read_table(
                lines, name, columns, tally, usual=usual, delimiter=source.delimiter, keep_empty=keep_empty, quotes=quotes
            )


def _is_document(path: Path, encoding: str | None) -> bool:
    """Whether a file with a JSON Lines suffix holds one list, or objects over several lines, instead."""
    with closing(read_lines(path, encoding)) as lines:
        first = next((line.strip() for line in lines if line.strip()), "")
    # A line with a list of plain values is read as JSON Lines, where it is refused as not being a row.
    return first in ("[", "{") or re.match(r"\[\s*\{", first) is not None


def check_file(path: Path) -> str:
    """Return the suffix that tells a file's format, or raise `DataError` if the file cannot be read."""
    name = repr(str(path))
    if os.path.isdir(path):
        raise DataError(
            f"{name} is a folder, not a file.",
            hint=f"Give one file in it. {_neighbours(path, '')} Use 'hub' for a folder that `datasets` can load.",
        )
    if not os.path.isfile(path):
        if not os.path.exists(path) and (problem := address_problem(as_given(path))):
            raise DataError(f"{problem}.")
        state = "is not a regular file" if os.path.exists(path) else "does not exist"
        if not os.path.exists(path) and re.search(r"[*?\[]", path.name):
            raise DataError(f"{name} {state}: patterns are not expanded.", hint="Give one file, or put the rows into one.")
        raise DataError(f"{name} {state}.", hint=_neighbours(path.parent, path.name))
    if os.path.getsize(path) == 0:
        raise DataError(f"{name} is empty.", hint="Add rows to it, or give another file.")
    whole = member_name(path)
    suffix = Path(whole).suffix.lower()
    packed = path.suffix.lower() in PACKED
    if suffix not in _SUFFIXES or (packed and suffix in _BINARY):
        said = path.suffix.lower() if not packed else f"{suffix}{path.suffix.lower()}"
        known = _REFUSED.get(suffix) or _REFUSED.get(path.suffix.lower())
        if packed and suffix in _BINARY:
            known = "Unpack it: such files are already compressed."
        raise DataError(
            f"{name} has the unsupported suffix {said!r}.",
            hint=known or f"{did_you_mean(suffix, _SUFFIXES)} Or convert the file to JSONL.",
        )
    return suffix


def _refuse_settings(source: SourceConfig, suffix: str) -> None:
    """Refuse settings for another kind of file: they would be ignored silently."""
    fits = {"delimiter": suffix in (".csv", ".tsv", ".tab"), "encoding": suffix in _TEXT, "sheet": suffix in (".xlsx", ".xlsm")}
    for key, right in fits.items():
        if getattr(source, key) is not None and not right:
            raise DataError(
                f"{key} is {getattr(source, key)!r}, which does not apply to {describe(source)}.", hint=f"Remove {key!r}."
            )


def _neighbours(folder: Path, name: str) -> str:
    try:
        files = [entry.name for entry in os.scandir(folder) if entry.is_file() and entry.name.lower().endswith(SUFFIXES)]
    except (OSError, ValueError):
        return f"The folder {str(folder)!r} does not exist either; check the path."
    said = did_you_mean(name, sorted(files)[:200])[:300]
    return (
        said.replace("Known: ", "Files here: ", 1)
        if said.startswith("Known: ")
        else said or f"There is no data file in {str(folder)!r}; check the path."
    )
