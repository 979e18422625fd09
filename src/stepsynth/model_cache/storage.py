"""The cache on disk: no partial files are ever visible, and two processes do not disturb each other."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stepsynth.errors import AssetError
from stepsynth.model_cache.catalogue import Report, cache_folder

__all__ = ["Meter", "alone", "digest_of", "empty", "publish", "require_room", "staging", "sweep"]

_SAY_EVERY_SECONDS = 5.0
_STALE_SECONDS = 86_400.0
_STALE_DOWNLOAD_SECONDS = 7 * 86_400.0

_digests: dict[tuple[str, int, int, int], str] = {}


def digest_of(path: Path) -> str:
    """Return a file's sha256; cached while the file is unchanged.

    Raises:
        OSError: it cannot be read.
    """
    about = path.stat()
    key = (str(path), about.st_ino, about.st_size, about.st_mtime_ns)
    if key not in _digests:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        # A file that was just written may still change without a new time stamp.
        if time.time() - about.st_mtime < 2:
            return found
        _digests[key] = found
    return _digests[key]


class Meter:
    """Reports the progress of a long operation every few seconds.

    Args:
        say: receives the sentences.
        what: the start of each sentence.
        total: the total bytes.
        clock: returns seconds.
    """

    def __init__(self, say: Report, what: str, total: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._what, self._total, self._clock = say, what, total, clock
        self._last = clock()

    def at(self, done: int, detail: str = "") -> None:
        """Report, if the last report was some seconds ago or the work is done."""
        now = self._clock()
        if now - self._last >= _SAY_EVERY_SECONDS or done >= self._total:
            self._last = now
            self._say(f"{self._what}: {done / 1e6:,.0f} of {self._total / 1e6:,.0f} MB{detail}")


@contextmanager
def staging(folder: Path, name: str) -> Iterator[Path]:
    """Yield a scratch folder beside the final one, so that publishing is a rename within one file system.

    Args:
        folder: the final folder.
        name: prefix of the scratch folder, and of those left by killed processes.

    Raises:
        AssetError: the cache cannot be written.
    """
    parent, prefix = folder.parent, f".{name}-"
    try:
        _make(parent)
        sweep(parent, prefix)
        scratch = tempfile.mkdtemp(dir=parent, prefix=prefix)
    except OSError as error:
        raise AssetError(
            f"cannot write to the cache folder {str(parent)!r}: {error.strerror}.",
            hint="Set STEPSYNTH_CACHE to another folder.",
        ) from error
    try:
        yield Path(scratch) / "files"
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _make(folder: Path) -> None:
    for missing in [path for path in (*reversed(folder.parents), folder) if not path.is_dir()]:
        missing.mkdir(exist_ok=True, mode=0o755)


def sweep(parent: Path, prefix: str) -> None:
    """Remove leftovers of killed processes: scratch folders after a day, downloads after a week."""
    for left in parent.glob(f"{prefix}*"):
        oldest = _STALE_DOWNLOAD_SECONDS if left.name.endswith(".download") else _STALE_SECONDS
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > oldest:
                shutil.rmtree(left, ignore_errors=True)


def publish(files: Path, folder: Path, problems: Callable[[Path], list[str]]) -> None:
    """Rename checked files into place; the second of two processes keeps the first one's folder.

    Args:
        files: the folder to rename.
        folder: its final path.
        problems: returns what is wrong with a folder; empty if it is intact.

    Raises:
        AssetError: the folder in its place is damaged and cannot be replaced.
    """
    # If others could write to the files, the checked digests would not hold.
    for path in (files, *files.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)
    for _ in range(3):
        try:
            files.rename(folder)
        except OSError:
            if not problems(folder):
                return
            aside = files.parent / f"damaged-{len(os.listdir(files.parent))}"
            try:
                folder.rename(aside)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise AssetError(
                    f"the damaged cache folder {str(folder)!r} cannot be replaced: {error.strerror}.",
                    hint="Delete it and try again.",
                ) from error
        else:
            return
    raise AssetError(
        f"the cache folder {str(folder)!r} cannot be replaced.", hint="Delete it, or set STEPSYNTH_CACHE to another folder."
    )


def empty(folder: Path) -> None:
    """Make an empty folder, removing an existing one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


@contextmanager
def alone(name: str, say: Report) -> Iterator[None]:
    """Let only one process at a time do a piece of work that a second one would repeat.

    If the file system has no locks, both do it, which wastes time but does no harm.
    """
    descriptor = None
    try:
        locks = cache_folder() / "locks"
        _make(locks)
        descriptor = os.open(locks / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: another process is preparing it; waiting")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        pass
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def require_room(folder: Path, needed: int, what: str) -> None:
    """Refuse work that the disk has no room for, before it begins.

    Raises:
        AssetError: too little space is free.
    """
    place = next((path for path in (folder, *folder.parents) if path.is_dir()), None)
    try:
        free = shutil.disk_usage(place or "/").free
    except OSError:
        return
    if free < needed:
        raise AssetError(
            f"{what} needs {needed / 1e9:.1f} GB of disk in {str(folder)!r}, but {free / 1e9:.1f} GB are free.",
            hint="Free some space, or set STEPSYNTH_CACHE to a folder on another disk.",
        )
