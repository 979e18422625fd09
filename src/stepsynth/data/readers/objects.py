"""JSON: one object per line, or one document with a list of objects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

from stepsynth.data.columns import Columns, RawRow, Tally, shown
from stepsynth.errors import DataError

__all__ = ["find_rows", "parse_documents", "read_document", "read_json_lines"]

_SPLIT = "Save each list as its own JSON Lines file."


class _Repeating(dict[str, Any]):
    """A JSON object with repeated keys, of which the parser silently keeps the last value."""

    repeated: frozenset[str] = frozenset()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = _Repeating(found)
    repeating.repeated = frozenset(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
    return repeating


def _refuse_repeated(row: Mapping[str, Any], picked: Mapping[str, str], where: str) -> None:
    """Raise `DataError` if a wanted key is repeated: it is unknown which value is meant."""
    repeated = getattr(row, "repeated", ())
    if twice := [theirs for theirs in picked.values() if theirs in repeated]:
        raise DataError(f"{where} has the key {twice[0]!r} more than once.", hint="Keep only the right one.")


def read_json_lines(
    lines: Iterable[str], name: str, columns: Columns, tally: Tally | None = None
) -> Generator[RawRow, None, None]:
    """Yield the objects of JSON Lines; ``name`` is the file's name, for messages."""
    tally = tally or Tally()
    for number, line in enumerate(lines, start=1):
        tally.lines = number
        if not line.strip():
            tally.empty += 1
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else shown(str(error).split(": line")[0], 100)
            raise DataError(
                f"line {number} of {name} is not valid JSON: {reason}.", hint="Each line must hold one complete JSON object."
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                f"line {number} of {name} holds {_kind(row)}, not an object: {shown(row)}.",
                hint=f"Write {columns.pattern()} on each line.",
            )
        picked = columns.pick(row, f"line {number} of {name}")
        _refuse_repeated(row, picked, f"line {number} of {name}")
        tally.took(number, 1)
        yield RawRow(number, {ours: row[theirs] for ours, theirs in picked.items()})


def parse_documents(text: str, name: str) -> list[tuple[int, Any]]:
    """Return the JSON values of a text, one or several in a row, each with the line where it begins.

    Raises:
        DataError: it is not complete JSON.
    """
    decoder, at, line = json.JSONDecoder(object_pairs_hook=_object), 0, 1
    found: list[tuple[int, Any]] = []
    while True:
        start = at
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        line += text.count("\n", start, at)
        if at == len(text):
            return found
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            where, reason = line, "nested too deeply"
            if isinstance(error, json.JSONDecodeError):
                where, reason = error.lineno, shown(error.msg, 100)
            after = " after a complete value" if found and text[at] in ",]}" else ""
            raise DataError(
                f"line {where} of {name} is not valid JSON: {reason}{after}.",
                hint="Write one list of objects, or one object per line.",
            ) from None
        found.append((line, value))
        line += text.count("\n", at, end)
        at = end


def read_document(text: str, name: str, columns: Columns, tally: Tally) -> Iterator[RawRow]:
    """Yield the rows of a JSON file: a list of objects, an object with such a list, or several objects in a row.

    Raises:
        DataError: it is not JSON, or holds something else.
    """
    documents = parse_documents(text, name)
    if len(documents) == 1:
        rows: Iterable[tuple[int, Any]] = ((0, item) for item in find_rows(documents[0][1], name, columns))
    else:
        rows = documents
    for number, (line, row) in enumerate(rows):
        where = f"the object on line {line} of {name}" if line else f"row {number} of {name}"
        if not isinstance(row, dict):
            raise DataError(f"{where} is {_kind(row)}, not an object: {shown(row)}.", hint=f"Write {columns.pattern()}.")
        picked = columns.pick(row, where)
        _refuse_repeated(row, picked, where)
        tally.took(line, 1)
        yield RawRow(line, {ours: row[theirs] for ours, theirs in picked.items()})


def find_rows(value: Any, name: str, columns: Columns | None = None) -> list[Any]:
    """Return the rows of one JSON value.

    Args:
        value: the value.
        name: the file's name, for messages.
        columns: what a row has; an object that has it is a row, even if it holds a list, such as that of its answers.

    Raises:
        DataError: it holds no list, or several.
    """
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise DataError(f"{name} holds no list of objects: {shown(value)}.", hint="Write one JSON object for each row.")
    if isinstance(value.get("data"), list) and isinstance(value.get("columns"), list):
        names = value["columns"]
        if all(isinstance(row, list) and len(row) == len(names) for row in value["data"]):
            return [dict(zip(names, row, strict=True)) for row in value["data"]]
    if columns is not None and columns.is_row(value):
        return [value]
    lists = {key: inner for key, inner in value.items() if _is_rows(inner)}
    if len(lists) > 1:
        raise DataError(f"{name} holds several lists of objects: {', '.join(map(repr, list(lists)[:6]))}.", hint=_SPLIT)
    if lists:
        return next(iter(lists.values()))
    if "data" in value and isinstance(value["data"], list):
        raise DataError(f"{name} holds no list of objects: {shown(value)}.", hint="Write one JSON object for each row.")
    return _turned(value) or [value]


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _turned(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of an object of columns: lists of equal length, or mappings with the same index, as pandas writes."""
    inner = list(value.values())
    if len(inner) < 2:
        return []
    if all(isinstance(column, list) for column in inner) and len({len(column) for column in inner}) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*inner, strict=True)]
    alike = all(isinstance(column, dict) and list(column) == list(inner[0]) for column in inner)
    if alike and all(key.isdecimal() for key in inner[0]):
        return [{name: column[key] for name, column in value.items()} for key in inner[0]]
    return []


def _kind(row: object) -> str:
    kinds = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "true or false"}
    return kinds.get(type(row), "null" if row is None else f"a {type(row).__name__}")
