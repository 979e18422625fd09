"""The run directory: layout, lock, atomic files, and whether a model in it is whole.

::

    runs/<name>/        0700, files 0600
      config.json       resolved config and its digest
      journal.db        the only source of truth
      lock              flock, with the pid of the holder
      models/round-k/   safetensors, tokenizer, done.json (sha256 of each file) last
      results.json, report.html, dataset.jsonl      derived; deleting them loses nothing
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
from pathlib import Path
from typing import IO, Any

from stepsynth.config import FREE_TEACHER_KEYS, RunConfig, parse_config
from stepsynth.errors import ConfigError, RunError
from stepsynth.failpoints import fail_point

__all__ = ["RunDirectory", "write_atomic"]

_FORMAT = 1


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace a file so that a reader sees the old bytes or the new ones, never a part.

    Args:
        path: the file; its folder must exist.
        content: text (UTF-8) or bytes.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    # Two processes may write the same derived file at once.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fail_point(f"before rename: {path.name}")
    os.replace(part, path)
    _sync_folder(path.parent)
    fail_point(f"after rename: {path.name}")


class RunDirectory:
    """One run on disk, held by one process at a time.

    Args:
        path: the folder.
        config: the run's config.
        lock: an open file that holds the flock, or ``None`` for readers.
    """

    def __init__(self, path: Path, config: RunConfig, lock: IO[str] | None = None) -> None:
        self.path = path
        self.config = config
        self._lock = lock

    @classmethod
    def open(cls, path: Path, config: RunConfig) -> RunDirectory:
        """Create a run, or go on with one that the same config made.

        Raises:
            RunError: another process holds it, it belongs to another config, or the folder
                holds something else.
        """
        existing = path / "config.json"
        if path.exists() and not path.is_dir():
            raise RunError(f"{str(path)!r} is a file, not a run directory.", hint="Give another --out.")
        if path.is_dir() and not existing.exists() and not all(p.name == "lock" or _is_part(p) for p in path.iterdir()):
            raise RunError(f"{str(path)!r} is not empty and not a run.", hint="Give an empty or new folder with --out.")
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.chmod(0o700)
        except OSError as error:
            raise RunError(f"cannot make {str(path)!r}: {error.strerror}.", hint="Give another --out.") from None
        lock = _take_lock(path)
        # What a killed process left; nobody else writes here while the lock is held.
        for part in filter(_is_part, path.iterdir()):
            part.unlink()
        try:
            if existing.exists():
                _check_same(path, config)
            else:
                document = {"format": _FORMAT, "digest": config.result_digest(), "config": config.resolved()}
                write_atomic(existing, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        except BaseException:
            lock.close()
            raise
        return cls(path, config, lock)

    @classmethod
    def read(cls, path: Path) -> RunDirectory:
        """Open an existing run for reading; takes no lock.

        Raises:
            RunError: there is no run here, or its config cannot be read.
        """
        return cls(path, _stored_config(path))

    @classmethod
    def check(cls, path: Path, config: RunConfig) -> None:
        """Do nothing, unless there is a run here that another config made; touches nothing.

        Raises:
            RunError: there is one, or its config cannot be read.
        """
        if (path / "config.json").exists():
            _check_same(path, config)

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def journal_path(self) -> Path:
        """The journal's file."""
        return self.path / "journal.db"

    def cache_path(self) -> Path | None:
        """Return the file of answers shared between runs: beside the runs, unless it is absolute."""
        cache = self.config.cache
        return None if cache is None else self.path.parent / cache.expanduser()

    def model_path(self, round_number: int) -> Path:
        """Return the folder of a round's student."""
        return self.path / "models" / f"round-{round_number}"

    def new_model_folder(self, round_number: int) -> Path:
        """Return an empty folder to train into; what an interrupted training left is removed."""
        part = self.path / "models" / f".round-{round_number}.part"
        shutil.rmtree(part, ignore_errors=True)
        # One by one: the mode is not that of parents made on the way.
        part.parent.mkdir(exist_ok=True, mode=0o700)
        part.mkdir(mode=0o700)
        return part

    def keep_model(self, part: Path, round_number: int) -> Path:
        """Seal a trained model with ``done.json`` and give it its final name."""
        digests = {file.name: _sha256(file) for file in sorted(part.iterdir()) if file.is_file()}
        for file in part.iterdir():
            file.chmod(0o600)
            _sync_file(file)
        write_atomic(part / "done.json", json.dumps(digests, indent=1, sort_keys=True) + "\n")
        target = self.model_path(round_number)
        shutil.rmtree(target, ignore_errors=True)
        fail_point(f"before rename: model {round_number}")
        os.replace(part, target)
        _sync_folder(target.parent)
        fail_point(f"after rename: model {round_number}")
        return target

    def model_whole(self, round_number: int) -> bool:
        """Whether a round's student is complete, every file with its recorded sha256."""
        folder = self.model_path(round_number)
        try:
            digests = json.loads((folder / "done.json").read_text(encoding="utf-8"))
            return bool(digests) and all(_sha256(folder / name) == value for name, value in digests.items())
        except (OSError, ValueError, AttributeError):
            return False


def _is_part(path: Path) -> bool:
    return path.is_file() and path.name.startswith(".") and path.name.endswith(".part")


def _take_lock(path: Path) -> IO[str]:
    file = os.fdopen(os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read(200).strip() or "another process"
        file.close()
        raise RunError(f"{str(path)!r} is in use by {holder}.", hint="Wait for it, or give another --out.") from None
    file.seek(0)
    file.truncate()
    file.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def _stored_config(path: Path) -> RunConfig:
    file = path / "config.json"
    if not file.is_file():
        raise RunError(f"there is no run at {str(path)!r}.", hint="Give the folder that `stepsynth run` printed.")
    try:
        return parse_config(json.loads(file.read_text(encoding="utf-8"))["config"])
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{str(file)!r} cannot be read: {error}.", hint="Restore it, or start a new run.") from None


def _check_same(path: Path, config: RunConfig) -> None:
    stored = _stored_config(path)
    if stored.result_digest() == config.result_digest():
        return
    changes = _differences(stored.resolved(), config.resolved())
    shown = "; ".join(changes[:5]) or "the stored config"
    raise RunError(
        f"{str(path)!r} was made with another config: {shown}.",
        hint="Undo the change, or give another --out: nothing was touched.",
    )


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        if where == "task.labels" and keys != list(new) and set(old) == set(new):
            return [f"{where} were in the order {_short(list(old))}, are in {_short(list(new))}"]
        return [line for key in keys for line in _differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))]
    if old == new or where.split(".")[0] in ("budget", "cache") or where in _FREE:
        return []
    return [f"{where} was {_short(old)}, is {_short(new)}"]


_FREE = {
    *(f"teacher.{key}" for key in FREE_TEACHER_KEYS),
    *(f"data.{source}.path" for source in ("validation", "test", "contexts", "seed")),
}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    _sync_file(path)
