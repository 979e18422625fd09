"""Maintains the file of shared answers: lists its content, verifies it and prunes it.

    store = AnswerStore.shared(path)
    for use in teachers(store): ...
    report = verify(store)
    gone = prune(store, older_than=30)

Runs do not need this module, and may use the file at the same time.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepsynth.journal.answers import kept_request
from stepsynth.journal.database import decoded, select, transaction
from stepsynth.types import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepsynth.journal.answers import SharedAnswers

__all__ = ["Damage", "Pruned", "TeacherUse", "discard", "prune", "teachers", "verify"]

_DAY_S = 86400
_AT_ONCE = 500
_SHOWN = 200
# Bytes of a row: SQLite counts texts in characters unless they are blobs.
_BYTES = " + ".join(f"length(CAST({name} AS BLOB))" for name in ("key", "text", "raw", "request", "teacher"))


@dataclass(frozen=True, slots=True)
class TeacherUse:
    """The stored answers of one teacher.

    Attributes:
        backend: as in the config; empty if it cannot be read.
        model: as in the config.
        base_url: as in the config, ``None`` for an engine in process.
        answers: how many.
        prompt_tokens: tokens read for them.
        completion_tokens: tokens written.
        usd: dollars paid for answers with a known price, ``None`` if there are none.
        unpriced: answers without a known price.
        first: when the first of them came, seconds since 1970.
        last: when one of them was last used, seconds since 1970.
    """

    backend: str
    model: str
    base_url: str | None
    answers: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    unpriced: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A stored answer that belongs to another request, is a failure, or cannot be read.

    Attributes:
        key: its key.
        max_tokens: its limit.
        reason: its fault.
    """

    key: str
    max_tokens: int
    reason: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """The answers that `prune` deleted, or would delete.

    Attributes:
        answers: how many.
        bytes: their size, without SQLite's overhead.
        usd: dollars that requesting them again would cost, as far as known.
    """

    answers: int
    bytes: int
    usd: float


def teachers(store: SharedAnswers) -> list[TeacherUse]:
    """Return one entry per teacher, most answers first.

    Raises:
        RunError: the file cannot be read.
    """
    rows = select(
        store.connection,
        "SELECT teacher, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), SUM(cost_usd), COUNT(cost_usd),"
        " MIN(created), MAX(used) FROM answers LEFT JOIN times USING (key, max_tokens) GROUP BY teacher ORDER BY 2 DESC, 1",
    )
    found = []
    for teacher, answers, prompt, completion, usd, priced, first, last in rows:
        identity = _identity(teacher) or {}
        address = identity.get("base_url")
        found.append(
            TeacherUse(
                backend=str(identity.get("backend", "")),
                model=str(identity.get("model", "")),
                base_url=None if address is None else str(address),
                answers=answers,
                prompt_tokens=prompt,
                completion_tokens=completion,
                usd=usd,
                unpriced=answers - priced,
                first=first or 0,
                last=last or 0,
            )
        )
    return found


def verify(store: SharedAnswers, unfit: Callable[[Response], bool] | None = None) -> tuple[int, list[Damage], list[str]]:
    """Check the file, and that every answer is stored under its request's key.

    Args:
        store: the file.
        unfit: whether a stored answer is in fact a failure.

    Returns:
        The number of answers read, the damaged ones, and SQLite's complaints about the file.
    """
    damaged: list[Damage] = []
    problems: list[str] = []
    checked = 0
    try:
        complaints = store.connection.execute("PRAGMA integrity_check(20)")
        problems += [" ".join(str(line).split())[:_SHOWN] for (line,) in complaints if line != "ok"]
        # As bytes: one invalid text must not stop the reading of the others.
        for key, max_tokens, request, teacher, prompt, completion, finish, text, raw in store.connection.execute(
            "SELECT key, max_tokens, CAST(request AS BLOB), CAST(teacher AS BLOB), prompt_tokens, completion_tokens,"
            " finish_reason, CAST(text AS BLOB), CAST(raw AS BLOB) FROM answers"
        ):
            checked += 1
            reason = _wrong(str(key), max_tokens, request, teacher, (prompt, completion))
            kept = Response(text.decode("utf-8", "replace"), finish, raw=raw.decode("utf-8", "replace"))
            if not reason and unfit is not None and unfit(kept):
                reason = "it is a failure of the server that was stored as an answer"
            if reason:
                damaged.append(Damage(str(key), max_tokens, reason))
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        problems.append(f"reading stopped after {checked:,} answers: {error}")
    return checked, damaged, problems


def discard(store: SharedAnswers, damaged: list[Damage]) -> None:
    """Delete damaged answers, so that they are requested again.

    Raises:
        RunError: the file cannot be written.
    """
    _delete(store, [(entry.key, entry.max_tokens) for entry in damaged])


def prune(
    store: SharedAnswers,
    *,
    older_than: float | None = None,
    teacher: str | None = None,
    max_bytes: int | None = None,
    everything: bool = False,
    dry_run: bool = False,
    now: float | None = None,
) -> Pruned:
    """Delete answers; their disk space is freed unless a run is using the file.

    Args:
        store: the file.
        older_than: days since they were last used.
        teacher: model of their teacher; combined with ``older_than``, both must match.
        max_bytes: afterwards, delete the least recently used until the file is at most this large.
        everything: delete all of them.
        dry_run: only count.
        now: seconds since 1970, for tests.

    Raises:
        RunError: the file cannot be read or written.
    """
    rows = select(
        store.connection,
        f"SELECT key, max_tokens, teacher, COALESCE(used, 0), COALESCE(cost_usd, 0), {_BYTES}"  # noqa: S608 - constant
        " FROM answers LEFT JOIN times USING (key, max_tokens) ORDER BY 4, key, max_tokens",
    )
    oldest = None if older_than is None else (time.time() if now is None else now) - older_than * _DAY_S

    def unwanted(row: tuple[Any, ...]) -> bool:
        if everything:
            return True
        if oldest is None and teacher is None:
            return False
        named = teacher is None or (_identity(row[2]) or {}).get("model") == teacher
        return named and (oldest is None or row[3] < oldest)

    gone = [row for row in rows if unwanted(row)]
    if max_bytes is not None and rows:
        chosen = {(row[0], row[1]) for row in gone}
        kept = [row for row in rows if (row[0], row[1]) not in chosen]
        gone += _surplus(kept, max_bytes / max(_file_bytes(store) / max(sum(row[5] for row in rows), 1), 1.0))
    if gone and not dry_run:
        _delete(store, [(row[0], row[1]) for row in gone])
        _shrink(store)
    return Pruned(len(gone), sum(row[5] for row in gone), sum(row[4] for row in gone))


def _surplus(rows: list[tuple[Any, ...]], most: float) -> list[tuple[Any, ...]]:
    """Return the first rows, as many as must go so that the rest has at most ``most`` bytes."""
    left = sum(row[5] for row in rows)
    gone = []
    for row in rows:
        if left <= most:
            break
        gone.append(row)
        left -= row[5]
    return gone


def _file_bytes(store: SharedAnswers) -> int:
    ((pages,),) = select(store.connection, "PRAGMA page_count")
    ((free,),) = select(store.connection, "PRAGMA freelist_count")
    ((size,),) = select(store.connection, "PRAGMA page_size")
    return int((pages - free) * size)


def _delete(store: SharedAnswers, keys: list[tuple[str, int]]) -> None:
    for start in range(0, len(keys), _AT_ONCE):
        with transaction(store.connection, "prune"):
            for table in ("answers", "times"):
                store.connection.executemany(
                    f"DELETE FROM {table} WHERE key = ? AND max_tokens = ?",  # noqa: S608 - constant
                    keys[start : start + _AT_ONCE],
                )


def _shrink(store: SharedAnswers) -> None:
    try:
        store.connection.execute("VACUUM")
        store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError:
        # A run is reading it, or the disk is too full for a copy: the pages are free for reuse anyway.
        return


def _identity(teacher: object) -> dict[str, Any] | None:
    try:
        found = json.loads(str(teacher))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _wrong(key: str, max_tokens: object, request: bytes, teacher: bytes, tokens: tuple[object, object]) -> str:
    """Return the fault of an answer; empty if it is good."""
    identity = _identity(teacher.decode("utf-8", "replace"))
    if identity is None:
        return "its teacher cannot be read"
    try:
        asked = kept_request(decoded(request))
    except (ValueError, KeyError, TypeError) as error:
        return f"its request cannot be read ({type(error).__name__})"
    if asked.key(identity) != key:
        return "its key is not its request's"
    if asked.sampling.max_tokens != max_tokens:
        return f"its limit is not its request's, {asked.sampling.max_tokens}"
    if not all(isinstance(count, int) and count >= 0 for count in tokens):
        return "its token counts are invalid"
    return ""
