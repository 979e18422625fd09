"""Writing files: atomic replacement, disk errors, and outputs that the user named."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepsynth.errors import ConfigError, RunError
from stepsynth.runtime.failpoints import fail_point

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import IO

__all__ = [
    "DISK_ERRORS",
    "disk_errors",
    "opened_out",
    "path_problem",
    "refuse_input",
    "replacing",
    "sync_file",
    "sync_folder",
    "write_atomic",
    "write_out",
]

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn any library's error about a full or broken disk into a one-line `RunError`.

    Args:
        path: what is being written.

    Raises:
        RunError: instead of such an error; all other errors pass.
    """
    try:
        yield
    except Exception as error:
        number = _disk_error(error)
        if number is None:
            raise
        raise RunError(
            f"{str(path)!r} cannot be written: {os.strerror(number)}.",
            hint="Make room (or fix the disk) and run it again: nothing that was paid for is lost.",
        ) from error


def path_problem(path: Path, *, room: int = 0) -> str:
    """Return why no file system takes a path; empty if one may.

    Args:
        path: the path.
        room: bytes to leave for the names of the files below it.
    """
    if "\0" in str(path):
        return "it contains a NUL character"
    try:
        whole, parts = len(os.fsencode(path)), [len(os.fsencode(part)) for part in path.parts]
    except UnicodeEncodeError:
        return "it contains a character that no file name can have"
    most, longest = os.pathconf("/", "PC_NAME_MAX"), os.pathconf("/", "PC_PATH_MAX") - 1 - room
    if max(parts, default=0) > most:
        return f"one of its names has {max(parts):,} bytes, and the longest possible name has {most:,}"
    return f"it has {whole:,} bytes, and at most {longest:,} are possible" if whole > longest else ""


def _disk_error(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return error.errno
    # Rust libraries (safetensors, tokenizers) give the number only in the message, and shutil joins messages of several files.
    for number in re.findall(r"(?:os error |\[Errno )(\d+)", str(error)):
        if int(number) in DISK_ERRORS:
            return int(number)
    return None


def write_atomic(path: Path, content: str | bytes | Iterable[str | bytes]) -> None:
    """Replace a file so that a reader sees the old bytes or the new ones, never a part.

    Args:
        path: the file; its folder must exist.
        content: text (UTF-8) or bytes, whole or in pieces; pieces are written as they come.

    Raises:
        RunError: the disk is full or broken; the old file is unchanged.
    """
    pieces = (content,) if isinstance(content, str | bytes) else content
    with replacing(path) as file:
        for piece in pieces:
            file.write(piece.encode("utf-8") if isinstance(piece, str) else piece)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of ``path`` when the block ends without an error; see `write_atomic`."""
    # Two processes may write the same derived file at once.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with disk_errors(path):
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            fail_point(f"before rename: {path.name}")
            os.replace(part, path)
        except BaseException:
            # The next attempt may need its space.
            part.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    fail_point(f"after rename: {path.name}")


def write_out(path: Path, content: str) -> None:
    """Write a file that the user named: like `write_atomic`, but follows links and writes straight into a pipe or device.

    Raises:
        RunError: it cannot be written; the old file is unchanged.
    """
    data = content.encode("utf-8")
    with opened_out(path) as file:
        file.write(data)


@contextmanager
def opened_out(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that the user named for `write_out`, to be written piece by piece.

    Raises:
        RunError: it cannot be written; the old file is unchanged, as after any other error of the block.
    """
    if path.is_dir():
        raise RunError(f"cannot write {str(path)!r}: it is a folder.", hint="Name a file in it (out= / --out).")
    try:
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(_opened(path))
            # A NUL in a path is a ValueError. One of the block itself is the block's own.
            except ValueError as error:
                raise _unwritable(path, error) from None
            yield file
    except OSError as error:
        raise _unwritable(path, error) from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    target = path.resolve() if path.is_symlink() else path
    if target.exists() and not target.is_file():
        # With enough rights, a rename would replace /dev/stdout itself.
        with disk_errors(path), target.open("wb") as file:
            yield file
    else:
        with replacing(target) as file:
            # A new one is for its owner only, as it may hold labelled rows; who shares an old one goes on sharing it.
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield file


def _unwritable(path: Path, error: Exception) -> RunError:
    what = getattr(error, "strerror", None) or error
    return RunError(f"cannot write {str(path)!r}: {what}.", hint="Name a file in an existing folder (out= / --out).")


def refuse_input(out: Path | None, files: Iterable[Path]) -> None:
    """Raise `ConfigError` if a command would overwrite one of its input files, however either path is spelled."""
    for file in files:
        # An unreadable file is reported where it is read or written; a device or pipe may be both input and output.
        with contextlib.suppress(OSError, ValueError):
            if out is not None and file.is_file() and out.samefile(file):
                raise ConfigError("the result would overwrite the input file.", hint="Name another file (out= / --out).")


def sync_file(path: Path) -> None:
    """Wait until a file is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Wait until a folder's names are on disk."""
    sync_file(path)
