"""Batches at a provider, as the journal knows them: written down before they are sent.

A job begins as an intent, a name of our own and the keys in it, so that a client that was killed
while it handed the job in can look for it at the provider instead of paying for another one. Until
it is closed, what it may cost at worst stays reserved, however many processes come and go.
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
    """A batch whose answers are not fetched yet.

    Attributes:
        name: our own name of it, drawn before it was sent.
        keys: of the requests in it, in plan order.
        created: when it was written down, in seconds since 1970.
        worst: what it takes at most: its requests, and their tokens and dollars if every answer is as
            long as it may be.
        id: the provider's name of it; ``None`` while we do not know whether it arrived.
    """

    name: str
    keys: tuple[str, ...]
    created: float
    worst: Cost = field(default_factory=Cost)
    id: str | None = None


class JobStore:
    """A run's batches.

    Args:
        connection: of the run's journal.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def open(self) -> list[Job]:
        """Return the jobs that were intended or handed in and are not closed, oldest first."""
        query = "SELECT name, keys, created, worst_tokens, worst_usd, job_id FROM jobs WHERE closed = '' ORDER BY created, name"
        found = []
        for name, listed, created, tokens, usd, job_id in select(self._connection, query):
            keys = tuple(json.loads(listed))
            found.append(Job(name, keys, created, Cost(len(keys), tokens, usd), job_id))
        return found

    def unanswered(self, job: Job) -> set[str]:
        """Return the keys of a job that have no answer in this journal."""
        answered: set[str] = set()
        for start in range(0, len(job.keys), _AT_ONCE):
            some = job.keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT key FROM answers WHERE key IN ({marks})"  # noqa: S608 - question marks only
            answered.update(key for (key,) in select(self._connection, query, some))
        return set(job.keys) - answered

    def intend(self, job: Job) -> None:
        """Write down a job that is about to be sent."""
        with transaction(self._connection, "batch intent"):
            values = (job.name, None, json.dumps(job.keys), job.created, job.worst.tokens, job.worst.usd, "")
            self._connection.execute("INSERT INTO jobs VALUES (?,?,?,?,?,?,?)", values)

    def submitted(self, job: Job, job_id: str) -> Job:
        """Write down the provider's id of a job; return the job with it."""
        with transaction(self._connection, "batch id"):
            self._connection.execute("UPDATE jobs SET job_id = ? WHERE name = ?", (job_id, job.name))
        return replace(job, id=job_id)

    def close(self, job: Job, how: Literal["ended", "failed", "lost"]) -> None:
        """Write down that a job has no further answers.

        Args:
            job: the job.
            how: ``ended`` (its answers are in the journal), ``failed`` (the provider refused it, or
                it was never sent) or ``lost`` (it never arrived, or its results are gone).
        """
        with transaction(self._connection, "batch end"):
            self._connection.execute("UPDATE jobs SET closed = ? WHERE name = ?", (how, job.name))
