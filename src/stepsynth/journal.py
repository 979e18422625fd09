"""The journal: one SQLite file that is the only source of truth of a run.

An answer is committed as it came, before anything parses it. A stage's rows, dropped ones
with their reason included, are committed in one transaction together with the mark that the
stage is done. Everything else in a run directory is derived from this file.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stepsynth.errors import RunError
from stepsynth.failpoints import fail_point
from stepsynth.types import Candidate, Evaluation, Example, Prediction, Request, Response, Usage, canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stepsynth.types import Verdict

__all__ = ["AnswerStore", "Journal", "Row", "Totals"]

# Append only: a journal of any released version is brought up to date when it is opened.
_ANSWERS = """
CREATE TABLE answers (
    key TEXT NOT NULL, max_tokens INTEGER NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost_usd REAL,
    raw TEXT NOT NULL, request TEXT NOT NULL, teacher TEXT NOT NULL, origin TEXT NOT NULL,
    PRIMARY KEY (key, max_tokens)
) WITHOUT ROWID;
"""
_MIGRATIONS: tuple[str, ...] = (
    _ANSWERS
    + """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE gold (split TEXT NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL,
    label TEXT NOT NULL, PRIMARY KEY (split, position)) WITHOUT ROWID;
CREATE TABLE stages (name TEXT PRIMARY KEY, round INTEGER NOT NULL, kind TEXT NOT NULL, info TEXT NOT NULL,
    seconds REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE rows (stage TEXT NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, label TEXT NOT NULL, source TEXT,
    text TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (stage, position)) WITHOUT ROWID;
CREATE TABLE predictions (round INTEGER NOT NULL, split TEXT NOT NULL, position INTEGER NOT NULL, example_id TEXT NOT NULL,
    gold TEXT NOT NULL, predicted TEXT NOT NULL, probabilities TEXT NOT NULL,
    PRIMARY KEY (round, split, position)) WITHOUT ROWID;
CREATE TABLE evaluations (round INTEGER NOT NULL, split TEXT NOT NULL, evaluation TEXT NOT NULL,
    PRIMARY KEY (round, split)) WITHOUT ROWID;
""",
)
_CACHE_MIGRATIONS: tuple[str, ...] = (_ANSWERS,)


@dataclass(frozen=True, slots=True)
class Row:
    """One planned row as it ended: accepted, or dropped for a reason.

    Attributes:
        stage: stage that asked for it.
        round: round of that stage.
        kind: ``rationales``, ``seed`` or ``extrapolate``.
        position: place in the stage's plan.
        key: key of the answer it was parsed from.
        label: the asked label.
        source: id of the mistake it was written from, if any.
        text: the text after hygiene (as far as hygiene got).
        reason: empty when accepted.
    """

    stage: str
    round: int
    kind: str
    position: int
    key: str
    label: str
    source: str | None
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Totals:
    """What a run's answers took, counted once per answer.

    Attributes:
        requests: answers in the journal.
        from_cache: of these, taken from another run's answers.
        prompt_tokens: tokens read by the teacher.
        completion_tokens: tokens written by the teacher.
        cost_usd: dollars, ``None`` when any answer's price is unknown.
        bought_tokens: of both kinds of tokens, those that this run asked for itself.
    """

    requests: int
    from_cache: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    bought_tokens: int = 0


def _connect(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open a database with private permissions and bring its schema up to date."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    except (OSError, sqlite3.Error) as error:
        what = getattr(error, "strerror", None) or error
        raise RunError(f"{str(path)!r} cannot be opened: {what}.", hint="Is it a file that you may write?") from None
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        _migrate(connection, path, migrations)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise RunError(
            f"{str(path)!r} is not a readable journal: {error}.", hint="Move it away or restore it from a backup."
        ) from None
    except RunError:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    if _version(connection) < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        # Read again: another process may have opened the same new file at the same time.
        for number in range(_version(connection), len(migrations)):
            for statement in migrations[number].split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number + 1}")
        connection.execute("COMMIT")
    version = _version(connection)
    if version > len(migrations):
        raise RunError(f"{str(path)!r} was written by a newer stepsynth (schema {version}).", hint="Upgrade stepsynth.")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _select(connection: sqlite3.Connection, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    try:
        return connection.execute(query, values).fetchall()
    except sqlite3.DatabaseError as error:
        raise RunError(f"the journal cannot be read: {error}.", hint="Restore it from a backup, or start a new run.") from error


def _first(connection: sqlite3.Connection, query: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
    return next(iter(_select(connection, query, values)), None)


class AnswerStore:
    """Answers by key, in the run's journal or in a file that several runs share."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def shared(cls, path: Path) -> AnswerStore:
        """Open (or create) a file of answers that several runs may use at once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(_connect(path, _CACHE_MIGRATIONS))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def find(self, key: str, max_tokens: int) -> Response | None:
        """Return an answer that would not change under this limit, if there is one.

        An answer that ended by itself within ``max_tokens`` fits any such limit; a truncated
        one fits its own limit only.
        """
        found = _first(
            self._connection,
            "SELECT text, finish_reason, prompt_tokens, completion_tokens, cost_usd, raw FROM answers WHERE key = ?"
            " AND (max_tokens = ? OR (finish_reason != 'length' AND completion_tokens <= ?)) ORDER BY max_tokens LIMIT 1",
            (key, max_tokens, max_tokens),
        )
        if found is None:
            return None
        text, finish_reason, prompt_tokens, completion_tokens, cost, raw = found
        return Response(_decoded(text), finish_reason, Usage(prompt_tokens, completion_tokens, cost), _decoded(raw))

    def insert(self, answers: Iterable[tuple[str, Request, Response]], teacher: dict[str, object], origin: str) -> None:
        """Write answers in one transaction; a key that is there already stays as it is."""
        records = [
            (
                key,
                request.sampling.max_tokens,
                _encoded(response.text),
                response.finish_reason,
                response.usage.prompt_tokens,
                response.usage.completion_tokens,
                response.usage.cost_usd,
                _encoded(response.raw),
                _encoded(_request_json(request)),
                canonical_json(teacher),
                origin,
            )
            for key, request, response in answers
        ]
        with _transaction(self._connection, "answers"):
            self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?,?,?,?,?,?,?,?,?,?,?)", records)


class Journal:
    """A run's journal, with an optional file of answers shared between runs.

    Args:
        path: the SQLite file, created when absent.
        shared: answers of other runs; looked up on a miss, and given every new answer.
    """

    def __init__(self, path: Path, shared: AnswerStore | None = None) -> None:
        self._connection = _connect(path, _MIGRATIONS)
        self._answers = AnswerStore(self._connection)
        self._shared = shared

    def close(self) -> None:
        """Close the journal and the shared answers."""
        self._connection.close()
        if self._shared is not None:
            self._shared.close()

    # answers ---------------------------------------------------------------------------

    def find_answers(self, requests: Sequence[tuple[str, Request]], teacher: dict[str, object]) -> dict[str, Response]:
        """Return the known answers by key; those of other runs are copied into this journal."""
        found: dict[str, Response] = {}
        copied: list[tuple[str, Request, Response]] = []
        for key, request in requests:
            response = self._answers.find(key, request.sampling.max_tokens)
            if response is None and self._shared is not None:
                response = self._shared.find(key, request.sampling.max_tokens)
                if response is not None:
                    copied.append((key, request, response))
            if response is not None:
                found[key] = response
        if copied:
            self._answers.insert(copied, teacher, "cache")
        return found

    def commit_answers(self, answers: Sequence[tuple[str, Request, Response]], teacher: dict[str, object]) -> None:
        """Make answers durable, here first; only then may they be parsed."""
        self._answers.insert(answers, teacher, "asked")
        if self._shared is not None:
            self._shared.insert(answers, teacher, "asked")

    def totals(self) -> Totals:
        """Count answers, tokens and dollars."""
        ((requests, cached, prompt, completion, bought, cost, priced),) = _select(
            self._connection,
            "SELECT COUNT(*), COALESCE(SUM(origin = 'cache'), 0), COALESCE(SUM(prompt_tokens), 0),"
            " COALESCE(SUM(completion_tokens), 0),"
            " COALESCE(SUM((origin != 'cache') * (prompt_tokens + completion_tokens)), 0),"
            " SUM(cost_usd), COUNT(cost_usd) FROM answers",
        )
        known = requests == 0 or priced == requests
        return Totals(requests, cached, prompt, completion, (cost or 0.0) if known else None, bought)

    def request_of(self, key: str) -> dict[str, Any] | None:
        """Return the messages and sampling that an answer was asked with."""
        found = _first(self._connection, "SELECT request FROM answers WHERE key = ? LIMIT 1", (key,))
        return None if found is None else json.loads(_decoded(found[0]))

    # meta and gold ---------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """Return a fact written by `start`."""
        found = _first(self._connection, "SELECT value FROM meta WHERE key = ?", (key,))
        return None if found is None else str(found[0])

    def start(self, facts: dict[str, str], gold: dict[str, Sequence[Example]]) -> None:
        """Write the run's facts and its harvest and select rows, once, in one transaction."""
        with _transaction(self._connection, "start"):
            self._connection.executemany("INSERT INTO meta VALUES (?, ?)", sorted(facts.items()))
            for split, examples in gold.items():
                self._connection.executemany(
                    "INSERT INTO gold VALUES (?,?,?,?,?)",
                    [(split, i, e.id, _encoded(e.text), e.label) for i, e in enumerate(examples)],
                )

    def finish(self) -> None:
        """Note that the loop has ended; harmless when it is noted already."""
        with _transaction(self._connection, "finish"):
            self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('finished', 'yes')")

    def gold(self, split: str) -> list[Example]:
        """Return the gold rows of ``harvest`` or ``select``, in order."""
        query = "SELECT id, text, label FROM gold WHERE split = ? ORDER BY position"
        return [Example(i, _decoded(text), label) for i, text, label in _select(self._connection, query, (split,))]

    # stages and rows -------------------------------------------------------------------

    def stage_done(self, name: str) -> bool:
        """Whether a stage was finished."""
        return _first(self._connection, "SELECT 1 FROM stages WHERE name = ?", (name,)) is not None

    def finish_stage(
        self, name: str, round_number: int, kind: str, verdicts: Sequence[Verdict], info: dict[str, Any], seconds: float
    ) -> None:
        """Write a generating stage: every row with its verdict, and that the stage is done."""
        with _transaction(self._connection, f"stage {name}"):
            self._connection.executemany(
                "INSERT INTO rows VALUES (?,?,?,?,?,?,?)", [(name, i, *_row_values(v)) for i, v in enumerate(verdicts)]
            )
            self._insert_stage(name, round_number, kind, info, seconds)

    def finish_training(
        self,
        name: str,
        round_number: int,
        results: Mapping[str, tuple[Evaluation, Sequence[Prediction], Sequence[Example]]],
        info: dict[str, Any],
        seconds: float,
    ) -> None:
        """Write what a student predicted and scored on some splits, and that the stage is done."""
        with _transaction(self._connection, f"stage {name}"):
            for split, result in results.items():
                self._insert_evaluation(round_number, split, *result)
            self._insert_stage(name, round_number, "train", info, seconds)

    def finish_test(
        self,
        name: str,
        round_number: int,
        results: Mapping[int, tuple[Evaluation, Sequence[Prediction], Sequence[Example]]],
        info: dict[str, Any],
        seconds: float,
    ) -> None:
        """Write what the student of each round scored on the sealed test set; no text of it is kept."""
        with _transaction(self._connection, f"stage {name}"):
            for number, result in results.items():
                self._insert_evaluation(number, "test", *result)
            self._insert_stage(name, round_number, "test", info, seconds)

    def _insert_evaluation(
        self,
        round_number: int,
        split: str,
        evaluation: Evaluation,
        predictions: Sequence[Prediction],
        examples: Sequence[Example],
    ) -> None:
        self._connection.executemany(
            "INSERT INTO predictions VALUES (?,?,?,?,?,?,?)",
            [
                (round_number, split, i, p.example_id, e.label, p.label, json.dumps(dict(p.probabilities)))
                for i, (p, e) in enumerate(zip(predictions, examples, strict=True))
            ],
        )
        self._connection.execute(
            "INSERT INTO evaluations VALUES (?,?,?)", (round_number, split, canonical_json(asdict(evaluation)))
        )

    def _insert_stage(self, name: str, round_number: int, kind: str, info: dict[str, Any], seconds: float) -> None:
        self._connection.execute(
            "INSERT INTO stages VALUES (?,?,?,?,?)", (name, round_number, kind, canonical_json(info), seconds)
        )

    def stages(self) -> list[tuple[str, int, str, dict[str, Any], float]]:
        """Return finished stages as ``(name, round, kind, info, seconds)``, in the order of a run."""
        query = (
            "SELECT name, round, kind, info, seconds FROM stages ORDER BY round,"
            " CASE kind WHEN 'rationales' THEN 0 WHEN 'train' THEN 2 WHEN 'test' THEN 3 ELSE 1 END, name"
        )
        return [(n, r, k, json.loads(i), s) for n, r, k, i, s in _select(self._connection, query)]

    def rows(self, *, stage: str | None = None, accepted: bool | None = None) -> list[Row]:
        """Return planned rows in plan order, of one stage or of all, accepted or dropped or both."""
        query = "SELECT r.stage, s.round, s.kind, r.position, r.key, r.label, r.source, r.text, r.reason"
        query += " FROM rows r JOIN stages s ON s.name = r.stage WHERE 1"
        values: list[object] = []
        if stage is not None:
            query += " AND r.stage = ?"
            values.append(stage)
        if accepted is not None:
            query += " AND (r.reason = '') = ?"
            values.append(accepted)
        query += " ORDER BY s.round, s.kind != 'rationales', r.stage, r.position"
        found = _select(self._connection, query, values)
        return [
            Row(stage, n, kind, i, key, label, source, _decoded(text), why)
            for stage, n, kind, i, key, label, source, text, why in found
        ]

    def dataset(self, upto_round: int | None = None) -> list[Row]:
        """Return the accepted training rows (no rationales) of all rounds up to one, in plan order."""
        rows = (row for row in self.rows(accepted=True) if row.kind != "rationales")
        return [row for row in rows if upto_round is None or row.round <= upto_round]

    # evaluations -----------------------------------------------------------------------

    def evaluation(self, round_number: int, split: str) -> Evaluation | None:
        """Return what the student of a round scored on a split."""
        query = "SELECT evaluation FROM evaluations WHERE round = ? AND split = ?"
        found = _first(self._connection, query, (round_number, split))
        if found is None:
            return None
        values = json.loads(found[0])
        return Evaluation(**{**values, "ci95": tuple(values["ci95"])})

    def predictions(self, round_number: int, split: str) -> list[tuple[Prediction, str]]:
        """Return ``(prediction, gold label)`` of a round's student on a split, in order."""
        query = (
            "SELECT example_id, predicted, probabilities, gold FROM predictions WHERE round = ? AND split = ? ORDER BY position"
        )
        found = _select(self._connection, query, (round_number, split))
        return [(Prediction(i, label, json.loads(p)), gold) for i, label, p, gold in found]

    def rounds(self) -> list[int]:
        """Return the rounds whose student was evaluated, in order."""
        return [r for (r,) in _select(self._connection, "SELECT DISTINCT round FROM evaluations ORDER BY round")]


@contextmanager
def _transaction(connection: sqlite3.Connection, name: str) -> Iterator[None]:
    """Commit all or nothing, with a fail point on either side of the commit."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            fail_point(f"before commit: {name}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except sqlite3.DatabaseError as error:
        if type(error) not in (sqlite3.DatabaseError, sqlite3.OperationalError):
            raise  # a constraint or a wrong statement is a defect
        hint = "Another process holds it." if "locked" in str(error) else "Is the disk full?"
        raise RunError(f"the journal could not be written: {error}.", hint=f"{hint} Then run the same command again.") from error
    fail_point(f"after commit: {name}")


def _row_values(verdict: Verdict) -> tuple[str, str, str | None, object, str]:
    candidate: Candidate = verdict.candidate
    request = candidate.request
    return (candidate.key, request.label, request.source, _encoded(candidate.text), verdict.reason)


def _request_json(request: Request) -> str:
    return canonical_json(
        {
            "messages": [[m.role, m.content] for m in request.messages],
            "sampling": asdict(request.sampling),
            "replicate": request.replicate,
        }
    )


def _encoded(text: str) -> str | bytes:
    """Keep lone surrogates, which SQLite's UTF-8 text cannot hold, as bytes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _decoded(value: str | bytes) -> str:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value
