"""Answers by key, in a run's journal or in a file shared by all runs of a user.

A run's own answers must never be lost, so an error in the journal ends the run. The shared file is a
convenience: answers that cannot be read from it are requested again, answers that cannot be written
are retried for a while and then dropped, and the user is told once.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import asdict, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from stepsynth.errors import RunError
from stepsynth.journal.database import connect, decoded, encoded, select, transaction
from stepsynth.types import Message, Request, Response, Sampling, Usage, canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["ANSWERS_TABLE", "AnswerStore", "SharedAnswers", "answer_records", "kept_request"]

ANSWERS_TABLE = """
CREATE TABLE answers (
    key TEXT NOT NULL, max_tokens INTEGER NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost_usd REAL,
    raw TEXT NOT NULL, request TEXT NOT NULL, teacher TEXT NOT NULL, origin TEXT NOT NULL,
    PRIMARY KEY (key, max_tokens)
) WITHOUT ROWID;
"""
# When an answer came and was last used. A journal has no such table: its answers live as long as it does.
_TIMES_TABLE = """
CREATE TABLE times (
    key TEXT NOT NULL, max_tokens INTEGER NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL,
    PRIMARY KEY (key, max_tokens)
) WITHOUT ROWID;
INSERT INTO times SELECT key, max_tokens, CAST(strftime('%s', 'now') AS INTEGER), CAST(strftime('%s', 'now') AS INTEGER)
    FROM answers;
"""
# Append only, like the journal's.
_MIGRATIONS: tuple[str, ...] = (ANSWERS_TABLE, _TIMES_TABLE)
_FIND = "SELECT key, max_tokens, text, finish_reason, prompt_tokens, completion_tokens, cost_usd, raw FROM answers WHERE key IN"
_AT_ONCE = 500
# Another process may be writing: a run waits at most this long, and tries again later.
_PATIENCE_MS = 1000
_AGAIN_AFTER_S = 10.0
_PATIENCE_AT_THE_END_MS = 5000
_MOST_WAITING = 20_000


class AnswerStore:
    """Answers by key, in the run's journal or in a file that several runs share.

    Attributes:
        set_aside: key and limit of stored answers that were found unfit; new answers replace them.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.set_aside: set[tuple[str, int]] = set()

    @classmethod
    def shared(
        cls, path: Path, *, note: Callable[[str], object] | None = None, price: Callable[[Usage], float | None] | None = None
    ) -> SharedAnswers:
        """Open or create a file of answers that several runs may use at once; see `SharedAnswers`.

        Raises:
            RunError: it cannot be opened, is damaged, or was written by a newer stepsynth.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise RunError(f"cannot make {str(path.parent)!r}: {error.strerror}.", hint="Name another file.") from None
        return SharedAnswers(connect(path, _MIGRATIONS), note=note, price=price)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def find_many(
        self, wanted: Sequence[tuple[str, int]], unfit: Callable[[Response], bool] | None = None
    ) -> dict[str, Response]:
        """Return the known answers by key.

        An answer that ended by itself fits any limit that it does not exceed; a truncated one fits only
        its own limit. Of several that fit, the one with the smallest limit is taken.

        Args:
            wanted: pairs of key and ``max_tokens``; a key occurs once.
            unfit: whether a stored answer is in fact a failure; such answers are set aside.

        Raises:
            RunError: the file cannot be read.
        """
        found: dict[str, Response] = {}
        for key, kept, response in self._matches(wanted):
            if unfit is not None and key not in found and unfit(response):
                self.set_aside.add((key, kept))
            else:
                found.setdefault(key, response)
        return found

    def _matches(self, wanted: Sequence[tuple[str, int]]) -> Iterator[tuple[str, int, Response]]:
        """Yield key, stored limit and answer of everything that fits, smallest limit first."""
        limits = dict(wanted)
        keys = list(limits)
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = select(self._connection, f"{_FIND} ({marks}) ORDER BY key, max_tokens", some)
            for key, kept, text, finish_reason, prompt_tokens, completion_tokens, cost, raw in rows:
                limit = limits[key]
                if kept == limit or (finish_reason != "length" and completion_tokens <= limit):
                    usage = Usage(prompt_tokens, completion_tokens, cost)
                    yield key, kept, Response(decoded(text), finish_reason, usage, decoded(raw))

    def insert(self, answers: Iterable[tuple[str, Request, Response]], teacher: dict[str, object], origin: str) -> None:
        """Write answers in one transaction; existing keys stay unchanged.

        Args:
            answers: key, request and answer.
            teacher: see `TeacherConfig.identity`.
            origin: ``asked`` or ``cache``.

        Raises:
            RunError: they could not be written.
        """
        self.insert_records(answer_records(answers, teacher, origin))

    def insert_records(self, records: Sequence[tuple[object, ...]]) -> None:
        """Write the records of `answer_records`; see `insert`."""
        self._write(records)

    def _write(self, records: Sequence[tuple[object, ...]]) -> None:
        with transaction(self._connection, "answers"):
            self._make_room(records)
            self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?,?,?,?,?,?,?,?,?,?,?)", records)

    def _make_room(self, records: Sequence[tuple[object, ...]]) -> None:
        """Delete answers that were set aside and now have a replacement."""
        if self.set_aside:
            replaced = [(key, limit) for key, limit, *_ in records if (key, limit) in self.set_aside]
            self._connection.executemany("DELETE FROM answers WHERE key = ? AND max_tokens = ?", replaced)


class SharedAnswers(AnswerStore):
    """Answers that outlive a run; errors in the file never end a run.

    Args:
        connection: from `AnswerStore.shared`.
        note: called once with a sentence when the file is given up.
        price: returns the cost of an answer that was stored without a known price.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        note: Callable[[str], object] | None = None,
        price: Callable[[Usage], float | None] | None = None,
    ) -> None:
        super().__init__(connection)
        self._note = note or (lambda _: None)
        self._price = price
        self._used: set[tuple[str, int]] = set()
        self._waiting: list[tuple[object, ...]] = []
        self._next_try = 0.0
        self._given_up = False
        # At worst, after a power cut some answers are paid for again.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA busy_timeout={_PATIENCE_MS}")

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection, for maintenance."""
        return self._connection

    def find_many(
        self, wanted: Sequence[tuple[str, int]], unfit: Callable[[Response], bool] | None = None
    ) -> dict[str, Response]:
        """Return the known answers by key; empty if the file cannot be read."""
        if self._given_up:
            return {}
        found: dict[str, Response] = {}
        try:
            for key, kept, response in self._matches(wanted):
                if key not in found and unfit is not None and unfit(response):
                    self.set_aside.add((key, kept))
                elif key not in found:
                    found[key] = self._priced(response)
                    self._used.add((key, kept))
        except RunError as error:
            self._give_up(error)
        return found

    def insert_records(self, records: Sequence[tuple[object, ...]]) -> None:
        """Write answers, and earlier ones that waited for another process; existing keys stay unchanged."""
        if not self._given_up:
            self._waiting += records
            if time.monotonic() >= self._next_try:
                self._try_to_write()

    def close(self) -> None:
        """Write waiting answers and record which ones were used, then close the file."""
        if not self._given_up:
            self._connection.execute(f"PRAGMA busy_timeout={_PATIENCE_AT_THE_END_MS}")
            if self._waiting:
                self._try_to_write()
            if self._waiting:
                self._note(
                    f"{len(self._waiting):,} answers could not be shared: another process holds the file. This run has them."
                )
            if self._used and not self._given_up:
                self._tell_use()
        super().close()

    def _try_to_write(self) -> None:
        try:
            self._write(self._waiting)
            self._waiting = []
        except RunError as error:
            self._next_try = time.monotonic() + _AGAIN_AFTER_S
            if "locked" not in str(error) or len(self._waiting) > _MOST_WAITING:
                self._give_up(error)

    def _write(self, records: Sequence[tuple[object, ...]]) -> None:
        now = int(time.time())
        with transaction(self._connection, "shared answers"):
            self._make_room(records)
            self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?,?,?,?,?,?,?,?,?,?,?)", records)
            self._connection.executemany(
                "INSERT OR IGNORE INTO times VALUES (?,?,?,?)", [(key, limit, now, now) for key, limit, *_ in records]
            )

    def _tell_use(self) -> None:
        now = int(time.time())
        try:
            with transaction(self._connection, "shared answers used"):
                self._connection.executemany(
                    "UPDATE times SET used = ? WHERE key = ? AND max_tokens = ?", [(now, *used) for used in sorted(self._used)]
                )
        except RunError:
            # Only `prune` needs it, so no message.
            return

    def _priced(self, response: Response) -> Response:
        if response.usage.cost_usd is not None or self._price is None:
            return response
        return replace(response, usage=replace(response.usage, cost_usd=self._price(response.usage)))

    def _give_up(self, error: RunError) -> None:
        self._given_up = True
        self._waiting = []
        what = error.message.removeprefix("the journal ").rstrip(".")
        self._note(f"The file of shared answers {what}; this run goes on without them. See: stepsynth cache verify")


def answer_records(
    answers: Iterable[tuple[str, Request, Response]], teacher: dict[str, object], origin: str
) -> list[tuple[object, ...]]:
    """Return the table's rows, to be written into one or more files; see `AnswerStore.insert`."""
    identity = canonical_json(teacher)
    return [
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
            identity,
            origin,
        )
        for key, request, response in answers
    ]


def _request_json(request: Request) -> str:
    return canonical_json(
        {
            "messages": [[m.role, m.content] for m in request.messages],
            "sampling": _sampling_values(repr(request.sampling), request.sampling),
            "replicate": request.replicate,
        }
    )


@lru_cache(maxsize=64)
def _sampling_values(spelt: str, sampling: Sampling) -> dict[str, object]:
    # Known by its spelling: 1 and 1.0 are equal, but not in JSON.
    return asdict(sampling)


def kept_request(text: str) -> Request:
    """Rebuild the request of a stored answer, as far as it determines the key.

    Raises:
        ValueError, KeyError, TypeError: the text is not a stored request.
    """
    values = json.loads(text)
    messages = tuple(Message(role, content) for role, content in values["messages"])
    return Request(messages, Sampling(**values["sampling"]), values["replicate"], "", 0, "")
