"""The columns that a reader takes from a source, and the raw rows it yields."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from stepsynth.config import SourceConfig
from stepsynth.errors import DataError, MissingColumnError, did_you_mean
from stepsynth.runtime.counting import counted

__all__ = ["OTHER", "Columns", "RawRow", "Tally", "describe", "describe_has", "shown", "trimmed"]

# Marks the name of a column that the task does not read; no name of our own begins like it.
OTHER = "\0"

# Invisible characters that editors and spreadsheets leave around a name.
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\u00ad"


@dataclass(frozen=True)
class Columns:
    """The columns to read, and their names in the source.

    Attributes:
        needed: groups of our names; the first of each group that the source has is read, and one must exist.
        optional: our names that are read if they exist.
        named: our name -> the source's; other columns have our names. A named column must exist.
        everything: read all columns under their own names instead.
        labels: known spellings of labels; they reveal rows that a stray quote swallowed.
        rest: also read the columns that are not wanted, each under its own name after `OTHER`, all in the source's order.
    """

    needed: tuple[tuple[str, ...], ...] = ()
    optional: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    everything: bool = False
    labels: frozenset[str] = frozenset()
    rest: bool = False

    def source_name(self, ours: str) -> str:
        """Return the source's name for one of our columns."""
        return self.named.get(ours, ours)

    def groups(self) -> list[tuple[str, ...]]:
        """Return the needed groups; a named column replaces its group, and is no longer optional."""
        needed = [tuple(ours for ours in group if ours in self.named) or group for group in self.needed]
        return needed + [(ours,) for ours in self.optional if ours in self.named]

    def pattern(self) -> str:
        """Return an outline of a JSON row, for messages."""
        return "{" + ", ".join(f'"{self.source_name(group[0])}": ...' for group in self.groups()) + "}"

    def header(self) -> list[str]:
        """Return the names of the needed columns, as a table's header would list them."""
        return [self.source_name(group[0]) for group in self.groups()]

    def refuse_double_use(self) -> None:
        """Raise `DataError` if two of our columns are read from the same column of the source."""
        taken: dict[str, str] = {}
        for ours in [ours for group in self.groups() for ours in group]:
            theirs = self.source_name(ours)
            if theirs in taken:
                raise DataError(
                    f"{taken[theirs]} and {ours} are both read from column {theirs!r}.", hint="Correct the source's columns."
                )
            taken[theirs] = ours

    def label_columns(self, found: Iterable[str]) -> list[str]:
        """Return the columns named like labels if there are several, as in a table with one column per label."""
        known = {label.casefold() for label in self.labels}
        same = [str(name) for name in found if trimmed(str(name)).casefold() in known]
        return same if len({name.casefold() for name in same}) == len(same) > 1 else []

    def has_any(self, found: Iterable[str]) -> bool:
        """Whether any of the wanted names exists."""
        known = list(found)
        wanted = [ours for group in (*self.groups(), self.optional) for ours in group]
        return any(_alike(self.source_name(ours), known) for ours in wanted)

    def is_row(self, value: Mapping[str, object]) -> bool:
        """Whether a mapping has all needed columns, the first of them with a text: one row, not a table by columns."""
        known = list(value)
        found = [next(filter(None, (_alike(self.source_name(ours), known) for ours in group)), []) for group in self.groups()]
        return bool(found) and all(found) and isinstance(value[found[0][0]], str)

    def pick(self, found: Iterable[str], where: str, *, more: str = "") -> dict[str, str]:
        """Map our names to the source's, for the columns that a source or row has.

        Names must match exactly; only if none does, surrounding white space and case are ignored:
        ``" Label"`` is found as ``label``.

        Args:
            found: the source's columns.
            where: the name of the source or row in messages.
            more: added to the message if a column is missing.

        Raises:
            DataError: a needed column is missing, or one exists more than once.
        """
        known = list(found)
        if self.everything:
            for name in known:
                if name and known.count(name) > 1:
                    raise DataError(f"{where} has more than one column {name!r}.", hint="Rename all but one of them.")
            return {name: name for name in dict.fromkeys(known)}
        picked = dict(self._one_of(group, known, where, more) for group in self.groups())
        for ours in self.optional:
            if ours not in self.named and (theirs := _alike(ours, known)):
                picked[ours] = theirs[0]
        taken: dict[str, str] = {}
        for ours, column in picked.items():
            same = _alike(column, known) if column in known else []
            if len(same) > 1 or column in taken:
                raise DataError(
                    f"{where} has more than one column {column!r} for the {ours}"
                    + (f": {', '.join(map(repr, same[:4]))}." if len(set(same)) > 1 else "."),
                    hint="Rename all but one of them.",
                )
            taken[column] = ours
        return self._with_rest(picked, known, where) if self.rest else picked

    def _with_rest(self, picked: Mapping[str, str], known: Sequence[str], where: str) -> dict[str, str]:
        """Add the other columns, in the source's order; if several have no name, these are left out."""
        ours = {theirs: name for name, theirs in picked.items()}
        found: dict[str, str] = {}
        for name in known:
            key = ours.get(name, OTHER + name)
            if key in found and name:
                raise DataError(f"{where} has more than one column {name!r}.", hint="Rename all but one of them.")
            found[key] = name
        if known.count("") > 1:
            found.pop(OTHER, None)
        return found

    def _one_of(self, group: tuple[str, ...], known: Sequence[str], where: str, more: str) -> tuple[str, str]:
        for exact in (True, False):
            for ours in group:
                name = self.source_name(ours)
                if exact and name in known:
                    return ours, name
                if not exact and (alike := _alike(name, known)):
                    if len(alike) > 1:
                        raise DataError(
                            f"{where} has more than one column {name!r} for the {ours}: {', '.join(map(repr, alike[:4]))}.",
                            hint="Rename all but one of them.",
                        )
                    return ours, alike[0]
        ours = group[0]
        near = did_you_mean(self.source_name(ours), [" ".join(str(name).split())[:40] for name in known[:20]])
        # A header of other names lacks the label's column, too: one look at the message is enough for both.
        absent = [g[0] for g in self.groups() if not any(_alike(self.source_name(each), known) for each in g)]
        named = ", ".join(f"{each}: ..." for each in absent)
        it = "them" if len(absent) > 1 else "it"
        hint = f"{near} Name {it} with columns: {{{named}}} (columns= / --column {ours}=...).".strip()
        if ours in ("label", "labels") and (split := self.label_columns(known)):
            hint = _joined(ours, split)
        others = "".join(f" or {self.source_name(other)!r}" for other in group[1:])
        if len(absent) > 1 and ours == absent[0]:
            more = f"{more} A column for the {' and one for the '.join(absent[1:])} is missing, too.".strip()
        raise MissingColumnError(
            f"{where} has no column {self.source_name(ours)!r}{others} for the {ours}.{more and ' ' + more}",
            hint=hint,
        )


class RawRow(NamedTuple):
    """A row of the source: our column -> value; ``line`` counts from 1, and is 0 if there are no lines."""

    line: int
    values: Mapping[str, object]


@dataclass
class Tally:
    """Counts of what a reader has read, so that no row is missed unnoticed; filled while reading.

    Attributes:
        rows: rows read.
        lines: lines of the file; 0 if it has no lines.
        empty: empty lines (or rows of a sheet).
        longest: the most lines that one row takes up.
        longest_at: the line where that row begins.
        notes: detected settings, a few words each.
        derived: rows that name a labelled row of an earlier run as their source.
    """

    rows: int = 0
    lines: int = 0
    empty: int = 0
    longest: int = 0
    longest_at: int = 0
    notes: list[str] = field(default_factory=list)
    derived: int = 0

    def say(self) -> str:
        """Return the counts in words."""
        parts = [counted(self.rows, "row")]
        if self.lines:
            parts[0] += f" in {self.lines:,} lines"
        if self.empty:
            parts.append(f"{self.empty:,} empty")
        if self.longest > 1:
            parts.append(f"the row at line {self.longest_at:,} takes up {self.longest:,} lines")
        return ", ".join([*parts, *self.notes])

    def took(self, line: int, lines: int) -> None:
        """Count a row."""
        self.rows += 1
        if lines > self.longest:
            self.longest, self.longest_at = lines, line


def _alike(name: str, known: Sequence[str]) -> list[str]:
    """Return the columns with this name, or else those that differ from it only in case and white space."""
    exact = [column for column in known if column == name]
    return exact or [column for column in known if trimmed(str(column)).casefold() == trimmed(name).casefold()]


def _joined(ours: str, names: Sequence[str]) -> str:
    """Return how to join one column per label into one column of labels."""
    listed = ", ".join(f'"{name}"' for name in names[:8]) + (", ..." if len(names) > 8 else "")
    how = 'apply(lambda row: "|".join(row.index[row == 1]), axis=1)' if ours == "labels" else "idxmax(axis=1)"
    return f'One column per label is not read; join them, with pandas: df["{ours}"] = df[[{listed}]].{how}.'


def trimmed(text: str) -> str:
    """Strip white space, byte order marks and other invisible characters around a name or label."""
    text = text.strip()
    while text and (text[0] in _INVISIBLE or text[-1] in _INVISIBLE):
        text = text.strip(_INVISIBLE).strip()
    return unicodedata.normalize("NFC", text)


def shown(value: object, width: int = 60) -> str:
    """Return ``repr(value)``, cut to keep an error message short."""
    text = " ".join(repr(value).split())
    return text if len(text) <= width else text[: width - 3] + "..."


def describe(source: SourceConfig) -> str:
    """Return the name of a source for messages: its path, its hub id and split, or the role of rows given from Python."""
    if source.rows is not None and source.path is not None:
        return f"the {source.path.name.partition('-')[0]} rows"
    if source.path is not None:
        return repr(str(source.path))
    return f"hub data set {source.hub!r} (split {source.split!r})"


def describe_has(source: SourceConfig) -> str:
    """Return `describe` with its verb: ``'a.csv' has``, ``the validation rows have``."""
    return f"{describe(source)} {'have' if source.rows is not None and source.path is not None else 'has'}"
