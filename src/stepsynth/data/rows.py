"""Raw rows: one generator per format, each yielding a row's wanted values as the source has them.

Nothing is judged here but the container: whether the file exists, decodes, parses and has the
wanted columns. Files are streamed; a line is the most that is held at a time. Whoever stops reading
early closes the generator, so that the file is not left to the garbage collector.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import zlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stepsynth.config import SourceConfig
from stepsynth.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import datasets

__all__ = ["Columns", "RawRow", "describe", "read_file", "read_json_lines", "read_lines", "read_rows", "shown"]

MAX_LINE_BYTES = 16 * 2**20
_BATCH = 1024
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet", ".tsv", ".tsv.gz")
_QUOTES = 'Close every quote, write a quote inside a field as "", end lines with LF or CRLF; or save the rows as JSONL.'


@dataclass(frozen=True)
class Columns:
    """Which columns are wanted, and what the source calls them.

    Attributes:
        needed: our names; of each group the first that the source has is read, and one must be there.
        optional: our names that are read where they are there.
        named: our name -> the source's; the others bear our own names. A named one must be there.
        everything: read all columns under their own names instead.
    """

    needed: tuple[tuple[str, ...], ...] = ()
    optional: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    everything: bool = False

    def source_name(self, ours: str) -> str:
        """Return what the source calls one of our columns."""
        return self.named.get(ours, ours)

    def groups(self) -> list[tuple[str, ...]]:
        """Return the needed groups: a named column leaves no choice, and is no longer optional."""
        needed = [tuple(ours for ours in group if ours in self.named) or group for group in self.needed]
        return needed + [(ours,) for ours in self.optional if ours in self.named]

    def pattern(self) -> str:
        """Return what a JSON row looks like."""
        return "{" + ", ".join(f'"{self.source_name(group[0])}": ...' for group in self.groups()) + "}"

    def refuse_double_use(self) -> None:
        """Raise `DataError` where two of our columns are read from one of the source's."""
        taken: dict[str, str] = {}
        for ours in [ours for group in self.groups() for ours in group]:
            theirs = self.source_name(ours)
            if theirs in taken:
                raise DataError(
                    f"{taken[theirs]} and {ours} are both read from column {theirs!r}.", hint="Mend the source's columns."
                )
            taken[theirs] = ours

    def pick(self, found: Iterable[str], where: str) -> dict[str, str]:
        """Return our name -> the source's, for the columns that a source or a row has.

        Raises:
            DataError: a needed one is missing, or one is there more than once.
        """
        known = list(found)
        if self.everything:
            wanted = list(dict.fromkeys(known))
        else:
            wanted = [self._one_of(group, known, where) for group in self.groups()]
            wanted += [ours for ours in self.optional if ours not in self.named and ours in known]
        picked = {ours: self.source_name(ours) for ours in wanted}
        for ours, column in picked.items():
            if known.count(column) > 1:
                raise DataError(
                    f"{where} has more than one column {column!r} for the {ours}.", hint="Rename all but one of them."
                )
        return picked

    def _one_of(self, group: tuple[str, ...], known: Sequence[str], where: str) -> str:
        for ours in group:
            if self.source_name(ours) in known:
                return ours
        ours = group[0]
        near = did_you_mean(self.source_name(ours), [" ".join(str(name).split())[:40] for name in known[:20]])
        others = "".join(f" or {self.source_name(other)!r}" for other in group[1:])
        raise DataError(
            f"{where} has no column {self.source_name(ours)!r}{others} for the {ours}.",
            hint=f"{near} Name it with columns: {{{ours}: ...}} (predict: --column).".strip(),
        )


class RawRow(NamedTuple):
    """One row as the source has it: our column -> value; ``line`` counts from 1, 0 where there are no lines."""

    line: int
    values: Mapping[str, object]


def shown(value: object, width: int = 60) -> str:
    """Return ``repr(value)``, cut so that an error stays one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= width else text[: width - 3] + "..."


def describe(source: SourceConfig) -> str:
    """Return the name of a source for messages: its path, or hub id and split."""
    if source.path is not None:
        return repr(str(source.path))
    return f"hub data set {source.hub!r} (split {source.split!r})"


def read_rows(source: SourceConfig, columns: Columns) -> Generator[RawRow, None, None]:
    """Yield the raw rows of a file or a hub data set in their order.

    Raises:
        DataError: the source is missing, unreachable, of an unknown format, not UTF-8,
            damaged, or lacks a column.
    """
    columns.refuse_double_use()
    if source.path is None:
        return _hub(source, columns)
    return read_file(source.path, columns)


def read_file(path: Path, columns: Columns) -> Generator[RawRow, None, None]:
    """Yield the raw rows of one file, by its suffix; see `read_rows`."""
    suffix = _check_file(path)
    try:
        if suffix == ".parquet":
            yield from _parquet(path, columns)
            return
        with closing(read_lines(path)) as lines:
            if suffix.startswith(".jsonl"):
                yield from read_json_lines(lines, repr(str(path)), columns)
            else:
                yield from _table(lines, repr(str(path)), columns, "\t" if suffix.startswith(".tsv") else ",")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"cannot read {str(path)!r}: {shown(str(error), 120)}.", hint="Is the file whole, and may you read it? Copy it again."
        ) from None


def _check_file(path: Path) -> str:
    name = repr(str(path))
    if os.path.isdir(path):
        raise DataError(f"{name} is a folder, not a file.", hint=f"Name one file in it. {_neighbours(path, '')}".strip())
    if not os.path.isfile(path):
        state = "is not a regular file" if os.path.exists(path) else "does not exist"
        raise DataError(f"{name} {state}.", hint=_neighbours(path.parent, path.name))
    suffix = "".join(part.lower() for part in path.suffixes[-2:] if path.suffix.lower() == ".gz") or path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise DataError(
            f"{name} has the unsupported suffix {suffix!r}.",
            hint=f"{did_you_mean(suffix, _SUFFIXES)} Or convert the file to JSONL.",
        )
    if os.path.getsize(path) == 0:
        raise DataError(f"{name} is empty (0 bytes).", hint="Put rows with a text and a label into it.")
    return suffix


def _neighbours(folder: Path, name: str) -> str:
    try:
        files = [entry.name for entry in os.scandir(folder) if entry.is_file() and entry.name.lower().endswith(_SUFFIXES)]
    except (OSError, ValueError):
        return f"There is no folder {str(folder)!r} either; check the path."
    return did_you_mean(name, sorted(files)[:200])[:300] or f"There is no data file in {str(folder)!r}; check the path."


def read_lines(path: Path) -> Generator[str, None, None]:
    """Decode line by line, so that an error can name the line and the byte."""
    name, offset = repr(str(path)), 0
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb") as handle:
        number = 0
        while raw := handle.readline(MAX_LINE_BYTES + 1):
            number += 1
            if number == 1 and raw.startswith(_UTF16):
                raise DataError(f"{name} is UTF-16, not UTF-8.", hint="Save it again as UTF-8.")
            if len(raw) > MAX_LINE_BYTES:
                raise DataError(
                    f"line {number} of {name} is longer than {MAX_LINE_BYTES:,} bytes.", hint="Put each row on a line."
                )
            if number == 1 and raw.startswith(_GZIP):
                raise DataError(f"{name} is gzip data without the suffix '.gz'.", hint="Add '.gz' to its name.")
            if (nul := raw.find(b"\0")) >= 0:
                raise DataError(
                    f"{name} holds binary data (a NUL byte on line {number}, byte {offset + nul}).",
                    hint="Is it a spreadsheet, an archive or a Parquet file under another name?",
                )
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{name} is not UTF-8: line {number}, byte {offset + error.start} is {raw[error.start : error.start + 1]!r}.",
                    hint="Save it again as UTF-8.",
                ) from None
            yield line[1:] if number == 1 and raw.startswith(_BOM) else line
            offset += len(raw)


def read_json_lines(lines: Iterable[str], name: str, columns: Columns) -> Generator[RawRow, None, None]:
    """Yield the objects of JSON Lines; ``name`` is the file's, for messages."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else shown(str(error).split(": line")[0], 100)
            raise DataError(
                f"line {number} of {name} is not valid JSON: {reason}.", hint="Each line must hold one whole JSON object."
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                f"line {number} of {name} holds {_kind(row)}, not an object: {shown(row)}.",
                hint=f"Write {columns.pattern()} on each line.",
            )
        picked = columns.pick(row, f"line {number} of {name}")
        yield RawRow(number, {ours: row[theirs] for ours, theirs in picked.items()})


def _table(lines: Iterable[str], name: str, columns: Columns, delimiter: str) -> Generator[RawRow, None, None]:
    # The limit belongs to the whole process: it is only ever raised, so nobody else can be harmed.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    try:
        for row in reader:
            if not row:
                continue
            if header is None:
                header = row
                places = {ours: header.index(theirs) for ours, theirs in columns.pick(header, name).items()}
                continue
            if len(row) != len(header):
                raise DataError(
                    f"line {reader.line_num} of {name} has {len(row)} fields, the header has {len(header)}.",
                    hint=f"Quote fields that hold a {delimiter!r}, or save the rows as JSONL.",
                )
            yield RawRow(reader.line_num, {ours: row[place] for ours, place in places.items()})
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} of {name} cannot be parsed: {error}.", hint=_QUOTES) from None


def _parquet(path: Path, columns: Columns) -> Generator[RawRow, None, None]:
    import pyarrow
    import pyarrow.parquet

    name = repr(str(path))
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            picked = columns.pick(file.schema_arrow.names, name)
            for batch in file.iter_batches(batch_size=_BATCH, columns=list(picked.values())):
                table = batch.to_pydict()
                for row in zip(*(table[theirs] for theirs in picked.values()), strict=True):
                    yield RawRow(0, dict(zip(picked, row, strict=True)))
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{name} is not a readable Parquet file: {shown(str(error), 120)}.", hint="Write it again, or save the rows as JSONL."
        ) from None


def _hub(source: SourceConfig, columns: Columns) -> Generator[RawRow, None, None]:
    data = _load_hub(source)
    picked = columns.pick(data.column_names, describe(source))
    names = {ours: _class_names(data.features[picked[ours]]) for ours in ("label", "labels") if ours in picked}
    for batch in data.select_columns(list(picked.values())).iter(batch_size=_BATCH):
        for row in zip(*(batch[theirs] for theirs in picked.values()), strict=True):
            values = dict(zip(picked, row, strict=True))
            for ours, known in names.items():
                value = values[ours]
                named = [_class_name(item, known, source) for item in value] if isinstance(value, list) else None
                values[ours] = _class_name(value, known, source) if named is None else named
            yield RawRow(0, values)


def _load_hub(source: SourceConfig) -> datasets.Dataset:
    import datasets

    folder = Path(source.hub or "")
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            data = datasets.load_from_disk(str(folder))
            if isinstance(data, datasets.DatasetDict):
                if source.split not in data:
                    raise DataError(
                        f"{describe(source)} has no such split.", hint=did_you_mean(source.split, list(map(str, data)))
                    )
                data = data[source.split]
            return data
        return datasets.load_dataset(source.hub, name=source.config, revision=source.revision, split=source.split)
    except DataError:
        raise
    # What the hub stack raises comes from five packages and has no common base.
    except Exception as error:
        raise DataError(
            f"cannot load {describe(source)}: {type(error).__name__}: {shown(str(error), 160)}.",
            hint="Check id, config, split and network; or save the rows as a file and give its 'path' in place of 'hub'.",
        ) from None


def _class_names(feature: object) -> list[str] | None:
    """Return the names behind a column of class integers, or of lists of them."""
    names: list[str] | None = getattr(feature, "names", getattr(getattr(feature, "feature", None), "names", None))
    return names


def _class_name(label: object, names: list[str] | None, source: SourceConfig) -> object:
    if names is None or not isinstance(label, int):
        return label
    if not 0 <= label < len(names):
        return None
    # A mapping may be written over the integers, which is what the hub's viewer and most code show.
    return label if str(label) in source.labels and names[label] not in source.labels else names[label]


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "true or false"}
    return kinds.get(type(value), "null" if value is None else f"a {type(value).__name__}")
