"""Unlabelled texts, for `stepsynth predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.data.rows import Columns, read_file, read_lines, shown
from stepsynth.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load_texts"]


def load_texts(path: Path, column: str = "text") -> list[str]:
    """Return the texts of a file in their order; empty ones are kept, so that rows stay aligned.

    Args:
        path: CSV, TSV, JSONL, Parquet (``.gz`` where text), or ``.txt`` with one text per line.
        column: the column that holds them; not used for ``.txt``.

    Raises:
        DataError: the file cannot be read, or a text is no string.
    """
    if path.suffix.lower() == ".txt" and path.is_file():
        return _some([line.rstrip("\r\n") for line in read_lines(path)], path)
    texts = []
    for number, row in enumerate(read_file(path, Columns(column, column))):
        if row.text is not None and not isinstance(row.text, str):
            raise DataError(
                f"row {number} of {str(path)!r} has {shown(row.text)} for its text, not a string.", hint="Write it as a string."
            )
        texts.append(row.text or "")
    return _some(texts, path)


def _some(texts: list[str], path: Path) -> list[str]:
    if not texts:
        raise DataError(f"{str(path)!r} has no rows.", hint="Put texts into it.")
    return texts
