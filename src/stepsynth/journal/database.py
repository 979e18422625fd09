"""SQLite for journals: private files, WAL, migrations in order, one transaction per fact."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from stepsynth.errors import RunError
from stepsynth.runtime.failpoints import fail_point

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = [
    "connect",
    "connect_looking",
    "decoded",
    "each",
    "encoded",
    "first",
    "reading_uri",
    "refuse_damaged",
    "select",
    "transaction",
]

# Errors from opening a file for writing in a read-only folder.
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def connect(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open a database with private permissions and bring its schema up to date.

    A read-only one is opened for reading, so a finished run can be viewed anywhere.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        # The executor commits in a separate thread, one commit at a time, while answers keep coming.
        connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    # A NUL in a path is a ValueError.
    except (OSError, ValueError, sqlite3.Error) as error:
        if isinstance(error, OSError) and error.errno in _READ_ONLY and path.is_file():
            return _connect_reading(path, migrations)
        what = getattr(error, "strerror", None) or error
        raise RunError(f"{str(path)!r} cannot be opened: {what}.", hint="Is it a file that you may write?") from None
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # Keys are hashes, so every answer is on another page: checkpoints of 16 MB of log save a quarter of the time.
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        _migrate(connection, path, migrations)
    except sqlite3.DatabaseError as error:
        connection.close()
        if not _writable(path.parent):
            return _connect_reading(path, migrations)
        if "full" in str(error) or "disk I/O" in str(error):
            raise RunError(f"{str(path)!r} cannot be written: {error}.", hint="Make room and run it again.") from None
        raise _unreadable(path, error) from None
    except RunError:
        connection.close()
        raise
    return connection


def refuse_damaged(path: Path) -> None:
    """Check that a file is a database, if it is there; changes nothing.

    Raises:
        RunError: it is none.
    """
    if not path.exists():
        return
    try:
        with closing(connect_looking(path)) as connection:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # Another process has it; whoever writes here says so.
        return
    except sqlite3.DatabaseError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: sqlite3.Error) -> RunError:
    return RunError(f"{str(path)!r} is not a readable journal: {error}.", hint="Move it away or restore it from a backup.")


def connect_looking(path: Path) -> sqlite3.Connection:
    """Open a database of any version as it is, only to read a little of it; whoever writes to it is not held up.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    # Read-only connections would leave files behind.
    connection = sqlite3.connect(reading_uri(path, mode="rw"), uri=True, isolation_level=None, timeout=1)
    connection.execute("PRAGMA query_only=ON")
    return connection


def reading_uri(path: Path, *, mode: str = "ro") -> str:
    """Return a URI by which SQLite opens a database without changing it.

    SQLite writes files next to a WAL database even when it only reads. If the folder is not writable,
    nobody else can be writing either, and the file is opened as immutable.

    Args:
        path: the file.
        mode: ``rw`` where SQLite's own files beside it are to be gone afterwards.
    """
    uri = path.absolute().as_uri()
    return f"{uri}?mode={mode}" if _writable(path.parent) else f"{uri}?immutable=1"


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)


def _connect_reading(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    hint = "Copy the folder to a writable place, and use the copy."
    log = path.with_name(f"{path.name}-wal")
    if log.is_file() and log.stat().st_size:
        raise RunError(f"{str(path)!r} is read-only, and its last changes are in {log.name!r} next to it.", hint=hint)
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None, check_same_thread=False
        )
        version = _version(connection)
    except sqlite3.Error as error:
        raise RunError(f"{str(path)!r} cannot be opened: {error}.", hint="Is it a file that you may read?") from None
    if version != len(migrations):
        connection.close()
        raise RunError(f"{str(path)!r} is read-only, and has the schema {version} of another version.", hint=hint)
    return connection


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    if _version(connection) < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        # Read the version again: another process may have opened the same new file at the same time.
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


def select(connection: sqlite3.Connection, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Return all rows of a query.

    Raises:
        RunError: the file cannot be read.
    """
    return list(each(connection, query, values))


def each(connection: sqlite3.Connection, query: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query, with only a few in memory at a time; see `select`."""
    try:
        # Not `yield from`: it would close the cursor when the reader stops early, perhaps after the connection was closed.
        for row in connection.execute(query, values):  # noqa: UP028
            yield row
    except sqlite3.DatabaseError as error:
        raise RunError(f"the journal cannot be read: {error}.", hint="Restore it from a backup, or start a new run.") from error


def first(connection: sqlite3.Connection, query: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
    """Return a query's first row; see `select`."""
    return next(iter(select(connection, query, values)), None)


@contextmanager
def transaction(connection: sqlite3.Connection, name: str) -> Iterator[None]:
    """Commit all or nothing, with a fail point on either side; a nested transaction is part of the outer one."""
    if connection.in_transaction:
        yield
        return
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
        hint = "Wait for the other process that uses it" if "locked" in str(error) else "Check that the disk is not full"
        raise RunError(f"the journal could not be written: {error}.", hint=f"{hint}, then run it again.") from error
    fail_point(f"after commit: {name}")


def encoded(text: str) -> str | bytes:
    """Encode texts with lone surrogates, which SQLite's UTF-8 cannot store, as bytes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def decoded(value: str | bytes) -> str:
    """Undo `encoded`."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value
