"""Real texts without labels: read in one pass, checked against the labelled rows and the sealed test set, and drawn.

    pool = load_pool(config, validation, test)
    pool.rows, pool.say()

Only the drawn texts and eight bytes for each text are held, so a million of them can be read.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stepsynth.data.columns import RawRow, Tally, describe
from stepsynth.data.examples import check_text, wanted_columns
from stepsynth.data.readers.columnar import is_saved_folder
from stepsynth.data.readers.decoding import read_lines, read_whole
from stepsynth.data.rows import read_rows
from stepsynth.data.splits import compared, fingerprint
from stepsynth.errors import ConfigError, DataError
from stepsynth.near_duplicates import NearDuplicates
from stepsynth.runtime.counting import counted
from stepsynth.tasks import create_family
from stepsynth.types import Example
from stepsynth.words import read_form, word_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from stepsynth.config import RunConfig, SourceConfig
    from stepsynth.data.columns import Columns

    _NearTest = Callable[[float], Callable[[Sequence[Example]], list[bool]]]

__all__ = ["Pool", "load_pool"]

# The column of tasks with one text.
_TEXT = "text"
_KEY_BYTES = 8
# Texts held for each that is wanted, where near-duplicates are left out.
_SPARE = 4
# Texts compared at once.
_TOGETHER = 1024
# With fewer words, which of them are known is chance.
_ENOUGH_WORDS = 200
# Of the words of texts of one kind, more than a third as many are known as within the labelled rows.
_FAR = 1 / 3


@dataclass(frozen=True)
class Pool:
    """Texts without labels.

    Attributes:
        rows: the drawn texts, without labels, in an order that depends only on the texts and the run's seed; ids
            ``pool-<row in the source>``.
        read: texts in the source.
        repeated: texts left out because an earlier one is the same, ignoring case and white space.
        labelled: texts left out because a validation row has them.
        tested: texts left out because a test row has them; which ones is not told.
        unusable: texts left out because they are empty or cannot be read.
        near: near-duplicates left out by what they are like: ``near_labelled`` a validation row, ``near_tested`` a test row,
            ``near_repeated`` a drawn text; ``None`` if they were not looked for. Only texts whose turn came are looked at.
        notes: what a user should know, a sentence each.
    """

    rows: tuple[Example, ...]
    read: int = 0
    repeated: int = 0
    labelled: int = 0
    tested: int = 0
    unusable: int = 0
    near: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Every text read is drawn, not drawn, or left out for one reason."""
        left_out = {"repeated": self.repeated, "labelled": self.labelled, "tested": self.tested, **(self.near or {})}
        left_out["unusable"] = self.unusable
        drawn = len(self.rows)
        return {"read": self.read, "drawn": drawn, "not_drawn": self.read - drawn - sum(left_out.values()), **left_out}

    def say(self) -> str:
        """Return the counts in words."""
        counts = self.counts
        out = ", ".join(f"{counts[name]:,} {why}" for name, why in _WHY_LEFT_OUT.items() if counts.get(name))
        return f"{len(self.rows):,} drawn{f'; left out: {out}' if out else ''}"


_WHY_LEFT_OUT = {
    "repeated": "repeated",
    "labelled": "also labelled",
    "tested": "also in the test set",
    "near_labelled": "nearly as labelled",
    "near_tested": "nearly as in the test set",
    "near_repeated": "nearly repeated",
    "unusable": "unusable",
}


def load_pool(
    config: RunConfig,
    validation: Sequence[Example],
    in_test: Callable[[Example], bool],
    tally: Tally | None = None,
    near_test: _NearTest | None = None,
) -> Pool:
    """Draw ``method.pool_rows`` distinct texts of ``data.pool``, or take all of them if there are fewer.

    Near-duplicates are left out as ``method.pool_near_duplicates`` says. They are looked for in the draw's order until enough
    texts are found, among at most four times as many.

    Args:
        config: names the source.
        validation: the labelled rows, whose texts are left out.
        in_test: whether a test row has a text, see `stepsynth.data.SealedTest.finder`.
        tally: receives the counts of the source.
        near_test: whether a test row has nearly a text, see `stepsynth.data.SealedTest.near_finder`; without it only validation
            rows and drawn texts are compared.

    Raises:
        DataError: the source is wrong, or no text is left.
        ConfigError: the column mapping has a name that the task does not have, or there is no ``data.pool``.
    """
    source, tally = config.data.pool, tally or Tally()
    if source is None:
        raise ConfigError("the config has no data.pool.", hint="Name a file of texts without labels.")
    reader = _Reader(config, source, tally)
    similarity, wanted = config.method.pool_similarity, config.method.pool_rows
    # Some of the texts may be near-duplicates: others take their place.
    held = _read(reader, config.seed, validation, in_test, wanted if similarity is None else _SPARE * wanted)
    rows, near = held.rows, None
    if similarity is not None:
        rows, near = _distinct_rows(held.rows, wanted, similarity, validation, near_test)
    found = Pool(
        tuple(rows),
        read=tally.rows,
        repeated=held.repeated,
        labelled=held.labelled,
        tested=held.tested,
        unusable=reader.unusable,
        near=near,
    )
    if not found.rows:
        raise DataError(f"no text of {describe(source)} is left for data.pool: {_why(found, tally, reader.first)}.", hint=_HINT)
    return replace(found, notes=tuple(_notes(found, config, validation, reader)))


@dataclass(frozen=True)
class _Held:
    """The texts of a pool that come first in the draw, and what was left out before it."""

    rows: Sequence[Example]
    repeated: int
    labelled: int
    tested: int


def _read(reader: _Reader, seed: int, validation: Sequence[Example], in_test: Callable[[Example], bool], size: int) -> _Held:
    """Read all texts and hold the first ``size`` distinct ones of the draw."""
    known = {fingerprint(row) for row in validation}
    keys, labelled, tested = array("Q"), 0, 0
    held: list[int] = []
    drawn: dict[int, Example] = {}
    for row in reader.rows():
        if fingerprint(row) in known:
            labelled += 1
            continue
        if in_test(row):
            tested += 1
            continue
        key = _key(seed, row)
        keys.append(key)
        # The texts with the smallest keys are a random draw that does not depend on their order or number.
        if key in drawn or (len(held) == size and key >= -held[0]):
            continue
        drawn[key] = row
        if len(held) < size:
            heapq.heappush(held, -key)
        else:
            del drawn[-heapq.heappushpop(held, -key)]
    return _Held([drawn[key] for key in sorted(drawn)], len(keys) - _distinct(keys), labelled, tested)


def _distinct_rows(
    held: Sequence[Example], wanted: int, similarity: float, validation: Sequence[Example], near_test: _NearTest | None
) -> tuple[list[Example], dict[str, int]]:
    """Return the first texts that are no near-duplicates, and how many were left out before the last of them, and why."""
    labelled, taken, rows = NearDuplicates(similarity), NearDuplicates(similarity), list[Example]()
    labelled.add(*compared(validation))
    counts = dict.fromkeys(("near_labelled", "near_tested", "near_repeated"), 0)
    tested = near_test(similarity) if near_test else None
    for start in range(0, len(held), _TOGETHER):
        part = held[start : start + _TOGETHER]
        as_labelled = labelled.known(*compared(part))
        as_tested = tested(part) if tested else [False] * len(part)
        free = [row for row, *near in zip(part, as_labelled, as_tested, strict=True) if not any(near)]
        repeats = dict(zip((row.id for row in free), taken.judge(*compared(free)), strict=True))
        new: list[Example] = []
        for row, like_labelled, like_tested in zip(part, as_labelled, as_tested, strict=True):
            if len(rows) + len(new) == wanted:
                return [*rows, *new], counts
            if like_labelled or like_tested or repeats[row.id]:
                counts["near_labelled" if like_labelled else "near_tested" if like_tested else "near_repeated"] += 1
            else:
                new.append(row)
        taken.add(*compared(new))
        rows += new
    return rows, counts


_HINT = "Give texts that are neither labelled nor in the test set."


def _why(found: Pool, tally: Tally, first: str) -> str:
    if not tally.rows:
        return "it has no rows"
    near = found.near or {}
    parts = {
        "have no usable text": found.unusable,
        "are validation rows": found.labelled,
        "are test rows": found.tested,
        "are nearly validation rows": near.get("near_labelled", 0),
        "are nearly test rows": near.get("near_tested", 0),
    }
    said = ", ".join(f"{count:,} {why}" for why, count in parts.items() if count)
    return f"of {tally.rows:,} rows, {said}{f' (the first: {first})' if first else ''}"


def _notes(found: Pool, config: RunConfig, validation: Sequence[Example], reader: _Reader) -> Iterator[str]:
    if reader.labels:
        yield f"The labels of {describe(reader.source)} (column {reader.labels!r}) are not read: a pool has none."
    if reader.unusable:
        rows = counted(reader.unusable, "row")
        yield f"Left out {rows} of data.pool without a usable text; the first: {reader.first}."
    near, far = _known_words(validation, found.rows)
    if near and far < _FAR * near:
        yield (
            f"The pool's texts do not look like the labelled ones: {far:.0%} of their words occur in the labelled rows, where "
            f"{near:.0%} of a labelled row's words occur in others. Is it the right file, in the right language?"
        )
    wanted, asked = config.method.pool_rows, config.method.annotate_rows
    if len(found.rows) < wanted and found.counts["not_drawn"]:
        yield (
            f"Most texts of data.pool nearly repeat others: {len(found.rows):,} of the {_SPARE * wanted:,} that were compared "
            f"are drawn, where method.pool_rows={wanted:,}. Set method.pool_near_duplicates: none to draw near-duplicates, too."
        )
    elif len(found.rows) < wanted and "pool_rows" in config.method.model_fields_set:
        yield f"The pool has fewer usable texts ({len(found.rows):,}) than method.pool_rows={wanted:,}: all are used."
    if len(found.rows) < asked:
        yield f"The pool has fewer drawn texts ({len(found.rows):,}) than method.annotate_rows={asked:,}: all are labelled."


def _known_words(labelled: Sequence[Example], pool: Sequence[Example]) -> tuple[float, float]:
    """Return the share of a labelled row's words that occur in other labelled rows, and that of a pool text's words.

    Both are 0 where there are too few words to say.
    """
    each = [_words(row) for row in labelled]
    counts: dict[str, int] = {}
    for words in each:
        for word in set(words):
            counts[word] = counts.get(word, 0) + 1
    own = [counts[word] > 1 for words in each for word in words]
    other = [word in counts for row in pool for word in _words(row)]
    if min(len(own), len(other)) < _ENOUGH_WORDS:
        return 0.0, 0.0
    return sum(own) / len(own), sum(other) / len(other)


def _words(row: Example) -> list[str]:
    return word_runs(read_form(f"{row.context} {row.text}"))


def _key(seed: int, row: Example) -> int:
    """Return a random number that depends only on the text and the seed."""
    said = "\0".join((str(seed), *fingerprint(row)))
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:_KEY_BYTES], "big")


def _distinct(keys: array[int]) -> int:
    import numpy

    return len(numpy.unique(numpy.frombuffer(keys, dtype=numpy.uint64))) if keys else 0


class _Reader:
    """Reads the texts of a pool; those that cannot be used are counted.

    Attributes:
        source: the pool.
        unusable: the number of rows without a usable text.
        first: what is wrong with the first of them.
        labels: the name of a column with labels, if there is one; it is not read.
    """

    def __init__(self, config: RunConfig, source: SourceConfig, tally: Tally) -> None:
        self.source = source
        self.unusable, self.first, self.labels = 0, "", ""
        self._tally = tally
        self._family = create_family(config.task)
        self._columns = self._wanted(config)

    def _wanted(self, config: RunConfig) -> Columns:
        answers = self._family.answer_columns
        if named := next((name for name in self.source.columns if name in answers), None):
            raise ConfigError(f"data.pool.columns names {named!r}, but a pool has no labels.", hint="Remove it.")
        columns = wanted_columns(config.task, dict(self.source.columns.items()), "pool", labelled=False)
        # Read only to say that they are not used.
        return replace(columns, optional=answers)

    def rows(self) -> Iterator[Example]:
        """Yield the usable texts."""
        with closing(self._raw_rows()) as raw_rows:
            for number, raw in enumerate(raw_rows):
                self.labels = self.labels or next((name for name in self._columns.optional if name in raw.values), "")
                where = f"{f'line {raw.line}' if raw.line else f'row {number}'} of {describe(self.source)}"
                try:
                    yield self._example(f"pool-{number}", raw, where)
                except DataError as error:
                    self.unusable += 1
                    self.first = self.first or error.message.rstrip(".")

    def _raw_rows(self) -> Generator[RawRow, None, None]:
        path = self.source.path
        if path is None or self.source.rows is not None:
            return read_rows(self.source, self._columns, self._tally)
        lines, folder = path.suffix.lower() == ".txt" and path.is_file(), path.is_dir() and not is_saved_folder(path)
        if not lines and not folder:
            return read_rows(self.source, self._columns, self._tally)
        names = self._family.text_columns
        if len(names) > 1:
            raise DataError(
                f"{describe(self.source)} has plain texts, but a row of this task has {' and '.join(names)}.",
                hint="Give the pool as a CSV or JSONL file with these columns.",
            )
        for key in ("columns", "delimiter", "sheet"):
            if getattr(self.source, key):
                raise DataError(f"data.pool.{key} has no effect on plain texts: {describe(self.source)}.", hint="Remove it.")
        return (_files if folder else _lines)(path, self.source.encoding, self._tally)

    def _example(self, row_id: str, raw: RawRow, where: str) -> Example:
        texts = {name: check_text(raw.values[name], name, where) for name in self._family.text_columns}
        return Example(row_id, texts[self._family.written], context=texts.get(self._family.kept, ""))


def _lines(path: Path, encoding: str | None, tally: Tally) -> Generator[RawRow, None, None]:
    """Yield the lines of a text file, one text each."""
    with closing(read_lines(path, encoding)) as lines:
        for number, line in enumerate(lines, 1):
            tally.lines += 1
            if not line.strip():
                tally.empty += 1
                continue
            tally.took(number, 1)
            yield RawRow(number, {_TEXT: line.strip()})


def _files(folder: Path, encoding: str | None, tally: Tally) -> Generator[RawRow, None, None]:
    """Yield the texts of a folder's ``.txt`` files, one each, in the order of their names."""
    found = sorted(path for path in folder.rglob("*") if not path.is_dir())
    files = [path for path in found if path.suffix.lower() == ".txt" and path.is_file()]
    if not files:
        raise DataError(
            f"the folder {str(folder)!r} has no .txt files.",
            hint="Give a folder of .txt files with one text each, or one file with all texts.",
        )
    others = f"; {len(found) - len(files):,} other file(s) not read" if len(found) > len(files) else ""
    tally.notes.append(f"{counted(len(files), '.txt file')}{others}")
    for path in files:
        text = read_whole(path, encoding).strip()
        if not text:
            tally.empty += 1
            continue
        tally.took(0, 1)
        yield RawRow(0, {_TEXT: text})
