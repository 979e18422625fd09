"""Cells of CSV files that people open in a spreadsheet."""

from __future__ import annotations

import re

__all__ = ["safe_cell"]

# A spreadsheet runs a cell that begins like this as a formula, unless it is a number with a sign.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]+)?")


def safe_cell(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: with an apostrophe before it where it would.

    Examples:
        >>> safe_cell("=1+1"), safe_cell("-0.5"), safe_cell("a text")
        ("'=1+1", '-0.5', 'a text')
    """
    return f"'{cell}" if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell
