"""Answers by key: in a run's journal, or in a file that several runs share."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from stepsynth.journal.database import connect, decoded, encoded, first, transaction
from stepsynth.types import Request, Response, Usage, canonical_json

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["ANSWERS_TABLE", "AnswerStore"]

ANSWERS_TABLE = """
CREATE TABLE answers (
    key TEXT NOT NULL, max_tokens INTEGER NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost_usd REAL,
    raw TEXT NOT NULL, request TEXT NOT NULL, teacher TEXT NOT NULL, origin TEXT NOT NULL,
    PRIMARY KEY (key, max_tokens)
) WITHOUT ROWID;
"""
_MIGRATIONS: tuple[str, ...] = (ANSWERS_TABLE,)


class AnswerStore:
    """Answers by key, in the run's journal or in a file that several runs share."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def shared(cls, path: Path) -> AnswerStore:
        """Open (or create) a file of answers that several runs may use at once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(connect(path, _MIGRATIONS))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def find(self, key: str, max_tokens: int) -> Response | None:
        """Return an answer that would not change under this limit, if there is one.

        An answer that ended by itself within ``max_tokens`` fits any such limit; a truncated
        one fits its own limit only.
        """
        found = first(
            self._connection,
            "SELECT text, finish_reason, prompt_tokens, completion_tokens, cost_usd, raw FROM answers WHERE key = ?"
            " AND (max_tokens = ? OR (finish_reason != 'length' AND completion_tokens <= ?)) ORDER BY max_tokens LIMIT 1",
            (key, max_tokens, max_tokens),
        )
        if found is None:
            return None
        text, finish_reason, prompt_tokens, completion_tokens, cost, raw = found
        return Response(decoded(text), finish_reason, Usage(prompt_tokens, completion_tokens, cost), decoded(raw))

    def insert(self, answers: Iterable[tuple[str, Request, Response]], teacher: dict[str, object], origin: str) -> None:
        """Write answers in one transaction; a key that is there already stays as it is."""
        records = [
            (
                key,
                request.sampling.max_tokens,
                encoded(response.text),
                response.finish_reason,
                response.usage.prompt_tokens,
                response.usage.completion_tokens,
                response.usage.cost_usd,
                encoded(response.raw),
                encoded(_request_json(request)),
                canonical_json(teacher),
                origin,
            )
            for key, request, response in answers
        ]
        with transaction(self._connection, "answers"):
            self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?,?,?,?,?,?,?,?,?,?,?)", records)


def _request_json(request: Request) -> str:
    return canonical_json(
        {
            "messages": [[m.role, m.content] for m in request.messages],
            "sampling": asdict(request.sampling),
            "replicate": request.replicate,
        }
    )
