"""Streams and counts a journal's rows, for code that must not load a million of them at once."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from stepsynth.journal.records import SELECT_ROWS, Row
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stepsynth.journal.runs import Journal

__all__ = [
    "RowCount",
    "count_rows",
    "dataset_sample",
    "each_ending",
    "each_row",
    "each_training_row",
    "endings",
    "repeated_answer",
    "rows_at",
    "rows_from_mistakes",
]

_AT_ONCE = 500
# Fewer equal answers mean nothing.
_REPEATED = 3
_SHOWN_CHARS = 160
_FIGURES = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class RowCount:
    """The number of rows of one stage and label with one outcome.

    Attributes:
        stage: the stage.
        round: its round.
        kind: its kind, see `Row`.
        label: the requested label.
        reason: empty for accepted rows.
        rows: how many.
    """

    stage: str
    round: int
    kind: str
    label: str
    reason: str
    rows: int

    @property
    def in_dataset(self) -> bool:
        """Whether they are accepted training rows."""
        return not self.reason and self.kind != StageKind.RATIONALES


def count_rows(journal: Journal) -> list[RowCount]:
    """Count the planned rows by stage, label and reason, stages in plan order."""
    query = (
        "SELECT r.stage, s.round, s.kind, r.label, r.reason, COUNT(*) FROM rows r JOIN stages s ON s.name = r.stage"
        " GROUP BY r.stage, r.label, r.reason ORDER BY s.round, s.kind != ?, r.stage, r.label, r.reason"
    )
    return [RowCount(*found) for found in journal.select(query, (StageKind.RATIONALES,))]


def endings(counts: Iterable[RowCount]) -> defaultdict[str, Counter[str]]:
    """Return the number of rows per stage and reason (empty: accepted)."""
    ended: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for count in counts:
        ended[count.stage][count.reason] += count.rows
    return ended


def each_row(journal: Journal, *, accepted: bool | None = None, upto_round: int | None = None) -> Iterator[Row]:
    """Yield the rows of `Journal.rows`, in the same order, with only a few in memory at a time.

    Args:
        journal: an open journal; do not write to it before the last row is taken.
        accepted: whether to yield the accepted ones, the dropped ones, or (``None``) both.
        upto_round: the last round whose rows to yield.

    Raises:
        RunError: the file cannot be read.
    """
    stages = "SELECT name, round, kind FROM stages ORDER BY round, kind != ?, name"
    # Stage by stage, rows come in the order of the primary key, so nothing must be sorted.
    query = f"{SELECT_ROWS} WHERE r.stage = ?"
    query += "" if accepted is None else " AND (r.reason = '') = ?"
    wanted = () if accepted is None else (accepted,)
    for stage, number, _ in journal.select(stages, (StageKind.RATIONALES,)):
        if upto_round is None or number <= upto_round:
            for found in journal.each(f"{query} ORDER BY r.position", (stage, *wanted)):
                yield Row.read(*found)


def each_training_row(journal: Journal, upto_round: int | None = None) -> Iterator[Row]:
    """Yield the rows of `Journal.dataset`; see `each_row`."""
    return (row for row in each_row(journal, accepted=True, upto_round=upto_round) if row.kind != StageKind.RATIONALES)


def each_ending(journal: Journal, stage: str) -> Iterator[tuple[int, str, str]]:
    """Yield position, label and reason of a stage's rows, in plan order; see `each_row`."""
    yield from journal.each("SELECT position, label, reason FROM rows WHERE stage = ? ORDER BY position", (stage,))


def rows_at(journal: Journal, stage: str, positions: Iterable[int]) -> dict[int, Row]:
    """Return a stage's rows at the given positions of its plan."""
    places, found = list(positions), {}
    for start in range(0, len(places), _AT_ONCE):
        some = places[start : start + _AT_ONCE]
        marks = ",".join("?" * len(some))
        for kept in journal.select(f"{SELECT_ROWS} WHERE r.stage = ? AND r.position IN ({marks})", (stage, *some)):
            found[kept[3]] = Row.read(*kept)
    return found


def rows_from_mistakes(journal: Journal, round_number: int, most: int) -> tuple[dict[str, list[Row]], Counter[str]]:
    """Return a round's rows that were written from mistakes, by mistake, in plan order.

    Returns:
        The first ``most`` rows of each mistake, and the number of its further rows.
    """
    written: defaultdict[str, list[Row]] = defaultdict(list)
    further: Counter[str] = Counter()
    query = "SELECT r.source, r.stage, r.position FROM rows r JOIN stages s ON s.name = r.stage"
    query += " WHERE s.round = ? AND r.source IS NOT NULL ORDER BY r.stage, r.position"
    places: defaultdict[str, list[int]] = defaultdict(list)
    seen: Counter[str] = Counter()
    for source, stage, position in journal.each(query, (round_number,)):
        seen[source] += 1
        if seen[source] <= most:
            places[stage].append(position)
        else:
            further[source] += 1
    for stage, positions in places.items():
        rows = rows_at(journal, stage, positions)
        for position in positions:
            written[rows[position].source or ""].append(rows[position])
    return written, further


def dataset_sample(journal: Journal, most: int = 20_000) -> list[Row]:
    """Return the accepted training rows; if there are more than ``most``, every k-th of them."""
    total = sum(count.rows for count in count_rows(journal) if count.in_dataset)
    return list(islice(each_training_row(journal), 0, None, max(1, -(-total // most))))


def repeated_answer(journal: Journal, *, reasons: bool) -> str:
    """Return a message if more than half of all answers are the same text, ignoring digits; empty otherwise.

    A gateway's notice ("Your quota is used up") may replace every answer.

    Args:
        journal: the run's.
        reasons: look at the answers to requests for reasons, otherwise at those for rows.
    """
    texts: dict[str, str] = {}
    counts: Counter[str] = Counter()
    query = "SELECT r.text FROM rows r JOIN stages s ON s.name = r.stage WHERE (s.kind = ?) = ? AND s.kind != ?"
    for (text,) in journal.each(query, (StageKind.RATIONALES, reasons, StageKind.IMPORT)):
        form = _FIGURES.sub("0", str(text))
        texts.setdefault(form, str(text))
        counts[form] += 1
    form, count = counts.most_common(1)[0] if counts else ("", 0)
    if not form or count < _REPEATED or 2 * count <= counts.total():
        return ""
    text = " ".join(texts[form].split())
    shown = text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 3]}..."
    return f"{count:,} of {counts.total():,} answers say {shown!r}"
