"""The rows of an export as tables: written rows, gold rows as rows or as references, and dropped rows on request."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from stepsynth.data import SealedTest
from stepsynth.errors import RunError, UserError
from stepsynth.journal.queries import count_rows, each_row, each_training_row
from stepsynth.tasks import create_family, knows_family
from stepsynth.types import StageKind, canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal, Row
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = ["Column", "Content", "Group", "Table", "Tables", "collect_tables"]

Kind = Literal["text", "number", "label", "labels", "answers"]
Group = Literal["default", "references", "dropped"]
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Content:
    """What a data export contains besides the accepted rows.

    Attributes:
        lineage: columns that say where a row comes from.
        validation_texts: validation rows with their texts, not as references.
        test_texts: the same for test rows.
        dropped: a table of the rows that were dropped, with the reasons.
    """

    lineage: bool = True
    validation_texts: bool = False
    test_texts: bool = False
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, and the kind of its values (``label`` is a name of the task's labels, ``labels`` a list of them)."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    """One split.

    Attributes:
        name: the split: ``train``, ``validation``, ``test`` or ``dropped``.
        group: tables of one group have the same columns: a configuration on the hub.
        columns: in order.
        rows: returns the rows, a dict each; may be called again.
    """

    name: str
    group: Group
    columns: tuple[Column, ...]
    rows: Callable[[], Iterator[dict[str, Any]]]
    count: int


@dataclass(frozen=True)
class Tables:
    """All tables of an export.

    Attributes:
        tables: in the order of files; the first is ``train``.
        labels: the task's labels.
        notes: what a reader must know about them, a sentence each.
    """

    tables: tuple[Table, ...]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def of_group(self, group: str) -> list[Table]:
        """Return the tables of a group."""
        return [table for table in self.tables if table.group == group]

    def digest(self, group: str) -> str:
        """Return the sha256 of the rows of a group."""
        sha256 = hashlib.sha256()
        for table in self.of_group(group):
            for row in table.rows():
                sha256.update(f"{table.name} {canonical_json(row)}\n".encode("utf-8", "surrogatepass"))
        return sha256.hexdigest()


def collect_tables(journal: Journal, config: RunConfig, content: Content) -> Tables:
    """Return the tables of a run; rows are read from the journal when a format asks for them.

    The sealed test set is read only if the run has opened it.

    Raises:
        RunError: there are no written rows, or the class of the task's family is missing.
        UserError: test rows are wanted with their texts, and their file is missing or has changed.
    """
    if not knows_family(config.task):
        raise RunError(
            f"rows cannot be exported without the class of the task family {config.task.family!r}, which knows their columns.",
            hint="Import the class, or install its package, and try again.",
        )
    family = create_family(config.task)
    counts = [count for count in count_rows(journal) if count.kind != StageKind.RATIONALES]
    accepted = sum(count.rows for count in counts if count.in_dataset)
    if not accepted:
        raise RunError(
            f"the run has no written rows to export (method {config.method.name!r}).",
            hint="Export its student alone, or name a run of a method that writes rows.",
        )
    columns = _row_columns(family, next(each_training_row(journal)).example)
    maker = _Maker(journal, family, columns, content)
    tables = [maker.written("train", accepted)]
    gold = {half: journal.gold(half) for half in ("harvest", "select")}
    validation = [(row, half) for half, rows in gold.items() for row in rows]
    tables.append(maker.gold("validation", validation, with_texts=content.validation_texts))
    test, notes = _test_rows(journal, config, needed=content.test_texts)
    if test is not None:
        tables.append(maker.gold("test", [(row, "") for row in test], with_texts=content.test_texts))
    if content.dropped:
        tables.append(maker.written("dropped", sum(count.rows for count in counts if count.reason)))
    tables = [table for table in tables if table.count]
    return Tables(tuple(sorted(tables, key=lambda table: table.group != "default")), tuple(config.task.labels), notes)


def _test_rows(journal: Journal, config: RunConfig, *, needed: bool) -> tuple[list[Example] | None, tuple[str, ...]]:
    """Return the test rows, ``None`` if there are none to show, and why."""
    if config.data.test is None:
        return None, ("The run had no test set.",)
    if not any(kind == StageKind.TEST for _, _, kind, _, _ in journal.stages()):
        said = "The run has not opened its test set yet, so test rows are left out."
        if needed:
            raise RunError("the run has not opened its test set yet.", hint="Finish the run, or export without the test texts.")
        return None, (said,)
    try:
        return SealedTest(config).open(journal.meta("test_sha256")), ()
    except UserError:
        if needed:
            raise
        return None, ("The file of the test set is missing or has changed, so references to test rows are left out.",)


class _Maker:
    """Makes the tables of one run."""

    def __init__(self, journal: Journal, family: TaskFamily, columns: tuple[Column, ...], content: Content) -> None:
        self.journal, self.family, self.columns, self.content = journal, family, columns, content

    def written(self, name: Literal["train", "dropped"], count: int) -> Table:
        """Return the accepted or the dropped rows."""
        columns = (*self.columns, *_LINEAGE) if self.content.lineage else self.columns
        if name == "train":
            return Table(name, "default", columns, lambda: map(self._written, each_training_row(self.journal)), count)
        dropped = lambda: (  # noqa: E731
            {**self._written(row), "reason": row.reason}
            for row in each_row(self.journal, accepted=False)
            if row.kind != StageKind.RATIONALES
        )
        return Table(name, "dropped", (*columns, Column("reason", "text")), dropped, count)

    def gold(self, name: str, rows: Sequence[tuple[Example, str]], *, with_texts: bool) -> Table:
        """Return gold rows, with their half: as rows of the same columns as written ones, or as references."""
        if with_texts:
            columns = (*self.columns, *_LINEAGE) if self.content.lineage else self.columns
            return Table(name, "default", columns, lambda: (self._gold(row, name) for row, _ in rows), len(rows))
        answer = [column for column in self.columns if column.kind in ("label", "labels")]
        digests = [Column(f"{column}_sha256", "text") for column in self.family.text_columns]
        head = (Column("id", "text"), Column("row", "number"), Column("half", "text"))
        columns = (*head, *answer, *digests)
        return Table(name, "references", columns, lambda: (self._reference(row, half) for row, half in rows), len(rows))

    def _written(self, row: Row) -> dict[str, Any]:
        found = _values(self.family.record(row.example), self.columns)
        if not self.content.lineage:
            return found
        verdict = "dropped" if row.reason else "passed"
        origin = {"round": row.round, "kind": row.kind, "source": row.source or "", "stage": row.stage}
        return {**found, **origin, "id": f"{row.stage}/{row.position}", "request": row.key, "verdict": verdict}

    def _gold(self, row: Example, split: str) -> dict[str, Any]:
        found = _values(self.family.record(row), self.columns)
        if not self.content.lineage:
            return found
        return {
            **found,
            "round": -1,
            "kind": "gold",
            "source": row.id,
            "stage": split,
            "id": row.id,
            "request": "",
            "verdict": "",
        }

    def _reference(self, row: Example, half: str) -> dict[str, Any]:
        record = self.family.record(row)
        found = {"id": row.id, "row": int(row.id.rpartition("-")[2]), "half": half}
        found |= {column.name: record[column.name] for column in self.columns if column.kind in ("label", "labels")}
        texts = {self.family.written: row.text, self.family.kept: row.context}
        return {**found, **{f"{column}_sha256": _sha256(texts[column]) for column in self.family.text_columns}}


_LINEAGE = (
    Column("round", "number"),
    *(Column(name, "text") for name in ("kind", "source", "stage", "id", "request", "verdict")),
)


def _row_columns(family: TaskFamily, example: Example) -> tuple[Column, ...]:
    """Return the columns of a family's rows, by one of them."""
    return tuple(Column(name, _kind(family, name, value)) for name, value in family.record(example).items())


def _kind(family: TaskFamily, name: str, value: object) -> Kind:
    if name in family.answer_columns:
        if family.one_label:
            return "label"
        if family.several_labels and isinstance(value, list):
            return "labels"
        if family.spans and isinstance(value, dict):
            return "answers"
    return "number" if isinstance(value, int) and not isinstance(value, bool) else "text"


def _values(record: dict[str, object], columns: Iterable[Column]) -> dict[str, Any]:
    """Return a row that every format can write: texts are Unicode, and whatever has no column type is JSON."""
    return {column.name: _value(record.get(column.name), column.kind) for column in columns}


def _value(value: Any, kind: Kind) -> Any:
    if kind == "text":
        return _unicode(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    if kind == "answers":
        return {"text": [_unicode(text) for text in value["text"]], "answer_start": list(value["answer_start"])}
    return value


def _unicode(text: str) -> str:
    """Replace half surrogate pairs, which no file in UTF-8 can have; positions in the text stay the same."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
