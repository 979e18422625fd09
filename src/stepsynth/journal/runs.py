"""A run's journal: the only source of truth of a run, in one SQLite file.

An answer is committed as received, before anything parses it, together with the ledger. A stage's rows,
including dropped ones with their reasons, are committed in one transaction with the mark that the stage
is done. Everything else in a run directory is derived from this file.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from stepsynth.errors import RunError
from stepsynth.journal.answers import ANSWERS_TABLE, AnswerStore, answer_records
from stepsynth.journal.database import connect, decoded, each, encoded, first, reading_uri, select, transaction
from stepsynth.journal.jobs import JOBS_TABLE, JobStore
from stepsynth.journal.ledger import LEDGER_TABLE, Ledger
from stepsynth.journal.records import SELECT_ROWS, Row, Spent, Totals
from stepsynth.types import Evaluation, Example, Graded, Prediction, Request, Response, Span, StageKind, canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stepsynth.types import Verdict

__all__ = ["LEARNING", "Journal", "Row", "Spent", "Totals", "extent", "holds_nothing"]

# Kinds of stages in which students learn, are judged or tested; all others ask the teacher.
LEARNING = (
    StageKind.FOLD,
    StageKind.CROSSFIT,
    StageKind.CHOICE,
    StageKind.TRAIN,
    StageKind.TEST,
    StageKind.READING,
    StageKind.UNLABELLED,
)
_ASKING = 1
# Order of the stages in a round; all kinds that write rows have the same place.
_PLACES = {StageKind.RATIONALES: 0, **{kind: place for place, kind in enumerate(LEARNING, _ASKING + 1)}}
_WHEN = " ".join(f"WHEN '{kind}' THEN {place}" for kind, place in _PLACES.items())
_BY_PLACE = f"round, CASE kind {_WHEN} ELSE {_ASKING} END, name"

# Append only: a journal of any released version is brought up to date when it is opened.
_MIGRATIONS: tuple[str, ...] = (
    ANSWERS_TABLE
    + """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE gold (split TEXT NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL,
    label TEXT NOT NULL, context TEXT NOT NULL, answers TEXT NOT NULL, PRIMARY KEY (split, position)) WITHOUT ROWID;
CREATE TABLE stages (name TEXT PRIMARY KEY, round INTEGER NOT NULL, kind TEXT NOT NULL, info TEXT NOT NULL,
    seconds REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE rows (stage TEXT NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, label TEXT NOT NULL, source TEXT,
    text TEXT NOT NULL, context TEXT NOT NULL, answer TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (stage, position)) WITHOUT ROWID;
CREATE TABLE predictions (round INTEGER NOT NULL, split TEXT NOT NULL, position INTEGER NOT NULL, example_id TEXT NOT NULL,
    gold TEXT NOT NULL, predicted TEXT NOT NULL, probabilities TEXT NOT NULL, start INTEGER NOT NULL, score REAL NOT NULL,
    PRIMARY KEY (round, split, position)) WITHOUT ROWID;
CREATE TABLE evaluations (round INTEGER NOT NULL, split TEXT NOT NULL, evaluation TEXT NOT NULL,
    PRIMARY KEY (round, split)) WITHOUT ROWID;
""",
    LEDGER_TABLE,
    JOBS_TABLE,
)


class Journal:
    """A run's journal, with an optional file of answers shared between runs.

    Args:
        path: the SQLite file, created if missing.
        shared: answers of other runs; looked up on a miss, and given every new answer.

    Attributes:
        ledger: everything sent and bought; senders update it, every commit of answers writes it.
        jobs: batches at a provider.
    """

    def __init__(self, path: Path, shared: AnswerStore | None = None) -> None:
        self._connection = connect(path, _MIGRATIONS)
        self._answers = AnswerStore(self._connection)
        self._shared = shared
        self.ledger = Ledger.read(self._connection)
        self.jobs = JobStore(self._connection)

    def select(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query on the journal's tables, for this package's own readers.

        Raises:
            RunError: the file cannot be read.
        """
        return select(self._connection, query, values)

    def each(self, query: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield a query's rows, only a few in memory at a time; do not write before the last one; see `select`."""
        return each(self._connection, query, values)

    def close(self) -> None:
        """Close the journal and the shared answers."""
        self._connection.close()
        if self._shared is not None:
            self._shared.close()

    # answers ---------------------------------------------------------------------------

    @property
    def set_aside(self) -> int:
        """How many stored answers were found unfit since the journal was opened."""
        return len(self._answers.set_aside | (self._shared.set_aside if self._shared is not None else set()))

    def find_answers(
        self,
        requests: Sequence[tuple[str, Request]],
        teacher: dict[str, object],
        *,
        unfit: Callable[[Response], bool] | None = None,
    ) -> dict[str, Response]:
        """Return the known answers by key; those of other runs are copied into this journal.

        Args:
            requests: key and request.
            teacher: see `TeacherConfig.identity`.
            unfit: whether a stored answer is in fact a failure; it counts as unknown, and a new one replaces it.
        """
        found = self._answers.find_many([(key, request.sampling.max_tokens) for key, request in requests], unfit)
        if self._shared is None or len(found) == len(requests):
            return found
        asked = [(key, request) for key, request in requests if key not in found]
        shared = self._shared.find_many([(key, request.sampling.max_tokens) for key, request in asked], unfit)
        if shared:
            self._answers.insert([(key, request, shared[key]) for key, request in asked if key in shared], teacher, "cache")
        return found | shared

    def commit_answers(
        self,
        answers: Sequence[tuple[str, Request, Response]],
        teacher: dict[str, object],
        *,
        ledger: Ledger | None = None,
        also: Callable[[], None] | None = None,
    ) -> None:
        """Make answers and the ledger durable, in the journal first; only then may answers be parsed.

        Args:
            answers: key, request and answer.
            teacher: see `TeacherConfig.identity`.
            ledger: a copy of the journal's, when called from another thread.
            also: writes more within the same transaction.
        """
        records = answer_records(answers, teacher, "asked")
        with transaction(self._connection, "answers"):
            self._answers.insert_records(records)
            (ledger or self.ledger).write(self._connection)
            if also is not None:
                also()
        if self._shared is not None:
            self._shared.insert_records(records)

    def commit_ledger(self, ledger: Ledger | None = None) -> None:
        """Make the ledger durable when no answers are pending: before anything is sent, and at the end."""
        with transaction(self._connection, "ledger"):
            (ledger or self.ledger).write(self._connection)

    def totals(self) -> Totals:
        """Count the answers, tokens and dollars in the file."""
        ledger = Ledger.read(self._connection)
        ((requests, cached, prompt, completion, bought, cost, priced),) = select(
            self._connection,
            "SELECT COUNT(*), COALESCE(SUM(origin = 'cache'), 0), COALESCE(SUM(prompt_tokens), 0),"
            " COALESCE(SUM(completion_tokens), 0),"
            " COALESCE(SUM((origin != 'cache') * (prompt_tokens + completion_tokens)), 0),"
            " SUM(cost_usd), COUNT(cost_usd) FROM answers",
        )
        known = requests == 0 or priced == requests
        return Totals(
            *(requests, cached, prompt, completion, (cost or 0.0) if known else None, bought),
            attempts=ledger.attempts + ledger.open.sends,
            failures=ledger.failures,
            maybe_billed_twice=ledger.billed_twice,
            unsettled=ledger.lost.sends + ledger.open.sends,
        )

    def spent(self, stage: str) -> Spent:
        """Return the cost of a finished stage's answers, each counted once, second readings included."""
        query = (
            "SELECT COUNT(*), COALESCE(SUM(tokens), 0), SUM(cost), COUNT(cost) FROM (SELECT a.key,"
            " MAX(a.prompt_tokens + a.completion_tokens) AS tokens, MAX(a.cost_usd) AS cost"
            " FROM answers a WHERE a.key IN (SELECT key FROM rows WHERE stage = ?) GROUP BY a.key)"
        )
        ((requests, tokens, cost, priced),) = select(self._connection, query, (stage,))
        usd = (cost or 0.0) if priced == requests else None
        found = first(self._connection, "SELECT info FROM stages WHERE name = ?", (stage,))
        # Answers that judged the rows, instead of giving them.
        read = json.loads(found[0]).get("second_reading", {}) if found else {}
        if read:
            usd = None if usd is None or read["usd"] is None else usd + read["usd"]
        return Spent(requests + read.get("requests", 0), tokens + read.get("tokens", 0), usd)

    # meta and gold ---------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """Return a fact written by `start` or `finish`, or ``None``."""
        found = first(self._connection, "SELECT value FROM meta WHERE key = ?", (key,))
        return None if found is None else str(found[0])

    def start(self, facts: dict[str, str], gold: dict[str, Sequence[Example]]) -> None:
        """Write the run's facts and its harvest and select rows, once, in one transaction."""
        with transaction(self._connection, "start"):
            self._connection.executemany("INSERT INTO meta VALUES (?, ?)", sorted(facts.items()))
            for split, examples in gold.items():
                self._connection.executemany(
                    "INSERT INTO gold VALUES (?,?,?,?,?,?,?)",
                    [
                        (split, i, e.id, encoded(e.text), e.label, encoded(e.context), _spans(e.answers))
                        for i, e in enumerate(examples)
                    ],
                )

    def finish(self, facts: Mapping[str, str] | None = None) -> None:
        """Record that the loop has ended; may be called again.

        Args:
            facts: further facts about the run, kept beside those of `start`; what is recorded already stays.
        """
        with transaction(self._connection, "finish"):
            self._connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", sorted((facts or {}).items()))
            self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('finished', 'yes')")

    def gold(self, split: str) -> list[Example]:
        """Return the gold rows of ``harvest`` or ``select``, in order."""
        query = "SELECT id, text, label, context, answers FROM gold WHERE split = ? ORDER BY position"
        return [
            Example(i, decoded(text), label, decoded(context), tuple(Span(*span) for span in json.loads(decoded(answers))))
            for i, text, label, context, answers in select(self._connection, query, (split,))
        ]

    # stages and rows -------------------------------------------------------------------

    def stage_done(self, name: str) -> bool:
        """Whether a stage is finished."""
        return first(self._connection, "SELECT 1 FROM stages WHERE name = ?", (name,)) is not None

    def finish_stage(
        self, name: str, round_number: int, kind: str, verdicts: Sequence[Verdict], info: dict[str, Any], seconds: float
    ) -> None:
        """Write a generating stage: every row with its verdict, and that the stage is done."""
        with transaction(self._connection, f"stage {name}"):
            self._connection.executemany(
                "INSERT INTO rows VALUES (?,?,?,?,?,?,?,?,?)", [(name, i, *_row_values(v)) for i, v in enumerate(verdicts)]
            )
            self._insert_stage(name, round_number, kind, info, seconds)

    def finish_training(
        self,
        name: str,
        round_number: int,
        results: Mapping[str, tuple[Evaluation, Sequence[Graded]]],
        info: dict[str, Any],
        seconds: float,
        kind: StageKind = StageKind.TRAIN,
    ) -> None:
        """Write a student's predictions and scores on some splits, and that the stage is done.

        Args:
            name: the stage's name.
            round_number: the student's round.
            results: split -> score and predictions; the latter are empty if `finish_fold` wrote them.
            info: further facts about the stage.
            seconds: how long it took.
            kind: ``train`` if a student is kept, ``crossfit`` or ``choice`` if not.
        """
        with transaction(self._connection, f"stage {name}"):
            for split, result in results.items():
                self._insert_evaluation(round_number, split, *result)
            self._insert_stage(name, round_number, kind, info, seconds)

    def finish_fold(
        self, name: str, round_number: int, split: str, graded: Mapping[int, Graded], info: dict[str, Any], seconds: float
    ) -> None:
        """Write a temporary student's predictions for some rows of a split, by their position in it."""
        with transaction(self._connection, f"stage {name}"):
            self._insert_predictions(round_number, split, graded)
            self._insert_stage(name, round_number, StageKind.FOLD, info, seconds)

    def finish_test(
        self,
        name: str,
        round_number: int,
        results: Mapping[int, tuple[Evaluation, Sequence[Graded]]],
        info: dict[str, Any],
        seconds: float,
    ) -> None:
        """Write the scores of each round's student on the sealed test set; of its rows only ids and right answers are stored."""
        with transaction(self._connection, f"stage {name}"):
            for number, result in results.items():
                self._insert_evaluation(number, "test", *result)
            self._insert_stage(name, round_number, StageKind.TEST, info, seconds)

    def _insert_evaluation(self, round_number: int, split: str, evaluation: Evaluation, graded: Sequence[Graded]) -> None:
        self._insert_predictions(round_number, split, dict(enumerate(graded)))
        self._connection.execute(
            "INSERT INTO evaluations VALUES (?,?,?)", (round_number, split, canonical_json(asdict(evaluation)))
        )

    def _insert_predictions(self, round_number: int, split: str, graded: Mapping[int, Graded]) -> None:
        self._connection.executemany(
            "INSERT INTO predictions VALUES (?,?,?,?,?,?,?,?,?)",
            [
                (
                    *(round_number, split, i, g.prediction.example_id, encoded(g.gold), encoded(g.prediction.label)),
                    *(_probabilities(g.prediction), g.prediction.start, g.score),
                )
                for i, g in graded.items()
            ],
        )

    def _insert_stage(self, name: str, round_number: int, kind: str, info: dict[str, Any], seconds: float) -> None:
        self._connection.execute(
            "INSERT INTO stages VALUES (?,?,?,?,?)", (name, round_number, kind, canonical_json(info), seconds)
        )

    def stages(self) -> list[tuple[str, int, str, dict[str, Any], float]]:
        """Return finished stages as ``(name, round, kind, info, seconds)``, in the order of a run."""
        query = "SELECT name, round, kind, info, seconds FROM stages"
        query += f" ORDER BY {_BY_PLACE}"
        return [(n, r, k, json.loads(i), s) for n, r, k, i, s in select(self._connection, query)]

    def rows(self, *, stage: str | None = None, accepted: bool | None = None) -> list[Row]:
        """Return planned rows in plan order, of one stage or all, accepted, dropped or both."""
        query = f"{SELECT_ROWS} WHERE 1"
        values: list[object] = []
        if stage is not None:
            query += " AND r.stage = ?"
            values.append(stage)
        if accepted is not None:
            query += " AND (r.reason = '') = ?"
            values.append(accepted)
        query += " ORDER BY s.round, s.kind != ?, r.stage, r.position"
        return [Row.read(*found) for found in self.select(query, [*values, StageKind.RATIONALES])]

    def dataset(self, upto_round: int | None = None) -> list[Row]:
        """Return the accepted training rows (no rationales) of all rounds up to one, in plan order."""
        rows = (row for row in self.rows(accepted=True) if row.kind != StageKind.RATIONALES)
        return [row for row in rows if upto_round is None or row.round <= upto_round]

    # evaluations -----------------------------------------------------------------------

    def evaluation(self, round_number: int, split: str) -> Evaluation | None:
        """Return the score of a round's student on a split."""
        query = "SELECT evaluation FROM evaluations WHERE round = ? AND split = ?"
        found = first(self._connection, query, (round_number, split))
        if found is None:
            return None
        values = json.loads(found[0])
        return Evaluation(**{**values, "ci95": tuple(values["ci95"])})

    def graded(self, round_number: int, split: str) -> list[Graded]:
        """Return the predictions of a round's student on a split, with gold and score, in order."""
        query = (
            "SELECT example_id, predicted, probabilities, start, gold, score FROM predictions"
            " WHERE round = ? AND split = ? ORDER BY position"
        )
        return [
            Graded(Prediction(i, decoded(label), json.loads(decoded(p)), start), decoded(gold), score)
            for i, label, p, start, gold, score in select(self._connection, query, (round_number, split))
        ]

    def rounds(self, kind: str = StageKind.TRAIN) -> list[int]:
        """Return the rounds with a trained student, in order; with ``crossfit``, those that were judged by cross-fitting."""
        return [r for (r,) in select(self._connection, "SELECT round FROM stages WHERE kind = ? ORDER BY round", (kind,))]


def _row_values(verdict: Verdict) -> tuple[object, ...]:
    row = verdict.candidate.row
    answer = _spans([row.answer] if row.answer else [])
    return (row.key, row.label, row.source, encoded(row.text), encoded(row.context), answer, verdict.reason)


def _spans(spans: Sequence[Span]) -> str | bytes:
    if not spans:
        return "[]"
    return encoded(canonical_json([[span.text, span.start] for span in spans]))


def _probabilities(prediction: Prediction) -> str:
    return json.dumps(dict(prediction.probabilities))


def holds_nothing(path: Path) -> bool:
    """Whether a run's journal has no answers, stages or batches, and nothing was sent that may have been billed.

    Args:
        path: the file; ``True`` if it does not exist, ``False`` if it cannot be read.
    """
    if not path.exists():
        return True
    try:
        # Read-only connections leave files behind.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            ((found,),) = connection.execute(
                "SELECT EXISTS (SELECT 1 FROM answers) OR EXISTS (SELECT 1 FROM stages) OR EXISTS (SELECT 1 FROM jobs)"
            )
            return not found and Ledger.read(connection).paid_nothing
    except (sqlite3.Error, RunError):
        return False


def extent(path: Path) -> Literal["nothing", "start", "stages"]:
    """Return how much a run's journal has: no run at all, what a run writes when it starts, or stages that ended.

    Args:
        path: the file; ``nothing`` if it is missing or empty, ``stages`` if it cannot be read.
    """
    if not path.exists():
        return "nothing"
    try:
        with closing(sqlite3.connect(reading_uri(path, mode="rw"), uri=True)) as connection:
            ((tables,),) = connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name IN ('meta', 'stages')")
            if not tables:
                return "nothing"
            ((start, stages),) = connection.execute("SELECT EXISTS (SELECT 1 FROM meta), EXISTS (SELECT 1 FROM stages)")
            return "stages" if stages else "start" if start else "nothing"
    except sqlite3.Error:
        return "stages"
