"""From a file to lines of text: compression, encoding, line endings.

A file is read as UTF-8, with or without a byte order mark, or as UTF-16 or UTF-32 if it has their
mark; other encodings must be set with ``encoding``. Invalid bytes are refused with their line and
position, never replaced. Lines end with LF or CR LF, or with CR, as on old Macs, if the first block
has no LF.
"""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stepsynth.data.columns import shown
from stepsynth.errors import DataError

__all__ = ["MAX_LINE_BYTES", "PACKED", "member_name", "opened", "read_errors", "read_lines", "read_whole"]

MAX_LINE_BYTES = 16 * 2**20
MAX_JSON_BYTES = 2**29
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_BLOCK = 2**16
# UTF-32 comes first, because its mark begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHERS = (
    (b"PK\x03\x04", "a zip archive or an Excel file", "Give it its own suffix, '.xlsx' or '.zip'."),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls)", "Save it as .xlsx or CSV."),
    (b"PAR1", "a Parquet file", "Give it its own suffix, '.parquet'."),
    (b"ARROW1", "an Arrow file", "Give it its own suffix, '.arrow'."),
    (b"\x1f\x8b", "gzip data without the suffix '.gz'", "Add '.gz' to its name."),
    (b"\x28\xb5\x2f\xfd", "zstd data without the suffix '.zst'", "Add '.zst' to its name."),
    (b"BZh9", "bzip2 data without the suffix '.bz2'", "Add '.bz2' to its name."),
    (b"%PDF-", "a PDF file", "Save the rows as CSV or JSONL."),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Fetch it with: git lfs pull"),
    (b"<!doctype html", "a web page", "Download the file itself."),
    (b"<html", "a web page", "Download the file itself."),
)


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn the read errors of all libraries into a one-line `DataError`."""
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise DataError(
            f"cannot read {str(path)!r}: {shown(str(error), 120)}.",
            hint="Is the file complete, and may you read it? Copy it again.",
        ) from None


def member_name(path: Path) -> str:
    """Return the name that tells the format: that of the only file in a zip archive, else its own without ``.gz``."""
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with read_errors(path), zipfile.ZipFile(path) as archive:
            return _member(archive, path).filename
    return path.stem if suffix in PACKED else path.name


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        names = ", ".join(repr(member.filename) for member in members[:5])
        raise DataError(
            f"{str(path)!r} holds {len(members)} files{names and ': ' + names}, not one.", hint="Unpack it and give one of them."
        )
    if members[0].flag_bits & 1:
        raise DataError(f"{str(path)!r} is protected by a password.", hint="Unpack it and give the file in it.")
    return members[0]


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading and decompress it."""
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(_member(archive, path)) as member:
            yield member
        return
    if suffix in (".bz2", ".zst"):
        import pyarrow

        stream = pyarrow.input_stream(str(path), compression={".bz2": "bz2", ".zst": "zstd"}[suffix])
        with io.BufferedReader(stream) as handle:
            yield handle
        return
    if suffix == ".gz":
        with gzip.open(path, "rb") as unpacked:
            yield unpacked  # type: ignore[misc]
    elif suffix == ".xz":
        with lzma.open(path, "rb") as unpacked:
            yield unpacked
    else:
        with open(path, "rb") as file:
            yield file


def read_lines(path: Path, encoding: str | None = None) -> Generator[str, None, None]:
    """Yield the lines of a text file with their line endings, without the byte order mark.

    Raises:
        DataError: the file has bytes that are invalid in the encoding, a NUL or an endless line, or is another kind of file.
    """
    with read_errors(path), opened(path) as handle:
        head = handle.read(_BLOCK)
        chosen = _encoding(head, repr(str(path)), encoding)
        rest = _Joined(head, handle)
        if codecs.lookup(chosen).name.startswith(("utf-16", "utf-32")):
            start = head.decode(chosen, "ignore")
            end = "\r" if "\r" in start and "\n" not in start else "\n"
            yield from _wide_lines(io.TextIOWrapper(io.BufferedReader(rest), chosen, newline=end), chosen, repr(str(path)))
            return
        byte = b"\r" if b"\r" in head and b"\n" not in head else b"\n"
        yield from _narrow_lines(_byte_lines(io.BufferedReader(rest), byte), chosen, repr(str(path)), encoding)


class _Joined(io.RawIOBase):
    """A stream of the bytes already read, followed by the rest."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        super().__init__()
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        found, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        found = found or self._rest.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


def _encoding(head: bytes, name: str, wanted: str | None) -> str:
    """Return the encoding of a file by its first bytes and the user's setting."""
    marked = next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)
    if marked and wanted and not codecs.lookup(wanted).name.startswith(marked):
        raise DataError(
            f"{name} begins with the byte order mark of {marked.upper()}, but encoding says {wanted!r}.",
            hint="Remove 'encoding': the mark is enough.",
        )
    for start, kind, hint in _OTHERS:
        if head[: len(start)].lower() == start.lower() and not (marked or wanted):
            raise DataError(f"{name} is {kind}.", hint=hint)
    if marked:
        return marked
    return wanted or "utf-8"


def _byte_lines(handle: io.BufferedReader, end: bytes) -> Iterator[bytes]:
    if end == b"\n":
        while line := handle.readline(MAX_LINE_BYTES + 1):
            yield line
        return
    kept = b""
    while block := handle.read(_BLOCK):
        *whole, kept = (kept + block).split(end)
        yield from (line + end for line in whole)
        if len(kept) > MAX_LINE_BYTES:
            break
    if kept:
        yield kept


def _narrow_lines(lines: Iterator[bytes], encoding: str, name: str, wanted: str | None) -> Iterator[str]:
    offset = 0
    for number, raw in enumerate(lines, start=1):
        if len(raw) > MAX_LINE_BYTES:
            raise DataError(f"line {number} of {name} is longer than {MAX_LINE_BYTES:,} bytes.", hint="Put each row on a line.")
        if (nul := raw.find(b"\0")) >= 0:
            wide = raw.count(b"\0") * 3 > len(raw)
            raise DataError(
                f"{name} holds binary data (a NUL byte on line {number}, byte {offset + nul}).",
                hint="It looks like UTF-16 without a byte order mark: add encoding: utf-16-le (or utf-16-be) beside its path."
                if wide
                else "Is it a spreadsheet, an archive or a Parquet file under another name?",
            )
        try:
            line = raw.decode(encoding)
        except UnicodeDecodeError as error:
            raise _undecodable(raw, error, f"line {number}, byte {offset + error.start}", name, wanted) from None
        yield line[1:] if number == 1 and line.startswith("\ufeff") else line
        offset += len(raw)


def _undecodable(raw: bytes, error: UnicodeDecodeError, where: str, name: str, wanted: str | None) -> DataError:
    found = raw[error.start : error.start + 1]
    if wanted:
        return DataError(
            f"{name} is not {wanted}: {where} is {found!r}.", hint="Remove encoding: if the file is UTF-8, or set another."
        )
    # The config key comes first; commands read the same files with --encoding.
    form = f"validation: {{path: {Path(name.strip(chr(39))).name}, encoding: cp1252}}"
    hint = f"Save it again as UTF-8, or name its encoding, e.g. {form} (predict and import: --encoding cp1252)."
    around = raw[max(0, error.start - 12) : error.start + 12]
    try:
        return DataError(
            f"{name} is not UTF-8: {where} is {found!r}.",
            hint=f"{hint} With cp1252 (Windows) it would read {shown(around.decode('cp1252').strip(), 40)}.",
        )
    except UnicodeDecodeError:
        return DataError(f"{name} is not UTF-8: {where} is {found!r}.", hint=hint)


def _wide_lines(text: io.TextIOWrapper, encoding: str, name: str) -> Iterator[str]:
    """Yield lines of an encoding whose line endings are longer than a byte."""
    number = 0
    try:
        while line := text.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) >= MAX_LINE_BYTES:
                raise DataError(f"line {number} of {name} is too long.", hint="Put each row on a line.")
            if "\0" in line:
                raise DataError(f"{name} holds a NUL character on line {number}.", hint="Is it text? Save it again as UTF-8.")
            yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not valid {encoding.upper()}: {error.reason} after line {number}.", hint="Save it again as UTF-8."
        ) from None


def read_whole(path: Path, encoding: str | None = None) -> str:
    """Return the text of a file that cannot be read line by line.

    Raises:
        DataError: as for `read_lines`, or the file is too large.
    """
    pieces, size = [], 0
    name = repr(str(path))
    with read_errors(path), opened(path) as handle:
        head = handle.read(_BLOCK)
        chosen = _encoding(head, name, encoding)
        while head:
            size += len(head)
            if size > MAX_JSON_BYTES:
                raise DataError(
                    f"{name} is larger than {MAX_JSON_BYTES:,} bytes.", hint="Save it as JSON Lines, which are streamed."
                )
            pieces.append(head)
            head = handle.read(2**20)
    raw = b"".join(pieces)
    try:
        return raw.decode(chosen).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _undecodable(raw, error, f"line {line}, byte {error.start}", name, encoding) from None
