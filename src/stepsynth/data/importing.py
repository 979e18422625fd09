"""Turn rows that others wrote into seed rows: read their files, rename columns, map labels, drop unusable rows.

    found = import_rows([Path("rte_additional_1.json")], task, labels={"0": "entailment", "1": "not_entailment"})
    found.content  # JSON Lines in the task's own columns

Recognised by their columns, without any settings:

* S3 (Wang et al. 2023): ``text`` or ``text1``, ``text2``, integer ``label``; JSON Lines called ``.json``;
* ZeroGen, ProGen, FuseGen: ``C`` (context, or the text if ``X`` is null), ``X`` (written text), integer ``Y``;
* SuperGen: a JSON list of objects with ``text`` or ``text1``, ``text2`` and ``label``;
* GLUE's tables: ``sentence1``, ``sentence2``; ``premise``, ``hypothesis``; ``question``, ``sentence``;
* SQuAD: its nested JSON (``data``, ``paragraphs``, ``qas``), or rows with ``context``, ``question``, ``answers``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.config import parse_source
from stepsynth.data.columns import Columns, RawRow, shown, trimmed
from stepsynth.data.examples import RowReader, kept_field, text_columns, wanted_columns, written_field
from stepsynth.data.readers.decoding import read_whole
from stepsynth.data.readers.objects import find_rows, parse_documents
from stepsynth.data.rows import check_file, read_file
from stepsynth.data.splits import fingerprint
from stepsynth.errors import DataError
from stepsynth.runtime.counting import counted
from stepsynth.tasks import create_family

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.config import SourceConfig, TaskConfig
    from stepsynth.types import Example

__all__ = ["Imported", "import_rows"]

_PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text_a", "text_b"),
)
_NAMES = {
    "text": ("sentence", "review", "content", "X"),
    "label": ("Y", "gold_label"),
    "context": ("C",),
    "question": ("X",),
}


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        rows: the usable rows, in the order of the files, with ids ``import-<number>``.
        content: the same rows as JSON Lines, with the columns of the task.
        labels: label -> number of rows, in the task's order; empty for questions.
        dropped: reason -> number of rows: ``empty``, ``duplicate``, ``unknown label``, ``unusable``.
        unknown: label value that the task does not have -> number of rows.
        first_unusable: the error of the first row that was dropped as unusable.
    """

    rows: tuple[Example, ...]
    content: str
    labels: Mapping[str, int]
    dropped: Mapping[str, int]
    unknown: Mapping[str, int]
    first_unusable: str = ""

    def lines(self) -> list[str]:
        """Return the summary as lines."""
        said = [f"{counted(len(self.rows), 'row')} kept"]
        said += [f"  {label}: {count:,}" for label, count in self.labels.items()]
        if self.dropped:
            said.append(f"{counted(sum(self.dropped.values()), 'row')} dropped")
            said += [f"  {reason}: {count:,}" for reason, count in self.dropped.items()]
        return said + self.problems()

    def problems(self) -> list[str]:
        """Return the fixable reasons for unusable rows, one line each."""
        said = []
        if self.unknown:
            values = ", ".join(f"{shown(value, 40)} x {count:,}" for value, count in list(self.unknown.items())[:8])
            said.append(f"unknown labels {values}; map them with --label theirs=ours")
        if self.first_unusable:
            said.append(f"first unusable row: {self.first_unusable.rstrip('.')}")
        return said


def import_rows(
    paths: Sequence[Path],
    task: TaskConfig,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    reading: Mapping[str, str] | None = None,
) -> Imported:
    """Read rows of any known format and keep the usable ones.

    A row is dropped, not refused, if a text is empty, its texts repeat those of an earlier row, its
    label is unknown, or another check fails (for instance a span that is not in the context).

    Args:
        paths: files in any supported format; ``.json`` also in SQuAD's nested form.
        task: the task that the rows are for.
        columns: our name -> the file's, if it is not one of the known ones.
        labels: the file's label value -> ours.
        reading: how to read the files: ``delimiter``, ``encoding``, ``sheet``, as in the config.

    Raises:
        DataError: a file cannot be read or has no fitting columns, or no row is usable.
        ConfigError: ``columns`` or ``labels`` have a name that the task does not have.
    """
    wanted_columns(task, columns or {}, "")
    rows: list[Example] = []
    seen: set[tuple[str, str]] = set()
    dropped: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    first_unusable = ""
    for path in paths:
        source = parse_source({"path": path, "labels": dict(labels or {}), **(reading or {})})
        reader, number = RowReader(task, source, "seed"), -1
        for number, raw in enumerate(_renamed(source, reader.columns.labels, task, columns or {})):
            where = f"row {number} of {str(path)!r}"
            if any(isinstance(raw.values[name], str) and not str(raw.values[name]).strip() for name in text_columns(task)):
                dropped["empty"] += 1
                continue
            try:
                example = reader.example(f"import-{len(rows)}", raw, where)
            except DataError as error:
                dropped["unusable"] += 1
                first_unusable = first_unusable or error.message
                continue
            if example is None:
                dropped["unknown label"] += 1
            elif fingerprint(example) in seen:
                dropped["duplicate"] += 1
            else:
                seen.add(fingerprint(example))
                rows.append(example)
        if number < 0:
            raise DataError(f"{str(path)!r} has no rows.", hint="Is it the right file?")
        unknown.update(reader.unknown)
    found = Imported(
        tuple(rows), _content(rows, task), _counted(rows, task), dropped, dict(unknown.most_common()), first_unusable
    )
    if not rows:
        raise _none_usable(found, task)
    return found


def _none_usable(found: Imported, task: TaskConfig) -> DataError:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.dropped.items())
    hint = (
        f"The task has the labels {', '.join(map(repr, list(task.labels)[:20]))}."
        if found.unknown
        else "Does the file fit the task?"
    )
    what = f"none of {sum(found.dropped.values()):,} rows can be used ({reasons}): {'; '.join(found.problems())}."
    return DataError(what, hint=hint)


def _content(rows: Iterable[Example], task: TaskConfig) -> str:
    family = create_family(task)
    return "".join(json.dumps(family.record(row), ensure_ascii=False) + "\n" for row in rows)


def _counted(rows: Iterable[Example], task: TaskConfig) -> dict[str, int]:
    family = create_family(task)
    counts = Counter(label for row in rows for label in family.labels_of(row))
    return {label: counts[label] for label in task.labels}


def _renamed(source: SourceConfig, labels: frozenset[str], task: TaskConfig, named: Mapping[str, str]) -> Iterator[RawRow]:
    """Yield the rows under our names; the known names are looked up for each row."""
    path = source.path
    for raw in _objects(source, labels):
        mapping = {**_known_names(raw.values, task), **named}
        # ZeroGen writes a text without context into C and leaves X null.
        if mapping.get("text") == "X" and raw.values.get("X") is None:
            mapping["text"] = "C"
        wanted = wanted_columns(task, mapping, "")
        wanted.refuse_double_use()
        picked = wanted.pick(raw.values, f"row {raw.line} of {str(path)!r}" if raw.line else repr(str(path)))
        yield RawRow(raw.line, {ours: raw.values[theirs] for ours, theirs in picked.items()})


def _known_names(found: Mapping[str, object], task: TaskConfig) -> dict[str, str]:
    """Map our names to the file's, for columns with a known other name."""
    wanted = wanted_columns(task, {}, "")
    have = {trimmed(str(name)).casefold() for name in found}
    missing = [name for group in wanted.needed if have.isdisjoint(group) for name in group]
    # Of several other names the first one counts.
    mapping = {name: theirs for name in missing for theirs in reversed(_NAMES.get(name, ())) if theirs in found}
    if "text1" in missing and "text2" in missing:
        if "C" in found and "X" in found:
            mapping |= {kept_field(task): "C", written_field(task): "X"}
        for first, second in _PAIRS:
            if first in found and second in found:
                return mapping | {"text1": first, "text2": second}
    return mapping


def _objects(source: SourceConfig, labels: frozenset[str]) -> Iterator[RawRow]:
    """Yield the rows of a file with all their columns."""
    path = source.path
    if path is None or check_file(path) != ".json":
        with closing(read_file(source, Columns(everything=True, labels=labels))) as rows:
            yield from rows
        return
    name = repr(str(path))
    documents = parse_documents(read_whole(path, source.encoding), name)
    # Several objects in a row: JSON Lines under another suffix, as in S3's release.
    items = find_rows(documents[0][1], name) if len(documents) == 1 else [value for _, value in documents]
    if not all(isinstance(item, dict) for item in items):
        raise DataError(f"{name} holds no list of objects: {shown(items)}.", hint="Write one JSON object per row.")
    for number, item in enumerate(items):
        if "paragraphs" in item:
            yield from (RawRow(number, row) for row in _squad(item, str(path)))
        else:
            yield RawRow(number, item)


def _squad(article: Mapping[str, object], name: str) -> Iterator[dict[str, object]]:
    """Yield the questions of an article in SQuAD's nested form."""
    try:
        for paragraph in article["paragraphs"]:  # type: ignore[attr-defined]
            for question in paragraph["qas"]:
                yield {"context": paragraph["context"], "question": question["question"], "answers": question["answers"]}
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{name!r} is not in SQuAD's form: {type(error).__name__} {error} in an article.",
            hint="An article has paragraphs, each with context and qas; a question has question and answers.",
        ) from None
