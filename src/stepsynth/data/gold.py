"""From raw rows to gold examples: checked one by one, sampled, split in two, or kept sealed.

One text must never be in both halves: the harvest half feeds mistakes to the teacher, so a score
on its rows says nothing. Until the test set is opened, it gives out only counts and a digest.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice

from stepsynth.config import RunConfig, SourceConfig, TaskConfig
from stepsynth.data.columns import Tally, describe, describe_has
from stepsynth.data.examples import RowReader
from stepsynth.data.rows import read_rows
from stepsynth.data.splits import Halves, compared, cut_by_label, cut_by_unit, distinct, fingerprint, units_by_context
from stepsynth.data.stratified_sample import draw
from stepsynth.errors import ConfigError, DataError, RunError
from stepsynth.near_duplicates import NearDuplicates
from stepsynth.runtime.counting import counted
from stepsynth.tasks import SplitRule, create_family
from stepsynth.types import Example, canonical_json

__all__ = ["SealedInfo", "SealedTest", "Validation", "load_seed", "load_source", "load_validation"]

# The column of a data set that names the labelled row from which a row was written, and its values.
_SOURCE = "source"
_OF_GOLD = re.compile(r"(?:harvest|select)-\d+")
_DERIVED = (
    "were written from labelled rows of an earlier run: where this run has the same ones, scores on them, also in "
    "cross-validation, will be too high"
)
# Test rows held at a time while they are indexed.
_PART = 8192


@dataclass(frozen=True)
class Validation:
    """The validation rows, split in two; no two normalised rows are equal, within a half or across halves.

    Attributes:
        harvest: rows whose mistakes the teacher may see; ids ``harvest-<row in the source>``.
        select: rows that pick checkpoints and rounds; ids ``select-<row in the source>``.
        notes: what was dropped or could not be read, one sentence each.
        tally: the counts of the source.
    """

    harvest: tuple[Example, ...]
    select: tuple[Example, ...]
    notes: tuple[str, ...] = ()
    tally: Tally = field(default_factory=Tally, compare=False)


@dataclass(frozen=True)
class SealedInfo:
    """What may be known of the test set before the end.

    Attributes:
        n: number of rows.
        sha256: digest of the canonical rows in order, 64 hex digits.
        labels: label -> number of rows that carry it, in the config's order; empty for questions.
        shared: number of rows with the same texts as a validation row.
        tally: the counts of the source.
    """

    n: int
    sha256: str
    labels: Mapping[str, int]
    shared: int = 0
    tally: Tally = field(default_factory=Tally, compare=False)


def load_source(source: SourceConfig, task: TaskConfig, *, role: str, seed: int, tally: Tally | None = None) -> list[Example]:
    """Return the checked rows of a source in its order, or in a seeded order if sampled.

    Args:
        source: file or hub data set, column and label mapping, sample size.
        task: gives the family and the labels.
        role: prefix of the ids, ``<role>-<row>`` with rows counted from 0 in the source.
        seed: seed of the draw, if the source has none.
        tally: receives the counts.

    Raises:
        DataError: anything wrong with the source or one of its rows.
        ConfigError: the column or label mapping has a name that the task does not have.
    """
    return list(_rows(source, task, role, seed, tally=tally))


def load_seed(config: RunConfig, tally: Tally | None = None) -> list[Example]:
    """Return the rows of ``data.seed``, with ids ``import-<row>``; empty if the config has no such source.

    They are checked like gold rows. Repeated rows are left for the filters to drop.

    Args:
        config: names the source.
        tally: receives the counts.

    Raises:
        DataError: anything wrong with the source or one of its rows.
        ConfigError: the column or label mapping has a name that the task does not have.
    """
    if config.data.seed is None:
        return []
    tally = tally or Tally()
    rows = list(_rows(config.data.seed, config.task, "seed", config.seed, prefix="import", tally=tally))
    if tally.derived:
        tally.notes.append(f"{tally.derived:,} {_DERIVED}")
    return rows


def load_validation(config: RunConfig) -> Validation:
    """Load the validation rows, drop repeated texts and split them.

    Of rows with the same texts (ignoring case and white space) the first is kept; if their labels differ,
    none is. The split depends on the family's `stepsynth.tasks.TaskFamily.split_rule`:

    * ``by_label`` (classification): every label is in both halves, in proportion to its rows;
    * ``by_labels`` (multi_label): rows are dealt out starting with the rarest label; a label that is missing from
      a half is noted, not refused; rows that share a context stay together;
    * ``by_label_and_context`` (pair): as ``by_label``, with rows that share a context in one half, since mistakes
      show their contexts to the teacher; if the labels do not allow that, rows are dealt out one by one,
      with a note;
    * ``by_context`` (extractive_qa): rows that share a context are always in one half.

    Raises:
        DataError: the source is wrong, or has too few rows (of a label) or contexts for two halves.
        ConfigError: the column or label mapping has a name that the task does not have.
    """
    source, task = config.data.validation, config.task
    tally = Tally()
    rows = load_source(source, task, role="validation", seed=config.seed, tally=tally)
    kept, notes = distinct(rows)
    if len(rows) > 1 and len({fingerprint(row) for row in rows}) == 1:
        raise DataError(f"all {len(rows)} rows of {describe(source)} have the same text.", hint="Give rows with different texts.")
    cut = _CUTS[create_family(task).split_rule]
    (harvest, select), more = cut(kept, config, f" ({'; '.join(note.rstrip('.').lower() for note in notes)})" if notes else "")
    return Validation(harvest, select, (*notes, *more), tally)


class SealedTest:
    """The test set: may be checked at any time, but is opened only once, at the end.

    Args:
        config: a config with ``data.test``.

    Raises:
        ConfigError: there is no ``data.test``.
    """

    def __init__(self, config: RunConfig) -> None:
        """Keep the source; nothing is read yet."""
        if config.data.test is None:
            raise ConfigError("the config has no data.test.", hint="Add the test file, or do without a final score.")
        self._source = config.data.test
        self._task = config.task
        self._seed = config.seed

    def inspect(self, validation: Iterable[Example] = ()) -> SealedInfo:
        """Check every row and return the counts and digest; no text leaves this method.

        Args:
            validation: rows to look for in the test set.

        Raises:
            DataError: anything wrong with the source or one of its rows.
        """
        known, family = {fingerprint(row) for row in validation}, create_family(self._task)
        sha256, counts, n, shared = hashlib.sha256(), Counter[str](), 0, 0
        tally = Tally()
        for row in _rows(self._source, self._task, "test", self._seed, tally=tally):
            sha256.update(_canonical(row))
            counts.update(family.labels_of(row))
            n += 1
            shared += fingerprint(row) in known
        ordered = {label: counts[label] for label in self._task.labels}
        if family.one_label:
            _refuse_single(ordered, describe(self._source))
        return SealedInfo(n, sha256.hexdigest(), ordered, shared, tally)

    def finder(self) -> Callable[[Example], bool]:
        """Return a function that tells whether a test row has a row's texts; it shows none of them.

        Raises:
            DataError: anything wrong with the source or one of its rows.
        """
        held = {fingerprint(row) for row in _rows(self._source, self._task, "test", self._seed)}
        return lambda row: fingerprint(row) in held

    def near_finder(self, similarity: float) -> Callable[[Sequence[Example]], list[bool]]:
        """Return a function that tells for each of several rows whether a test row has nearly its texts; it shows none of them.

        Args:
            similarity: see `stepsynth.near_duplicates.NearDuplicates`.

        Raises:
            DataError: anything wrong with the source or one of its rows.
        """
        seen = NearDuplicates(similarity)
        rows = _rows(self._source, self._task, "test", self._seed)
        while part := list(islice(rows, _PART)):
            seen.add(*compared(part))
        return lambda rows: seen.known(*compared(rows))

    def open(self, expected_sha256: str | None = None) -> list[Example]:
        """Return the rows, for the final evaluation only.

        Args:
            expected_sha256: the digest that `inspect` returned when the run began.

        Raises:
            RunError: the rows differ from those that were inspected.
            DataError: anything wrong with the source or one of its rows.
        """
        rows = load_source(self._source, self._task, role="test", seed=self._seed)
        sha256 = hashlib.sha256()
        for row in rows:
            sha256.update(_canonical(row))
        if expected_sha256 is not None and sha256.hexdigest() != expected_sha256:
            raise RunError(
                f"the test set {describe(self._source)} changed since the run began: its digest was {expected_sha256[:12]!r} "
                f"and is {sha256.hexdigest()[:12]!r}.",
                hint="Put the old rows back, or start a new run directory.",
            )
        return rows


def _canonical(row: Example) -> bytes:
    more = [row.context, [[answer.text, answer.start] for answer in row.answers]] if row.context else []
    return canonical_json([row.id, row.text, row.label, *more]).encode() + b"\n"


def _rows(
    source: SourceConfig, task: TaskConfig, role: str, seed: int, prefix: str = "", tally: Tally | None = None
) -> Iterator[Example]:
    reader = RowReader(task, source, role, tally)
    if role == "seed":
        reader.columns = replace(reader.columns, optional=(*reader.columns.optional, _SOURCE))
    checked = _checked(reader, source, prefix or role)
    if source.sample is None:
        return checked
    return iter(draw(checked, task, source, role, seed if source.seed is None else source.seed))


def _checked(reader: RowReader, source: SourceConfig, prefix: str) -> Iterator[Example]:
    """Yield the good rows; unknown labels are counted over the whole source before they are refused."""
    number = -1
    with closing(read_rows(source, reader.columns, reader.tally)) as rows:
        for number, raw in enumerate(rows):
            where = f"{f'line {raw.line}' if raw.line else f'row {number}'} of {describe(source)}"
            example = reader.example(f"{prefix}-{number}", raw, where)
            reader.tally.derived += bool(_OF_GOLD.fullmatch(str(raw.values.get(_SOURCE) or "")))
            if example is not None:
                yield example
    if number < 0:
        raise DataError(f"{describe_has(source)} no rows.", hint="Add rows with a text and a label.")
    reader.refuse_unknown()


def _refuse_single(counts: Mapping[str, int], what: str) -> None:
    present = [label for label, count in counts.items() if count]
    if len(present) == 1:
        raise DataError(
            f"all {counts[present[0]]} rows of {what} have the same label {present[0]!r}.",
            hint="Give rows of at least two labels; was a sorted file cut?",
        )


def _refuse_few(rows: Sequence[Example], needed: int, what: str, config: RunConfig, after: str) -> None:
    if len(rows) < needed:
        raise DataError(
            f"{describe_has(config.data.validation)} {counted(len(rows), 'usable row')} for {what}{after}.",
            hint="Give at least two rows per label." if create_family(config.task).one_label else "Give more rows.",
        )


def _count(rows: Iterable[Example], config: RunConfig) -> dict[str, int]:
    family = create_family(config.task)
    counts = Counter(label for row in rows for label in family.labels_of(row))
    return {label: counts[label] for label in config.task.labels}


_Cut = Callable[[Sequence[Example], RunConfig, str], tuple[Halves, list[str]]]


def _cut_texts(rows: Sequence[Example], config: RunConfig, after: str) -> tuple[Halves, list[str]]:
    source, labels = config.data.validation, config.task.labels
    _refuse_few(rows, len(labels), f"{len(labels)} labels", config, after)
    counts = _count(rows, config)
    _refuse_single(counts, describe(source))
    for label, count in counts.items():
        if count < 2:
            raise DataError(
                f"label {label!r} has {counted(count, 'usable row')} in {describe(source)}{after}; "
                "validation needs two, one for each half.",
                hint="Add rows with it, raise 'sample', or remove the label from task.labels.",
            )
    return cut_by_label(rows, counts, config.data.harvest_share, config.seed), []


def _cut_pairs(rows: Sequence[Example], config: RunConfig, after: str) -> tuple[Halves, list[str]]:
    torn, _ = _cut_texts(rows, config, after)
    units = units_by_context(rows)
    if len(units) == len(rows):
        return torn, []
    if len(units) > 1:
        whole = cut_by_unit(units, config.data.harvest_share, config.seed)
        full = all(all(_count(half, config).values()) for half in whole)
        if full and abs(len(whole[0]) - len(torn[0])) <= max(len(rows) / 10, 1):
            return whole, []
    return torn, ["Some contexts are in both halves: the labels could not be split otherwise."]


def _cut_labels(rows: Sequence[Example], config: RunConfig, after: str) -> tuple[Halves, list[str]]:
    _refuse_few(rows, 2, "two halves", config, after)
    counts = _count(rows, config)
    if not any(counts.values()):
        raise DataError(
            f"no row of {describe(config.data.validation)} has a label.",
            hint="Is the column 'labels' the right one? Name it with columns: {labels: ...}.",
        )
    units = units_by_context(rows) if any(row.context for row in rows) else [[row] for row in rows]
    halves = cut_by_unit(units, config.data.harvest_share, config.seed)
    found = [_count(half, config) for half in halves]
    notes = []
    if missing := [label for label, count in counts.items() if not count]:
        notes.append(f"Labels without any row: {', '.join(map(repr, missing))}.")
    if lone := [label for label, count in counts.items() if count and not all(half[label] for half in found)]:
        notes.append(f"Labels in one half only, for lack of rows: {', '.join(map(repr, lone))}.")
    return halves, notes


def _cut_questions(rows: Sequence[Example], config: RunConfig, after: str) -> tuple[Halves, list[str]]:
    _refuse_few(rows, 2, "two halves", config, after)
    units = units_by_context(rows)
    if len(units) < 2:
        raise DataError(
            f"all {len(rows)} questions of {describe(config.data.validation)} are about one context; "
            "validation needs two, one for each half.",
            hint="Give questions about several contexts.",
        )
    return cut_by_unit(units, config.data.harvest_share, config.seed), []


_CUTS: dict[SplitRule, _Cut] = {
    "by_label": _cut_texts,
    "by_labels": _cut_labels,
    "by_label_and_context": _cut_pairs,
    "by_context": _cut_questions,
}
