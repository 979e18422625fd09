"""Rows of a journal one by one, and how many there are: for what must not hold a million of them at once."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.errors import RunError
from stepsynth.journal.database import decoded, select
from stepsynth.journal.runs import Row, _span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.journal.runs import Journal

__all__ = ["RowCount", "count_rows", "each_row"]


@dataclass(frozen=True, slots=True)
class RowCount:
    """How many rows of one stage, with one label, ended in one way.

    Attributes:
        stage: the stage.
        round: its round.
        kind: its kind, see `Row`.
        label: the asked label.
        reason: empty for accepted rows.
        rows: how many.
    """

    stage: str
    round: int
    kind: str
    label: str
    reason: str
    rows: int


def count_rows(journal: Journal) -> list[RowCount]:
    """Return the planned rows by stage, label and reason, stages in the order of the plan."""
    query = (
        "SELECT r.stage, s.round, s.kind, r.label, r.reason, COUNT(*) FROM rows r JOIN stages s ON s.name = r.stage"
        " GROUP BY r.stage, r.label, r.reason ORDER BY s.round, s.kind != 'rationales', r.stage, r.label, r.reason"
    )
    return [RowCount(*found) for found in select(journal._connection, query)]


def each_row(journal: Journal, *, accepted: bool | None = None, upto_round: int | None = None) -> Iterator[Row]:
    """Yield the rows that `Journal.rows` returns, in the same order, holding a few of them at a time.

    Args:
        journal: an open journal; nothing may be written to it before the last row was taken.
        accepted: whether to yield the accepted ones, the dropped ones, or (``None``) both.
        upto_round: the last round to yield rows of.

    Raises:
        RunError: the file cannot be read.
    """
    stages = "SELECT name, round, kind FROM stages ORDER BY round, kind != 'rationales', name"
    # Stage by stage, rows come in the order of the primary key: nothing has to be sorted.
    query = "SELECT position, key, label, source, text, reason, context, answer FROM rows WHERE stage = ?"
    query += "" if accepted is None else " AND (reason = '') = ?"
    wanted = () if accepted is None else (accepted,)
    for stage, number, kind in select(journal._connection, stages):
        if upto_round is not None and number > upto_round:
            continue
        try:
            for i, key, label, source, text, why, context, answer in journal._connection.execute(
                f"{query} ORDER BY position", (stage, *wanted)
            ):
                row = (stage, number, kind, i, key, label, source, decoded(text), why, decoded(context), _span(decoded(answer)))
                yield Row(*row)
        except sqlite3.DatabaseError as error:
            hint = "Restore it from a backup, or start a new run."
            raise RunError(f"the journal cannot be read: {error}.", hint=hint) from error
