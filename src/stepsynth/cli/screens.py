"""Standard output and error when they are closed, cut off, full, or cannot encode a character.

Text for people is written with backslash escapes where a character does not fit
(``errors="backslashreplace"``). Output for programs is never changed: JSON is escaped instead, and a
table that does not fit is refused.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from stepsynth.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

__all__ = [
    "BROKEN_PIPE",
    "cut_off",
    "flush_streams",
    "json_text",
    "plain_text",
    "prepare_streams",
    "print_table",
    "refuse_unfit",
    "silence_streams",
    "write_data",
]

# The exit code that a shell reports for a program ended by SIGPIPE: neither success nor a failure of the command.
BROKEN_PIPE = 141


def prepare_streams() -> tuple[int, int]:
    """Make the standard streams safe to write to, whatever the shell did with them.

    Returns:
        The identity of standard output, for `cut_off`.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next file opened, perhaps the journal, would become standard output.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    return _what(1)


def flush_streams() -> None:
    """Flush the buffers, so that an error shows here and not when the interpreter exits.

    Raises:
        OSError: the reader has gone, or the disk is full.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def silence_streams() -> None:
    """Discard further output: the reader has gone, and the interpreter would complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(null, number)
    os.close(null)


def cut_off(before: tuple[int, int]) -> bool:
    """Whether a library met a closed pipe and replaced standard output with a silent stream.

    Args:
        before: what `prepare_streams` returned.
    """
    return type(sys.stdout).__name__ == "PacifyFlushWrapper" or _what(1) != before


def _what(number: int) -> tuple[int, int]:
    found = os.fstat(number)
    return found.st_dev, found.st_ino


def json_text(value: Any) -> str:
    """Return a value as JSON that standard output can encode."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return text if _fits(text) else json.dumps(value, indent=1, ensure_ascii=True)


def write_data(text: str) -> None:
    """Write output for programs to standard output, unchanged.

    Raises:
        RunError: the stream's encoding lacks some of its characters.
    """
    refuse_unfit(text)
    sys.stdout.write(text)


def refuse_unfit(text: str) -> None:
    """Check, before anything is written, that standard output can hold a text.

    Raises:
        RunError: its encoding lacks some of the characters.
    """
    if not _fits(text):
        raise RunError(
            f"standard output has the encoding {sys.stdout.encoding!r}, which cannot hold all characters of the result.",
            hint="Write a UTF-8 file with --out, or set PYTHONIOENCODING=utf-8.",
        )


def _fits(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def plain_text(text: str) -> str:
    """Return a text of others (a task's name, a label, an answer) without the control characters that a terminal would obey."""
    return "".join(sign for sign in text if sign in "\n\t" or unicodedata.category(sign) != "Cc")


def print_table(console: Console, table: Table, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, or a few lines per row if the terminal is too narrow, so that nothing is cut off.

    Args:
        console: where to print.
        table: complete with rows; columns that may not be wrapped say so.
        head: the names of the columns.
        rows: the same cells as plain text; the first cell of a row is its name.
    """
    from rich.measure import Measurement
    from rich.padding import Padding
    from rich.text import Text

    if Measurement.get(console, console.options.update(max_width=10_000), table).minimum <= console.width:
        console.print(table)
        return
    if table.title:
        console.print(table.title, style="italic", highlight=False)
    for name, *cells in rows:
        console.print(Text(name, style="bold", overflow="fold"))
        said = ", ".join(f"{column} {cell.strip()}" for column, cell in zip(head[1:], cells, strict=True) if cell.strip())
        console.print(Padding(Text(said, overflow="fold"), (0, 0, 0, 2)))
