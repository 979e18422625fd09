"""The journal's records of batches at a provider, written before they are submitted.

A job begins as an intent: our own name for it and its keys. So after a kill during submission, the next
process can look for the job at the provider instead of paying for another one. Until the job is closed,
its worst-case cost stays reserved, across processes::

    intend ──> submitted (provider's id known) ──> close: ended, failed or lost
       └──────────── failed or lost ───────────────^
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from stepsynth.journal.database import select, transaction
from stepsynth.journal.ledger import Cost

if TYPE_CHECKING:
    import sqlite3

__all__ = ["JOBS_TABLE", "Job", "JobStore"]

# A job's keys are only ever read together, so they are one value.
JOBS_TABLE = """
CREATE TABLE jobs (
    name TEXT PRIMARY KEY, job_id TEXT, keys TEXT NOT NULL, created REAL NOT NULL,
    worst_tokens INTEGER NOT NULL, worst_usd REAL NOT NULL, closed TEXT NOT NULL
) WITHOUT ROWID;
"""
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Job:
    """A batch whose answers have not been fetched yet.

    Attributes:
        name: our own name for it, drawn before it was submitted.
        keys: keys of its requests, in plan order.
        created: when it was recorded, in seconds since 1970.
        worst: its worst case: its requests, and their tokens and dollars if every answer has the
            maximum length.
        id: the provider's id; ``None`` while it is unknown whether it arrived.
    """

    name: str
    keys: tuple[str, ...]
    created: float
    worst: Cost = field(default_factory=Cost)
    id: str | None = None


class JobStore:
    """A run's batches.

    Args:
        connection: the journal's.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def open(self) -> list[Job]:
        """Return the jobs that are not closed, oldest first."""
        query = "SELECT name, keys, created, worst_tokens, worst_usd, job_id FROM jobs WHERE closed = '' ORDER BY created, name"
        found = []
        for name, listed, created, tokens, usd, job_id in select(self._connection, query):
            keys = tuple(json.loads(listed))
            found.append(Job(name, keys, created, Cost(len(keys), tokens, usd), job_id))
        return found

    def unanswered(self, job: Job) -> set[str]:
        """Return a job's keys without an answer in this journal."""
        answered: set[str] = set()
        for start in range(0, len(job.keys), _AT_ONCE):
            some = job.keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT key FROM answers WHERE key IN ({marks})"  # noqa: S608 - question marks only
            answered.update(key for (key,) in select(self._connection, query, some))
        return set(job.keys) - answered

    def intend(self, job: Job) -> None:
        """Record a job that is about to be submitted."""
        with transaction(self._connection, "batch intent"):
            values = (job.name, None, json.dumps(job.keys), job.created, job.worst.tokens, job.worst.usd, "")
            self._connection.execute("INSERT INTO jobs VALUES (?,?,?,?,?,?,?)", values)

    def submitted(self, job: Job, job_id: str) -> Job:
        """Record the provider's id of a job; return the job with it."""
        with transaction(self._connection, "batch id"):
            self._connection.execute("UPDATE jobs SET job_id = ? WHERE name = ?", (job_id, job.name))
        return replace(job, id=job_id)

    def close(self, job: Job, how: Literal["ended", "failed", "lost"]) -> None:
        """Record that a job will have no further answers.

        Args:
            job: the job.
            how: ``ended`` (its answers are in the journal), ``failed`` (the provider refused it, or
                it was not submitted) or ``lost`` (it never arrived, or its results are gone).
        """
        with transaction(self._connection, "batch end"):
            self._connection.execute("UPDATE jobs SET closed = ? WHERE name = ?", (how, job.name))
