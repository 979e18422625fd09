"""From raw rows to gold examples: checked one by one, sampled, cut in two, or kept sealed.

One text must never be in both halves: the harvest half feeds mistakes to the teacher, so a score
on its rows says nothing. The test set gives out counts and a digest until it is opened.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import floor
from random import Random
from typing import NoReturn

from stepsynth.config import RunConfig, SourceConfig, TaskConfig
from stepsynth.data.rows import RawRow, describe, read_rows, shown
from stepsynth.errors import ConfigError, DataError, RunError, did_you_mean
from stepsynth.types import Example, canonical_json

__all__ = ["SealedInfo", "SealedTest", "Validation", "load_source", "load_validation"]

MAX_WORDS = 20_000
MAX_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Validation:
    """The validation rows, cut by label; no normalised text is in both halves.

    Attributes:
        harvest: rows whose mistakes the teacher gets to see; ids ``harvest-<row in the source>``.
        select: rows that pick checkpoints and rounds; ids ``select-<row in the source>``.
        notes: what was dropped on the way, one sentence each.
    """

    harvest: tuple[Example, ...]
    select: tuple[Example, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SealedInfo:
    """What may be known of the test set before the end.

    Attributes:
        n: number of rows.
        sha256: digest over the canonical rows in order, 64 hex digits.
        labels: label -> number of rows, in the config's order.
    """

    n: int
    sha256: str
    labels: Mapping[str, int]


def load_source(source: SourceConfig, task: TaskConfig, *, role: str, seed: int) -> list[Example]:
    """Return the checked rows of a source, in its order or, sampled, in a seeded order.

    Args:
        source: file or hub data set, column and label mapping, sample size.
        task: gives the labels.
        role: prefix of the ids, ``<role>-<row>`` with rows counted from 0 in the source.
        seed: of the draw, where the source has no own seed.

    Raises:
        DataError: anything wrong with the source or one of its rows.
        ConfigError: the label mapping leads to a label that the task does not have.
    """
    return list(_rows(source, task, role, seed))


def load_validation(config: RunConfig) -> Validation:
    """Load the validation rows, drop repeated texts and cut them, stratified by label.

    Of rows with the same text (case and white space aside) the first is kept; where they carry
    different labels, none is.

    Raises:
        DataError: anything wrong with the source, or too few rows of a label for two halves.
        ConfigError: the label mapping leads to a label that the task does not have.
    """
    source, labels = config.data.validation, list(config.task.labels)
    rows = load_source(source, config.task, role="validation", seed=config.seed)
    kept, notes = _distinct(rows)
    if len(rows) > 1 and len({_normalised(row.text) for row in rows}) == 1:
        raise DataError(f"all {len(rows)} rows of {describe(source)} hold the same text.", hint="Give rows with different texts.")
    counts = _count(kept, labels)
    after = f" ({'; '.join(note.rstrip('.').lower() for note in notes)})" if notes else ""
    if len(kept) < len(labels):
        raise DataError(
            f"{describe(source)} has {len(kept)} usable row{'s' * (len(kept) != 1)} for {len(labels)} labels{after}.",
            hint="Give at least two rows per label.",
        )
    _refuse_single(counts, describe(source))
    for label, count in counts.items():
        if count < 2:
            raise DataError(
                f"label {label!r} has {count} usable row{'s' * (count != 1)} in {describe(source)}{after}; "
                "validation needs two, one for each half.",
                hint="Add rows with it, raise 'sample', or take the label out of task.labels.",
            )
    harvest, select = _cut(kept, counts, config.data.harvest_share, config.seed)
    return Validation(harvest, select, tuple(notes))


class SealedTest:
    """The test set: can be checked at any time, is read once at the end.

    Args:
        config: a config with ``data.test``.

    Raises:
        ConfigError: there is no ``data.test``.
    """

    def __init__(self, config: RunConfig) -> None:
        """Keep where the rows are; nothing is read yet."""
        if config.data.test is None:
            raise ConfigError("the config has no data.test.", hint="Add the test file, or go without a final score.")
        self._source = config.data.test
        self._task = config.task
        self._seed = config.seed

    def inspect(self) -> SealedInfo:
        """Check every row and return counts and digest; no text leaves this method.

        Raises:
            DataError: anything wrong with the source or one of its rows.
        """
        sha256, counts = hashlib.sha256(), Counter[str]()
        for row in _rows(self._source, self._task, "test", self._seed):
            sha256.update(_canonical(row))
            counts[row.label] += 1
        ordered = {label: counts[label] for label in self._task.labels}
        _refuse_single(ordered, describe(self._source))
        return SealedInfo(counts.total(), sha256.hexdigest(), ordered)

    def open(self, expected_sha256: str | None = None) -> list[Example]:
        """Return the rows, for the final evaluation only.

        Args:
            expected_sha256: the digest that `inspect` gave when the run began.

        Raises:
            RunError: the rows are not the ones that were inspected.
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
    return canonical_json([row.id, row.text, row.label]).encode() + b"\n"


def _rows(source: SourceConfig, task: TaskConfig, role: str, seed: int) -> Iterator[Example]:
    for value, label in source.labels.items():
        if label not in task.labels:
            raise ConfigError(
                f"data.{role}.labels maps {value!r} to {label!r}, which task.labels does not have.",
                hint=did_you_mean(label, task.labels),
            )
    checked = _checked(source, task, role)
    if source.sample is None:
        return checked
    return iter(_draw(checked, list(task.labels), source, role, seed if source.seed is None else source.seed))


def _checked(source: SourceConfig, task: TaskConfig, role: str) -> Iterator[Example]:
    """Yield good rows; unknown labels are counted over the whole source before they are refused."""
    unknown: Counter[str] = Counter()
    number = -1
    with closing(read_rows(source)) as rows:
        for number, raw in enumerate(rows):
            where = f"row {number}{f' (line {raw.line})' if raw.line else ''} of {describe(source)}"
            text = _text(raw, where)
            value = _label_value(raw.label, source.labels, where)
            label = source.labels.get(value, value)
            if label in task.labels:
                yield Example(f"{role}-{number}", text, label)
            elif len(unknown) < 1000 or value in unknown:
                unknown[value] += 1
    if number < 0:
        raise DataError(f"{describe(source)} has no rows.", hint="Put rows with a text and a label into it.")
    if unknown:
        _refuse_unknown(unknown, source, task, role)


def _text(raw: RawRow, where: str) -> str:
    text = raw.text
    if text is None:
        raise DataError(f"{where} has no text (null).", hint="Fill it in or take the row out.")
    if not isinstance(text, str):
        raise DataError(
            f"the text of {where} is {type(text).__name__}, not a string: {shown(text)}.", hint="Write it as a string."
        )
    if not text.strip():
        raise DataError(f"{where} has an empty text: {shown(text)}.", hint="Fill it in or take the row out.")
    if "\0" in text:
        raise DataError(
            f"the text of {where} holds a NUL character (U+0000).", hint="Take it out; no tokenizer has a use for it."
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"the text of {where} holds half a surrogate pair ({text[error.start]!a}), which is no character.",
                hint="Write the whole character, or take the row out.",
            ) from None
    if len(text) > MAX_CHARACTERS:
        raise DataError(
            f"the text of {where} has {len(text):,} characters, more than {MAX_CHARACTERS:,}.",
            hint="Cut it to what a student can read.",
        )
    if len(text) > 2 * MAX_WORDS and (words := len(text.split())) > MAX_WORDS:
        raise DataError(
            f"the text of {where} has {words:,} words, more than {MAX_WORDS:,}.", hint="Cut it to what a student can read."
        )
    return text


def _label_value(label: object, mapping: Mapping[str, str], where: str) -> str:
    if label is None or label == "":
        raise DataError(f"{where} has no label.", hint="Fill it in, or take the row out; unlabelled splits cannot be used here.")
    if not isinstance(label, (str, int, float)):
        raise DataError(f"the label of {where} is {type(label).__name__}: {shown(label)}.", hint="Write one string or number.")
    # Tables with a gap in an integer column come back as floats: 1.0 means the label 1.
    if isinstance(label, float) and label.is_integer() and str(label) not in mapping:
        return str(int(label))
    return str(label)


def _refuse_unknown(unknown: Counter[str], source: SourceConfig, task: TaskConfig, role: str) -> NoReturn:
    first = next(iter(unknown))
    counted = ", ".join(f"{shown(value, 40)} x {count}" for value, count in unknown.most_common(8))
    more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
    raise DataError(
        f"{describe(source)} has labels that task.labels does not have: {counted}{more}.",
        hint=f"{did_you_mean(first, task.labels)} Or map them with data.{role}.labels.",
    )


def _refuse_single(counts: Mapping[str, int], what: str) -> None:
    present = [label for label, count in counts.items() if count]
    if len(present) == 1:
        raise DataError(
            f"all {counts[present[0]]} rows of {what} have the one label {present[0]!r}.",
            hint="Give rows of at least two labels; is the file sorted and cut?",
        )


def _draw(rows: Iterable[Example], labels: Sequence[str], source: SourceConfig, role: str, seed: int) -> list[Example]:
    """Draw a stratified sample in one pass: per label, the rows with the smallest random keys."""
    size, random = source.sample or 0, Random(f"sample {seed}")
    heaps: dict[str, list[tuple[float, int, Example]]] = defaultdict(list)
    counts = dict.fromkeys(labels, 0)
    for number, row in enumerate(rows):
        counts[row.label] += 1
        item = (-random.random(), -number, row)
        if len(heaps[row.label]) < size:
            heapq.heappush(heaps[row.label], item)
        else:
            heapq.heappushpop(heaps[row.label], item)
    total, present = sum(counts.values()), {label: count for label, count in counts.items() if count}
    if size > total:
        raise DataError(
            f"data.{role}.sample is {size}, but {describe(source)} has {total} rows.", hint="Lower 'sample' or leave it out."
        )
    if size < len(present):
        raise DataError(
            f"data.{role}.sample is {size}, but {describe(source)} has {len(present)} labels.",
            hint="Draw at least one row per label.",
        )
    quotas = _apportion(present, size)
    drawn = [item for label, quota in quotas.items() for item in heapq.nlargest(quota, heaps[label])]
    return [row for _, _, row in sorted(drawn, reverse=True)]


def _apportion(counts: Mapping[str, int], size: int, spare: int = 0) -> dict[str, int]:
    """Share ``size`` in proportion to ``counts`` by largest remainder, within [1, count - spare] each."""
    total = sum(counts.values())
    shares = {label: min(max(size * count // total, 1), count - spare) for label, count in counts.items()}

    def missing(label: str) -> int:
        return size * counts[label] - shares[label] * total

    while (gap := size - sum(shares.values())) != 0:
        if gap > 0:
            shares[max((label for label in shares if shares[label] < counts[label] - spare), key=missing)] += 1
        else:
            shares[min((label for label in shares if shares[label] > 1), key=missing)] -= 1
    return shares


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split())


def _count(rows: Iterable[Example], labels: Sequence[str]) -> dict[str, int]:
    counts = Counter(row.label for row in rows)
    return {label: counts[label] for label in labels}


def _distinct(rows: Sequence[Example]) -> tuple[list[Example], list[str]]:
    groups: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        groups[_normalised(row.text)].append(row)
    agreed = [group for group in groups.values() if len({row.label for row in group}) == 1]
    contradicting = [group for group in groups.values() if len({row.label for row in group}) > 1]
    notes = []
    if repeated := sum(len(group) - 1 for group in agreed):
        notes.append(f"Dropped {repeated} repeated row{'s' * (repeated != 1)}.")
    if contradicting:
        lost = sum(map(len, contradicting))
        notes.append(
            f"Dropped {lost} rows with {len(contradicting)} text{'s' * (len(contradicting) != 1)} that carry different labels."
        )
    return [group[0] for group in agreed], notes


def _cut(
    rows: Sequence[Example], counts: Mapping[str, int], share: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    size = min(max(floor(len(rows) * share + 0.5), len(counts)), len(rows) - len(counts))
    left = _apportion(counts, size, spare=1)
    random = Random(f"halves {seed}")
    halves: dict[str, list[Example]] = {"harvest": [], "select": []}
    for _, row in sorted(((random.random(), row) for row in rows), key=lambda pair: pair[0]):
        role = "harvest" if left[row.label] else "select"
        left[row.label] -= role == "harvest"
        halves[role].append(Example(f"{role}-{row.id.rpartition('-')[2]}", row.text, row.label))
    return tuple(halves["harvest"]), tuple(halves["select"])
