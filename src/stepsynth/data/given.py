"""Rows given from Python: frames, data sets, lists of dicts.

    rows = rows_of(frame, "validation")        # a list of dicts, or None for what names a file or a hub id

Frame libraries are recognised by their methods, so that none of them is imported here. A run keeps
such rows in its own file (`given_lines`), so that it can also be resumed from a shell.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from enum import Enum
from math import isnan
from typing import TYPE_CHECKING, Any

from stepsynth.data.columns import Columns, RawRow, Tally, describe, shown
from stepsynth.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepsynth.config import SourceConfig

__all__ = ["given_lines", "place_of", "read_given", "rows_of"]

_SOURCE_KEYS = {"path", "hub"}
# Sources whose rows may be plain texts -> the column of these.
_TEXTS = {"contexts": "context", "pool": "text"}


def rows_of(data: object, role: str) -> list[dict[str, object]] | None:
    """Return rows given from Python; ``None`` if ``data`` names a place instead: a path, a hub id, or a mapping with one.

    Args:
        data: a pandas or polars frame, a pyarrow table, a ``datasets.Dataset``, a list (or another iterable) of
            dicts, a dict of columns, a list of texts (``contexts`` and ``pool`` only), or a path, hub id or mapping with one.
        role: key of the source in the config's ``data``, for messages.

    Raises:
        DataError: it is none of these, or has no rows.
    """
    if isinstance(data, str | os.PathLike) or (isinstance(data, Mapping) and _is_place(data)):
        if not data:
            raise DataError(f"{role} is an empty text.", hint="Give a path, a hub id or rows.")
        return None
    rows = [_plain_row(row, number, role) for number, row in enumerate(_each(data, role))]
    if not rows:
        hint = "Give texts." if role in _TEXTS else "Give rows with a text and a label."
        raise DataError(f"{role} has no rows.", hint=hint)
    return rows


def _is_place(data: Mapping[Any, Any]) -> bool:
    """Whether a mapping names a place; a column called ``path`` or ``hub`` would be a list."""
    return any(isinstance(data.get(key), str | os.PathLike) for key in _SOURCE_KEYS)


def _each(data: object, role: str) -> Iterable[object]:
    """Return the rows of any supported form."""
    if isinstance(data, Mapping):
        return _turned(data, role)
    if hasattr(data, "keys") and hasattr(data, "num_rows") and not hasattr(data, "column_names"):
        names = ", ".join(map(repr, data.keys()))
        raise DataError(f"{role} has several splits: {names}.", hint="Give one of them, for instance data['train'].")
    if hasattr(data, "features") and hasattr(data, "column_names"):
        return _of_dataset(data)
    # A Series of pandas or polars is a list of values.
    if hasattr(data, "to_list") and not hasattr(data, "columns"):
        return _called(data.to_list, ())
    if twice := [name for name, count in Counter(map(str, _names(data))).items() if count > 1]:
        raise DataError(f"{role} has more than one column {twice[0]!r}.", hint="Rename all but one of them.")
    # polars, pyarrow, pandas.
    for name, call in (("to_dicts", ()), ("to_pylist", ()), ("to_dict", ("records",))):
        if callable(method := getattr(data, name, None)):
            return _called(method, call)
    if isinstance(data, Iterable) and not isinstance(data, bytes):
        return data
    raise DataError(
        f"{role} is {shown(data)}, a {type(data).__name__}, which has no rows.",
        hint="Give a DataFrame, a list of dicts, a datasets.Dataset, a path or a hub id.",
    )


def _names(data: Any) -> Iterable[object]:
    """Return the names of a table's columns: for pyarrow, ``columns`` are their values."""
    names = getattr(getattr(data, "schema", None), "names", None)
    return names if isinstance(names, list) else getattr(data, "columns", ())


def _called(method: Callable[..., Iterable[object]], arguments: tuple[str, ...]) -> Iterable[object]:
    return method(*arguments)


def _of_dataset(data: Any) -> Iterator[dict[str, object]]:
    """Yield the rows of a `datasets` data set, with class names in place of class numbers."""
    features = data.features or {}
    # A data set may be set to give tensors, arrays or whole tables.
    for row in data.with_format(None) if hasattr(data, "with_format") else data:
        yield {name: _named(value, features.get(name)) for name, value in row.items()}


def _named(value: object, feature: Any) -> object:
    if isinstance(value, list):
        inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else None)
        return [_named(item, inner) for item in value]
    known = hasattr(feature, "int2str") and isinstance(value, int) and 0 <= value < len(feature.names)
    return feature.int2str(value) if known else value


def _turned(columns: Mapping[Any, Any], role: str) -> list[dict[object, object]]:
    """Return the rows of a mapping of columns."""
    listed = {name: list(column) for name, column in columns.items() if _is_column(column)}
    if len(listed) < len(columns) or len({len(column) for column in listed.values()}) > 1:
        raise DataError(
            f"{role} is a mapping, but neither a source nor columns of equal length: {shown(dict(columns))}.",
            hint="Give {'path': ...}, {'hub': ...}, or one list of values for each column.",
        )
    return [dict(zip(listed, row, strict=True)) for row in zip(*listed.values(), strict=True)]


def _is_column(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _plain_row(row: object, number: int, role: str) -> dict[str, object]:
    if isinstance(row, str) and role in _TEXTS:
        return {_TEXTS[role]: row}
    if not isinstance(row, Mapping):
        kind = "a text" if isinstance(row, str) else f"of type {type(row).__name__}"
        wanted = "text or dict" if role in _TEXTS else "dict"
        hint = "Give texts." if role in _TEXTS else "Give dicts such as {'text': ..., 'label': ...}."
        raise DataError(f"row {number} of {role} is {kind}, not a {wanted}: {shown(row)}.", hint=hint)
    try:
        return {str(name): _plain(value) for name, value in row.items()}
    except RecursionError:
        raise DataError(
            f"row {number} of {role} contains itself, or is nested too deeply.",
            hint="Give plain texts, numbers and lists of them.",
        ) from None


def _plain(value: object) -> object:
    """Return a value as JSON represents it: numpy's numbers as Python's, missing values as ``None``."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if isnan(value) else value
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, bytes | bytearray):
        raise DataError(f"{shown(value)} is bytes, not a text.", hint="Decode it first: value.decode('utf-8').")
    if callable(to_list := getattr(value, "tolist", None)):
        # numpy's scalars and arrays.
        return _plain(to_list())
    # pandas' NA and NaT do not equal themselves.
    return None if type(value).__name__ == "NAType" or value != value else str(value)


def read_given(source: SourceConfig, columns: Columns, tally: Tally) -> Generator[RawRow, None, None]:
    """Yield the rows that a source holds in memory."""
    name = describe(source)
    for number, row in enumerate(source.rows or ()):
        picked = columns.pick(row, f"row {number} of {name}")
        tally.took(0, 1)
        yield RawRow(0, {ours: row[theirs] for ours, theirs in picked.items()})


def given_lines(rows: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Yield rows as JSON Lines, the format in which a run keeps them."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=True) + "\n"


def place_of(data: str | os.PathLike[str], suffixes: Sequence[str]) -> dict[str, str]:
    """Return ``data`` under the key ``path`` or ``hub``: a hub id has at most one slash, and no file suffix.

    An existing file or folder is a path, whatever its name.
    """
    text = os.fspath(data)
    is_path = not isinstance(data, str) or os.path.exists(text) or text.lower().endswith(tuple(suffixes))
    return {"path": text} if is_path or text.startswith((".", "/", "~")) or text.count("/") > 1 else {"hub": text}
