"""Split rows in two: repeats are dropped, then whole units are dealt out evenly by label.

A unit is a group of rows that must stay together: a single text, or all rows that share a context,
because a mistake shows its context to the teacher.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import floor
from random import Random
from typing import TypeVar

from stepsynth.runtime.counting import counted
from stepsynth.tasks import split_labels
from stepsynth.types import Example
from stepsynth.words import normalised, read_form, word_runs

__all__ = ["Halves", "apportion", "compared", "cut_by_label", "cut_by_unit", "distinct", "fingerprint", "units_by_context"]

T = TypeVar("T")
Halves = tuple[tuple[Example, ...], tuple[Example, ...]]
_Sides = tuple[list[Example], list[Example]]


def fingerprint(row: Example) -> tuple[str, str]:
    """Return the context and text of a row for comparison, ignoring case and white space."""
    return normalised(row.context), normalised(row.text)


def compared(rows: Sequence[Example]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return texts and groups for `stepsynth.near_duplicates.NearDuplicates`: rows without labels are alike within a context."""
    return [row.text for row in rows], [(" ".join(word_runs(read_form(row.context))),) for row in rows]


def distinct(rows: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """Keep one of the rows with the same texts, and none if their labels differ.

    All answers of a repeated question are right, so the kept row gets the answers of the others.

    Returns:
        The rows, and a sentence for each kind of dropped rows.
    """
    groups: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for row in rows:
        groups[fingerprint(row)].append(row)
    agreed = [group for group in groups.values() if len({row.label for row in group}) == 1]
    contradicting = [group for group in groups.values() if len({row.label for row in group}) > 1]
    notes = []
    if repeated := sum(len(group) - 1 for group in agreed):
        notes.append(f"Dropped {counted(repeated, 'repeated row')}.")
    if contradicting:
        lost = sum(map(len, contradicting))
        notes.append(f"Dropped {counted(lost, 'row')} with {counted(len(contradicting), 'text')} that carry different labels.")
    return [_merged(group) for group in agreed], notes


def units_by_context(rows: Iterable[Example]) -> list[list[Example]]:
    """Group the rows that share a context, in the order of their first rows."""
    units: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        units[normalised(row.context)].append(row)
    return list(units.values())


def cut_by_label(rows: Sequence[Example], counts: Mapping[str, int], share: float, seed: int) -> Halves:
    """Split single rows: every label has at least one row in each half, and is otherwise split in proportion.

    Args:
        rows: rows with one label each, at least two per label.
        counts: label -> number of rows.
        share: share of the rows for the first half.
        seed: seed of the order.
    """
    size = min(max(floor(len(rows) * share + 0.5), len(counts)), len(rows) - len(counts))
    left = apportion(counts, size, spare=1)
    halves: _Sides = ([], [])
    for row in _shuffled(rows, seed):
        side = 0 if left[row.label] else 1
        left[row.label] -= 1 - side
        halves[side].append(row)
    return _named(halves)


def cut_by_unit(units: Sequence[Sequence[Example]], share: float, seed: int) -> Halves:
    """Split whole units by iterative stratification, the rarest label first (Sechidis et al. 2011).

    A label with two or more units ends up in both halves unless rarer labels have used up its units;
    the halves come within about one unit of ``share``.

    Args:
        units: at least two groups of rows that stay together.
        share: share of the rows for the first half.
        seed: seed of the order.
    """
    ordered = _shuffled(units, seed)
    carried = [Counter(label for row in unit for label in split_labels(row.label) or ("",)) for unit in ordered]
    rows = sum(map(len, ordered))
    first = min(max(floor(rows * share + 0.5), 1), rows - 1)
    sizes = (first, rows - first)
    wanted = {label: _wish(n, share) for label, n in sum(carried, Counter[str]()).items()}
    have: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    halves: _Sides = ([], [])
    waiting = {label: [place for place, labels in enumerate(carried) if label in labels] for label in wanted}
    while waiting:
        label = min(waiting, key=lambda name: (len(waiting[name]), name))
        for place in waiting[label]:
            lacks = [(_lack(wanted[label][side], have[side][label]), _lack(sizes[side], len(halves[side]))) for side in (0, 1)]
            side = 0 if lacks[0] >= lacks[1] else 1
            halves[side].extend(ordered[place])
            have[side].update(carried[place])
        done = set(waiting.pop(label))
        waiting = {name: left for name, places in waiting.items() if (left := [p for p in places if p not in done])}
    return _named(halves)


def apportion(counts: Mapping[str, int], size: int, spare: int = 0, least: int = 1) -> dict[str, int]:
    """Divide ``size`` in proportion to ``counts`` by largest remainder, each share within [least, count - spare].

    Args:
        counts: label -> count.
        size: the total to divide; enough for ``least`` each.
        spare: how many of each label to leave.
        least: the minimum for each label, or all of them if there are fewer.
    """
    total = sum(counts.values())
    low = {label: min(least, count - spare) for label, count in counts.items()}
    shares = {label: min(max(size * count // total, low[label]), count - spare) for label, count in counts.items()}

    def missing(label: str) -> int:
        return size * counts[label] - shares[label] * total

    while (gap := size - sum(shares.values())) != 0:
        if gap > 0:
            shares[max((label for label in shares if shares[label] < counts[label] - spare), key=missing)] += 1
        else:
            shares[min((label for label in shares if shares[label] > low[label]), key=missing)] -= 1
    return shares


def _wish(count: int, share: float) -> tuple[float, float]:
    """Return the target number of a label's rows per half: in proportion, but at least one each if possible."""
    first = min(max(count * share, 1.0), count - 1.0) if count > 1 else count * share
    return first, count - first


def _lack(wanted: float, have: float) -> float:
    return (wanted - have) / wanted


def _shuffled(items: Sequence[T], seed: int) -> list[T]:
    random = Random(f"halves {seed}")
    return [item for _, _, item in sorted((random.random(), place, item) for place, item in enumerate(items))]


def _named(halves: _Sides) -> Halves:
    harvest, select = (
        tuple(replace(row, id=f"{role}-{row.id.rpartition('-')[2]}") for row in rows)
        for role, rows in zip(("harvest", "select"), halves, strict=True)
    )
    return harvest, select


def _merged(group: Sequence[Example]) -> Example:
    spans = {span: None for row in group for span in row.answers if group[0].context.startswith(span.text, span.start)}
    return replace(group[0], answers=tuple(spans))
