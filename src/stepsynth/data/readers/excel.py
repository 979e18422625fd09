"""Excel workbooks, read with openpyxl: cells as a person sees them.

Every cell becomes a text, as in a CSV file: 1 is ``1``, a date is ``2024-03-01``, true is ``TRUE``.
Formulas give the values that were stored with them. Anything that a person sees but a reader would
lose is refused: merged cells, formulas that were never computed, error values.
"""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.data.columns import OTHER, Columns, RawRow, Tally, shown, trimmed
from stepsynth.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from openpyxl.worksheet.worksheet import Worksheet

__all__ = ["read_sheet"]

MAX_UNPACKED_BYTES = 2**30


def read_sheet(
    path: Path, columns: Columns, tally: Tally, *, sheet: str | None, keep_empty: bool
) -> Generator[RawRow, None, None]:
    """Yield the rows of one sheet; its first non-empty row is the header.

    Args:
        path: ``.xlsx`` or ``.xlsm``.
        columns: the columns to read.
        tally: receives the counts.
        sheet: name of the sheet, needed if several have rows.
        keep_empty: whether empty rows between others are rows.

    Raises:
        DataError: openpyxl is missing, the file is damaged, or a wanted cell has no value of its own.
    """
    name = repr(str(path))
    book = _opened(path, name, formulas=False)
    chosen = _sheet(book, sheet, name)
    where = f"{name} (sheet {chosen.title!r})"
    header: list[str] | None = None
    picked: Mapping[str, int] = {}
    waiting = 0
    formulas: list[Any] = []
    for number, row in enumerate(chosen.iter_rows(), start=1):
        if all(cell.value is None or not str(cell.value).strip() for cell in row):
            waiting += header is not None
            continue
        if header is None:
            header = [trimmed(_text(cell)) for cell in row]
            picked = {ours: header.index(theirs) for ours, theirs in columns.pick(header, where).items()}
            _refuse_merged(chosen, picked, where)
            continue
        if keep_empty:
            for empty in range(number - waiting, number):
                tally.took(0, 1)
                yield RawRow(empty, dict.fromkeys(picked, ""))
            waiting = 0
        tally.empty, waiting = tally.empty + waiting, 0
        values = {}
        for ours, place in picked.items():
            cell = row[place]
            if ours.startswith(OTHER):
                # Nothing is decided by it, so whatever a person sees will do.
                values[ours] = _text(cell)
                continue
            if cell.value is None:
                formulas = formulas or [_sheet(_opened(path, name, formulas=True), chosen.title, name)]
                _refuse_formula(formulas[0].cell(number, place + 1), where)
            values[ours] = _text(cell, where)
        tally.took(number, 1)
        yield RawRow(number, values)
    tally.empty += waiting


def _opened(path: Path, name: str, *, formulas: bool) -> Any:
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            f"{name} is an Excel file, but openpyxl is not installed.",
            hint="Install it with: pip install 'stepsynth[excel]'. Or save the sheet as CSV (UTF-8).",
        ) from None
    try:
        with zipfile.ZipFile(path) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > MAX_UNPACKED_BYTES:
                raise DataError(f"{name} takes {size:,} bytes when unpacked.", hint="Save the sheet as CSV.")
        return openpyxl.load_workbook(path, data_only=not formulas, keep_links=False)
    except DataError:
        raise
    # Damaged or locked files raise errors from zipfile, the XML parser and openpyxl itself.
    except Exception as error:
        raise DataError(
            f"{name} is not a readable Excel file: {type(error).__name__}: {shown(str(error), 100)}.",
            hint="Is it complete, and without a password? Open it and save it again, or save the sheet as CSV.",
        ) from None


def _sheet(book: Any, wanted: str | None, name: str) -> Worksheet:
    sheets: dict[str, Worksheet] = {sheet.title: sheet for sheet in book.worksheets}
    if wanted is not None:
        if wanted not in sheets:
            raise DataError(f"{name} has no sheet {wanted!r}.", hint=did_you_mean(wanted, sheets))
        return sheets[wanted]
    full = [title for title, sheet in sheets.items() if any(value is not None for row in sheet.values for value in row)]
    if len(full) > 1:
        raise DataError(
            f"{name} has {len(full)} sheets that are not empty: {', '.join(map(repr, full[:6]))}.",
            hint="Choose one with sheet: ... beside its path (predict and import: --sheet).",
        )
    if not full:
        raise DataError(f"all sheets of {name} are empty.", hint="Add rows with a text and a label.")
    return sheets[full[0]]


def _refuse_merged(sheet: Worksheet, picked: Mapping[str, int], where: str) -> None:
    for merged in sheet.merged_cells.ranges:
        wanted = (place for ours, place in picked.items() if not ours.startswith(OTHER))
        if any(merged.min_col <= place + 1 <= merged.max_col for place in wanted):
            raise DataError(
                f"the cells {merged} of {where} are merged, so only the first of them has a value.",
                hint="Unmerge them and fill in each row.",
            )


def _refuse_formula(cell: Any, where: str) -> None:
    if cell.data_type == "f":
        raise DataError(
            f"cell {cell.coordinate} of {where} is a formula whose value was never computed: {shown(cell.value)}.",
            hint="Open the file in a spreadsheet and save it, or write the values instead.",
        )


def _text(cell: Any, where: str = "") -> str:
    """Return a cell as Excel shows it."""
    value = cell.value
    if value is None:
        return ""
    if where and cell.data_type == "e":
        raise DataError(f"cell {cell.coordinate} of {where} holds the error {value}.", hint="Fix its formula or write a value.")
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        whole = str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)
        zeros = re.fullmatch(r"0+", cell.number_format or "")
        return whole.zfill(len(zeros[0])) if zeros and whole.isdecimal() else whole
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return str(value)
    # Excel writes characters that XML cannot hold like _x000D_.
    return re.sub(r"_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), str(value))
