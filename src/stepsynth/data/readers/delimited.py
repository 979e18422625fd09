"""Delimited text: CSV and its relatives, as spreadsheets, databases and people write them.

The delimiter is the one that the user or a first line ``sep=;`` sets, or the first usual one that
gives the header the wanted columns. It is never guessed from the rows.

No line is lost silently. A line with too many or too few cells is refused, and so is a quote that
is never closed. A stray quote that another quote closes some lines later makes one valid cell of
the rows in between. It is recognised by a line inside the cell that is a row by itself, with as
many cells as the header and a known label in the label's column.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stepsynth.data.columns import Columns, RawRow, Tally, shown, trimmed
from stepsynth.data.readers.decoding import MAX_LINE_BYTES
from stepsynth.errors import DataError, MissingColumnError

__all__ = ["has_stray_quotes", "read_table"]

_DELIMITERS = (",", ";", "\t", "|")
_NAMES = {"\t": "tab"}
_LINE_END = re.compile(r"\r\n|\r|\n")
_QUOTES = 'Close every quote, write a quote inside a field as "", end lines with LF or CRLF; or save the rows as JSONL.'


@dataclass(frozen=True)
class _Record:
    """A record of a table: its cells, the line where it begins, the number of lines it takes up."""

    cells: list[str]
    line: int
    lines: int


def read_table(
    lines: Iterable[str],
    name: str,
    columns: Columns,
    tally: Tally,
    *,
    usual: str = ",",
    delimiter: str | None = None,
    keep_empty: bool = False,
    quotes: bool = True,
) -> Generator[RawRow, None, None]:
    """Yield the rows of a table.

    Args:
        lines: the lines with their endings.
        name: the file's name, for messages.
        columns: the columns to read.
        tally: receives the counts.
        usual: the usual delimiter for the file's suffix.
        delimiter: the delimiter that the user set.
        keep_empty: whether rows of empty cells are rows, even at the end of the file.
        quotes: whether cells may be quoted; otherwise quotes are ordinary characters, see `has_stray_quotes`.

    Raises:
        DataError: a column is missing, or a line is not a row.
    """
    # The limit is global to the process; it is only ever raised, which harms nobody.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    source = iter(lines)
    first, skipped = _preview(source)
    tally.lines, tally.empty = skipped, skipped
    if not first:
        return
    named = _declared(first[0])
    if named is not None:
        tally.lines, first = tally.lines + 1, first[1:] or list(_some(source))
        tally.notes.append(f"the first line says sep={named}")
        if not first:
            return
    chosen, blanks = _dialect(first, columns, usual, delimiter or named)
    if chosen != usual and not delimiter and not named:
        tally.notes.append(f"delimiter {_NAMES.get(chosen, repr(chosen))}")
    if not quotes:
        tally.notes.append("quotes are part of the texts")
    records = _records(_chained(first, source), name, chosen, blanks, tally, quotes=quotes)
    header = next(records, None)
    if header is None:
        return
    cells = _names(header.cells)
    places = _places(cells, columns, name, chosen, first)
    inside = _Swallowed(cells, places, columns, chosen, name)
    pending: list[_Record] = []
    for record in records:
        if not keep_empty and len(cells) > 1 and not any(cell.strip() for cell in record.cells):
            pending.append(record)
            continue
        # Empty rows between others are rows, and refused; those at the end are left by spreadsheets.
        yield from (_row(empty, cells, places, name, chosen, tally) for empty in pending)
        pending.clear()
        if record.lines > 1:
            inside.refuse(record)
        yield _row(record, cells, places, name, chosen, tally)
    tally.empty += len(pending)


def has_stray_quotes(lines: Iterable[str]) -> bool:
    """Whether a tab-separated table, such as those of GLUE, was written without quoting, so that its quotes are text.

    It was if every line has as many cells as the header, and parsing the quotes fails, joins several lines
    into a row, or gives rows of other lengths.

    Args:
        lines: all lines of the table with their endings.
    """
    later = _FromFirstQuote(lines)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    reader, rows, unlike = csv.reader(later, delimiter="\t", strict=True), 0, False
    try:
        for cells in reader:
            rows += 1
            if len(cells) != later.tabs + 1 or reader.line_num != rows:
                unlike = True
                break
    except csv.Error:
        unlike = True
    for _ in later:
        pass
    return unlike and later.even


class _FromFirstQuote:
    """The non-empty lines of a table from the first one with a quote on, of which only one is in memory.

    Lines before the first quote read the same either way; later ones may be swallowed by an open quote.

    Attributes:
        tabs: tabs of the first line; -1 before it.
        even: whether all lines so far have some tabs, and as many as the first one. If not, the lines end there.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.tabs, self.even = -1, True
        self._found = self._each(lines)

    def __iter__(self) -> Iterator[str]:
        return self._found

    def _each(self, lines: Iterable[str]) -> Iterator[str]:
        quoted = False
        for line in lines:
            if not line.strip("\r\n"):
                continue
            self.tabs = line.count("\t") if self.tabs < 0 else self.tabs
            if not self.tabs or line.count("\t") != self.tabs:
                self.even = False
                return
            quoted = quoted or '"' in line
            if quoted:
                yield line


def _preview(source: Iterator[str]) -> tuple[list[str], int]:
    """Return the first non-empty line, if any, and the number of empty lines before it."""
    skipped = 0
    for line in source:
        if line.strip():
            return [line], skipped
        skipped += 1
    return [], skipped


def _some(source: Iterator[str]) -> Iterator[str]:
    line = next(source, None)
    if line is not None:
        yield line


def _chained(first: Sequence[str], rest: Iterator[str]) -> Iterator[str]:
    yield from first
    yield from rest


def _declared(line: str) -> str | None:
    """Return the delimiter in a first line for Excel: ``sep=;``."""
    text = line.strip("\r\n").strip('"')
    return text[4:] if text[:4].lower() == "sep=" and len(text) == 5 else None


def _dialect(first: Sequence[str], columns: Columns, usual: str, named: str | None) -> tuple[str, bool]:
    """Return the delimiter, and whether blanks after it are to be ignored."""
    candidates = (named,) if named else (usual, *(other for other in _DELIMITERS if other != usual))
    headers = {delimiter: _split(first[0], delimiter) for delimiter in candidates}
    found = next((delimiter for delimiter in candidates if _has(headers[delimiter], columns)), None)
    if found is None:
        # For the message: the delimiter that gives the most cells.
        found = max(candidates, key=lambda delimiter: len(headers[delimiter]))
    later = _split(first[0], found, blanks=False)[1:]
    blanks = bool(later) and all(name.startswith(" ") for name in later) and not set(later) & set(columns.named.values())
    return found, blanks


def _split(line: str, delimiter: str, *, blanks: bool = True) -> list[str]:
    """Return the cells of a line, stripped of white space if ``blanks``; empty if it cannot be parsed."""
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=blanks), [])
    except csv.Error:
        return []
    return _names(cells) if blanks else cells


def _has(header: Sequence[str], columns: Columns) -> bool:
    if columns.everything:
        return len(header) > 1
    try:
        columns.pick(header, "")
    except DataError as error:
        return "more than one" in error.message
    return True


def _names(cells: Sequence[str]) -> list[str]:
    return [trimmed(cell) for cell in cells]


def _places(cells: list[str], columns: Columns, name: str, delimiter: str, first: Sequence[str]) -> dict[str, int]:
    shows = f"Its first line, cut at {_NAMES.get(delimiter, repr(delimiter))}, is {shown(cells, 120)}."
    # A user may have named a column with the blanks that it has in the file.
    named = {ours: trimmed(theirs) if theirs not in cells else theirs for ours, theirs in columns.named.items()}
    wanted = replace(columns, named=named)
    try:
        return {ours: cells.index(theirs) for ours, theirs in wanted.pick(cells, name, more=shows).items()}
    except MissingColumnError:
        if _is_a_row(cells, columns):
            raise DataError(
                f"{name} has no header: its first line is a row, {shown(cells, 120)}.",
                hint=f"Add a first line with the names of the columns: {delimiter.join(columns.header())}",
            ) from None
        raise


def _is_a_row(cells: Sequence[str], columns: Columns) -> bool:
    if columns.has_any(cells) or 1 < len(columns.label_columns(cells)) < len(cells):
        return False
    known = {label.casefold() for label in columns.labels}
    return any(cell.casefold() in known or len(cell.split()) > 4 or len(cell) > 60 for cell in cells if cell)


def _records(lines: Iterator[str], name: str, delimiter: str, blanks: bool, tally: Tally, *, quotes: bool) -> Iterator[_Record]:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=blanks, quoting=quoting)
    before, offset = 0, tally.lines
    try:
        for cells in reader:
            line, took = offset + before + 1, reader.line_num - before
            before = reader.line_num
            tally.lines = offset + before
            if not cells:
                tally.empty += took
                continue
            yield _Record(cells, line, took)
    except csv.Error as error:
        began = offset + before + 1
        tried = f"line {offset + reader.line_num} of {name} cannot be parsed: {error}."
        if "unexpected end of data" in str(error):
            tried = f"the quote that opens on line {began} of {name} is never closed, so it cannot be parsed: {error}."
        elif reader.line_num > before + 1:
            tried = f"{tried[:-1]}; the row begins with an open quote on line {began}."
        elif "expected after '\"'" in str(error):
            tried = f"{tried[:-1]}: a quote closes in the middle of a cell."
        raise DataError(tried, hint=_QUOTES) from None


def _row(record: _Record, header: Sequence[str], places: dict[str, int], name: str, delimiter: str, tally: Tally) -> RawRow:
    cells = record.cells
    if len(cells) != len(header):
        # Extra or missing delimiters at the end do no harm if the columns there are empty.
        if any(cell.strip() for cell in cells[len(header) :]) or any(header[len(cells) :]):
            raise DataError(
                f"line {record.line} of {name} has {len(cells)} fields, the header has {len(header)}: {shown(cells, 100)}.",
                hint=f"Quote fields that hold a {delimiter!r}, or save the rows as JSONL.",
            )
        cells = [*cells, *[""] * (len(header) - len(cells))]
    tally.took(record.line, record.lines)
    return RawRow(record.line, {ours: cells[place] for ours, place in places.items()})


class _Swallowed:
    """Finds rows that a stray quote swallowed into a cell of several lines."""

    def __init__(self, header: Sequence[str], places: dict[str, int], columns: Columns, delimiter: str, name: str) -> None:
        self._count, self._delimiter, self._name = len(header), delimiter, name
        self._label = places.get("label", places.get("labels", -1))
        self._known = {trimmed(label) for label in columns.labels}

    def refuse(self, record: _Record) -> None:
        """Raise `DataError` if a line inside one of the record's cells is a row by itself."""
        if self._label < 0 or self._count < 2 or not self._known:
            return
        line = record.line
        for place, cell in enumerate(record.cells):
            parts = _LINE_END.split(cell) if "\n" in cell or "\r" in cell else []
            for number, part in enumerate(parts):
                before = record.cells[:place] if number == 0 else []
                after = record.cells[place + 1 :] if number == len(parts) - 1 else []
                if self._is_row(part, before, after):
                    raise DataError(
                        f"a quote that opens on line {line} of {self._name} makes one cell of {len(parts)} lines, and "
                        f"{'the first' if number == 0 else f'line {line + number}'} of them is a row by itself: {shown(part)}.",
                        hint='Remove the stray quote, or write it as "" inside a quoted cell; '
                        "if the text is meant to hold that line, save the rows as JSONL.",
                    )
            line += max(0, len(parts) - 1)

    def _is_row(self, part: str, before: Sequence[str], after: Sequence[str]) -> bool:
        if self._delimiter not in part:
            return False
        try:
            inside = next(csv.reader([part], delimiter=self._delimiter), [])
        except csv.Error:
            return False
        cells = [*before, *inside, *after]
        own = len(before) <= self._label < len(before) + len(inside)
        return own and len(cells) == self._count and trimmed(cells[self._label]) in self._known
