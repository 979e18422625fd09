"""``runs``: a table of the runs below a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.api.listing import HEAD, list_line
from stepsynth.cli.screens import plain_text, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["print_runs"]

_LEFT = 4


def print_runs(entries: Sequence[dict[str, Any]], folder: Path) -> None:
    """Print a line per run; below the table, why broken ones are broken."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not entries:
        console.print(f"There are no such runs below {str(folder.absolute())!r}.", markup=False, highlight=False, soft_wrap=True)
        return
    shown = Table()
    for place, name in enumerate(HEAD):
        shown.add_column(name, justify="left" if place < _LEFT else "right", no_wrap=True)
    rows = [[plain_text(cell) for cell in list_line({**entry, "problem": None})] for entry in entries]
    for row in rows:
        shown.add_row(*map(escape, row))
    print_table(console, shown, HEAD, rows)
    for entry in entries:
        if entry["problem"]:
            said = plain_text(f"{entry['name']}: {entry['problem']}")
            console.print(said, style="yellow", markup=False, highlight=False, soft_wrap=True)
