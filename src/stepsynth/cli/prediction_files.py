"""The files that ``predict`` writes: the input's columns in their order, then the predictions.

Rows come and go in parts, so that a file of any length needs the same memory. The columns must be known before the first row is
written: a `Survey` of all rows finds them, and the types of those that a Parquet file needs.
"""

from __future__ import annotations

import base64
import csv
import datetime
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from stepsynth.data.columns import OTHER, shown
from stepsynth.data.readers.columnar import stored_types
from stepsynth.errors import DataError
from stepsynth.runtime.counting import counted
from stepsynth.runtime.spreadsheets import safe_cell
from stepsynth.tasks.predicted import ABSTAINED

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Filled", "Layout", "ParquetFile", "Survey", "Table", "other_cell", "plain_table", "say_changed", "table_columns"]

Row = Mapping[str, object]

_PROBABILITIES = "probabilities"
_INT64 = 2**63
_KINDS = {str: "text", bool: "bool", int: "int", float: "float", type(None): ""}


@dataclass
class Survey:
    """What all rows of the input have in common.

    Attributes:
        rows: rows seen.
        kinds: column -> kinds of its values, columns in the order of their first appearance. A text of the task has our name,
            another column its own after `OTHER`.
    """

    rows: int = 0
    kinds: dict[str, set[str]] = field(default_factory=dict)

    def add(self, values: Row) -> None:
        """Count a row."""
        self.rows += 1
        for name, value in values.items():
            kinds = self.kinds.setdefault(name, set())
            if name.startswith(OTHER):
                kind = _KINDS.get(type(value), "other")
                kinds.add("other" if kind == "int" and not -_INT64 <= value < _INT64 else kind)  # type: ignore[operator]


class Filled(NamedTuple):
    """A row of the output: the input's columns under their new names, and the prediction."""

    kept: Row
    predicted: Row


class Layout:
    """The columns of the output and their names.

    The texts have our names and the other columns their own. A prediction whose name is taken gets the prefix ``predicted_``.

    Args:
        survey: of the input.
        texts: our names of the task's texts, in the family's order.
        named: our name -> the file's column, where they differ.
        predictions: names of the columns of predictions.

    Attributes:
        columns: the input's columns as the survey names them -> their names in the output, in order.
        renamed: prediction -> its name in the output, where that is another one.
    """

    def __init__(self, survey: Survey, texts: Sequence[str], named: Mapping[str, str], predictions: Iterable[str]) -> None:
        others = {name for name in survey.kinds if name.startswith(OTHER)}
        # Without other columns, the family's order has always been the order of the output.
        order = list(survey.kinds) if others else list(texts)
        self.columns = {name: name.removeprefix(OTHER) for name in order}
        for name in texts:
            if OTHER + name in others:
                # Another column has our name, so the text came from a column of another name.
                self.columns[name] = named.get(name, name)
        self.renamed: dict[str, str] = {}
        taken = set(self.columns.values())
        for name in predictions:
            free, number = name, 1
            while free in taken:
                free = f"predicted_{name}" if number == 1 else f"predicted_{name}_{number}"
                number += 1
            if free != name:
                self.renamed[name] = free
            taken.add(free)

    def filled(self, texts: Row, values: Row, predicted: Row) -> Filled:
        """Return a row of the output.

        Args:
            texts: by our names.
            values: the row's other values, as the survey names them.
            predicted: the prediction.
        """
        return Filled({new: texts[name] if name in texts else values.get(name) for name, new in self.columns.items()}, predicted)

    def name(self, prediction: str) -> str:
        """Return the name of a column of predictions."""
        return self.renamed.get(prediction, prediction)

    def record(self, row: Filled) -> dict[str, object]:
        """Return a row as JSON holds it."""
        kept = {name: plain(value) for name, value in row.kept.items()}
        return {**kept, **{self.name(name): value for name, value in row.predicted.items()}}


def plain(value: object) -> Any:
    """Return a value of another column as JSON can hold it: a date as ISO 8601, bytes as base64, NaN as null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, datetime.date | datetime.datetime | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value)


def other_cell(value: object) -> str:
    """Return a value of another column as a table holds it: a text as it is, nothing for null, JSON for all that is nested."""
    found = plain(value)
    if found is None:
        return ""
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def table_columns(predicted: Row, labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the columns of a prediction in a table: its own, and one per label for the probabilities."""
    return [name for name in predicted if name != _PROBABILITIES], [f"p({label})" for label in labels]


class Table:
    """Rows as delimited text.

    Args:
        labels: the task's labels, each with a column of probabilities.
        layout: gives the columns' names.
        exact: write every cell unchanged, even if a spreadsheet would run it.
        delimiter: between cells.

    Attributes:
        changed: how many cells got an apostrophe.
    """

    def __init__(self, labels: Sequence[str], layout: Layout, *, exact: bool, delimiter: str = ",") -> None:
        self.changed = 0
        self._labels, self._layout, self._exact, self._delimiter = list(labels), layout, exact, delimiter
        self._begun = False

    def text(self, rows: Sequence[Filled]) -> str:
        """Return the next rows; the first ones below the header."""
        buffer = io.StringIO()
        # With this line ending, a lone CR inside a cell is quoted, too; without quotes it would begin a row.
        writer = csv.writer(buffer, lineterminator="\r\n", delimiter=self._delimiter)
        names, spread = table_columns(rows[0].predicted, self._labels)
        if not self._begun:
            self._begun = True
            writer.writerow([*self._escaped(list(rows[0].kept)), *map(self._layout.name, [*names, *spread])])
        for kept, predicted in rows:
            cells = [other_cell(value) for value in kept.values()] + [_cell(predicted[name]) for name in names]
            probabilities = predicted.get(_PROBABILITIES)
            shares = [probabilities[label] for label in self._labels] if isinstance(probabilities, dict) else []
            writer.writerow(self._escaped(cells) + [f"{share:.6f}" for share in shares])
        return buffer.getvalue()

    def _escaped(self, cells: list[str]) -> list[str]:
        if self._exact:
            return cells
        safe = [safe_cell(cell) for cell in cells]
        self.changed += sum(before != after for before, after in zip(cells, safe, strict=True))
        return safe


def _cell(value: object) -> str:
    if isinstance(value, list):
        return "|".join(value)
    return "" if value is None else f"{value:.6f}" if isinstance(value, float) else str(value)


def plain_table(rows: Sequence[Row], *, exact: bool = False) -> tuple[str, int]:
    """Return rows of the same columns as CSV, and how many cells got an apostrophe so that none is a formula.

    Args:
        rows: lists are joined by ``|``.
        exact: write every cell unchanged, even if a spreadsheet would run it.
    """
    table = [list(rows[0] if rows else ()), *([other_cell(value) for value in row.values()] for row in rows)]
    safe = table if exact else [[safe_cell(cell) for cell in cells] for cells in table]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(safe)
    pairs = zip(table, safe, strict=True)
    return buffer.getvalue(), sum(one != other for before, after in pairs for one, other in zip(before, after, strict=True))


def say_changed(changed: int) -> None:
    """Say on standard error how many cells got an apostrophe."""
    if changed:
        sys.stderr.write(
            f"{counted(changed, 'cell')} got a leading apostrophe, so that no spreadsheet runs "
            f"{'them as formulas' if changed != 1 else 'it as a formula'}; use --exact to write cells unchanged.\n"
        )


class ParquetFile:
    """Rows as a Parquet file.

    Other columns of a Parquet or Arrow file keep their types. Of other files, text, numbers, and true and false keep theirs if
    a whole column has one of them; what is nested or mixed becomes text, as in a table.

    Args:
        file: receives the bytes.
        layout: gives the columns and their names.
        survey: of the input.
        source: the input file.
        labels: the task's labels, each with a column of probabilities.
    """

    def __init__(self, file: IO[bytes], layout: Layout, survey: Survey, source: Path, labels: Sequence[str]) -> None:
        stored = stored_types(source)
        self._file, self._layout, self._labels = file, layout, list(labels)
        self._kept = {new: _arrow_type(name, survey, stored) for name, new in layout.columns.items()}
        self._writer: Any = None

    def write(self, rows: Sequence[Filled]) -> None:
        """Write the next rows.

        Raises:
            DataError: a value does not have its column's type.
        """
        import pyarrow
        import pyarrow.parquet

        columns = {name: _arrow_column(name, type_, [row.kept[name] for row in rows]) for name, type_ in self._kept.items()}
        names, spread = table_columns(rows[0].predicted, self._labels)
        for name in names:
            kind = _predicted_type(name)
            values = [row.predicted[name] for row in rows]
            columns[self._layout.name(name)] = _arrow_column(name, kind, values)
        if isinstance(rows[0].predicted.get(_PROBABILITIES), Mapping):
            for label, name in zip(self._labels, spread, strict=True):
                shares = [row.predicted[_PROBABILITIES][label] for row in rows]  # type: ignore[index]
                columns[self._layout.name(name)] = pyarrow.array(shares, type=pyarrow.float64())
        table = pyarrow.table(list(columns.values()), names=list(columns))
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """Write what makes the file complete."""
        if self._writer is not None:
            self._writer.close()


def _arrow_type(name: str, survey: Survey, stored: Mapping[str, Any]) -> Any:
    import pyarrow

    own = name.removeprefix(OTHER)
    if name.startswith(OTHER) and own in stored:
        return getattr(stored[own], "storage_type", stored[own])
    kinds = survey.kinds.get(name, set()) - {""}
    if kinds == {"bool"}:
        return pyarrow.bool_()
    if kinds == {"int"}:
        return pyarrow.int64()
    return pyarrow.float64() if kinds and kinds <= {"int", "float"} else pyarrow.string()


def _predicted_type(name: str) -> Any:
    import pyarrow

    if name == "labels":
        return pyarrow.list_(pyarrow.string())
    known = {"answer_start": pyarrow.int64(), "probability": pyarrow.float64(), ABSTAINED: pyarrow.bool_()}
    return known.get(name, pyarrow.string())


def _arrow_column(name: str, kind: Any, values: list[Any]) -> Any:
    import pyarrow

    if kind == pyarrow.string():
        values = [value if value is None else other_cell(value) for value in values]
    try:
        return pyarrow.array(values, type=kind)
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise DataError(
            f"the column {name!r} cannot be written to a Parquet file: {shown(str(error), 120)}.",
            hint="Write another format, or remove the column.",
        ) from None
