"""A look into the journal of a run that may be of any version, damaged, or being written."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from stepsynth.errors import RunError
from stepsynth.journal.database import connect_looking, select
from stepsynth.journal.ledger import Cost, Ledger
from stepsynth.journal.runs import Journal

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Look"]


class Look(Journal):
    """A journal that is only read: it is not brought up to date, and whoever writes to it need not wait.

    Args:
        path: the SQLite file, which must exist.

    Raises:
        RunError: it is no SQLite file.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._connection = connect_looking(path)
        except sqlite3.Error as error:
            raise RunError(f"{path.name!r} cannot be read: {error}.") from None
        self._shared = None

    def counted(self) -> Cost:
        """Return what the caps of a budget count: what was sent, and what is or was in flight at its worst case."""
        if not self.select("SELECT 1 FROM sqlite_master WHERE name = 'ledger'"):
            return Cost()
        ledger = Ledger.read(self._connection)
        return ledger.spent + ledger.open

    def spent_in_all(self) -> tuple[int, int, int, float | None]:
        """Return the answers, their prompt and completion tokens and their dollars (``None``: unknown)."""
        query = "SELECT COUNT(*), COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0), SUM(cost_usd),"
        ((requests, prompt, completion, cost, priced),) = select(self._connection, f"{query} COUNT(cost_usd) FROM answers")
        return requests, prompt, completion, (cost or 0.0) if priced == requests else None
