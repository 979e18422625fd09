"""The run directory: layout, lock, atomic files, and checks that its models are whole.

::

    runs/<name>/        0700, files 0600
      config.json       resolved config and its digest
      journal.db        the only source of truth
      lock              flock, with the pid of the holder
      models/round-k/   safetensors, tokenizer, done.json (sha256 of each file) last
      models/final      a link to the final student's folder, once the run has finished
      results.json, report.html, dataset.jsonl      derived; deleting them loses nothing
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import socket
from pathlib import Path
from typing import IO

from stepsynth.config import SOURCES, RunConfig, parse_stored
from stepsynth.config.changes import changes_between, moved_defaults
from stepsynth.config.stored import at_its_place
from stepsynth.data.given import given_lines
from stepsynth.errors import ConfigError, RunError
from stepsynth.journal import extent, holds_nothing
from stepsynth.run.places import JOURNAL, answers_path, no_run
from stepsynth.run.settling import settle
from stepsynth.runtime.failpoints import fail_point
from stepsynth.runtime.files import (
    disk_errors,
    path_problem,
    sync_file,
    sync_folder,
    write_atomic,
)
from stepsynth.runtime.network_disks import refuse_network_disk

__all__ = ["RunDirectory"]

_DERIVED = ("results.json", "report.html", "dataset.jsonl")
_FORMAT = 1


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
        """Create a run, or resume one that the same config made.

        A run that has obtained and paid for nothing yet accepts a changed config: its first request
        may have shown what was wrong with the old one. Open values (``auto``) keep the run's own
        settings; a new run settles them, see `stepsynth.run.settling`.

        Raises:
            RunError: another process holds it, it belongs to another config, or the folder
                contains something else.
        """
        cls.refuse_network(path)
        cls.refuse_others(path)
        existing = path / "config.json"
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.chmod(0o700)
        except OSError as error:
            raise RunError(f"cannot make {str(path)!r}: {error.strerror}.", hint="Give another folder (out= / --out).") from None
        lock = _take_lock(path)
        # Left by a killed process; nobody else writes here while the lock is held.
        for part in filter(_is_part, path.iterdir()):
            part.unlink()
        try:
            config = settle(config, _stored_config(path) if existing.exists() else None)
            known = existing.exists() and _same(path, config)
            if not known:
                _start_over(path)
            # Settings that change no result (paths, concurrency, the key's variable) are updated.
            if not known or _stored_config(path).resolved() != config.resolved():
                document = {"format": _FORMAT, "digest": config.result_digest(), "config": config.resolved()}
                write_atomic(existing, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
            _keep_given(config)
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
    def left_behind(cls, path: Path) -> str:
        """Return what is wrong with a journal that does not know the results or students beside it; empty if it does."""
        journal = extent(path / JOURNAL)
        if journal == "stages":
            return ""
        models = sorted(found.name for found in (path / "models").glob("round-*"))
        results = [name for name in _DERIVED if (path / name).is_file()]
        # A run that asks for no rows may have been killed between its first student and the stage that records it.
        if journal == "start" and models == ["round-0"] and not results:
            return ""
        found = [*(f"models/{name}" for name in models), *results]
        fault = "has no stages" if (path / JOURNAL).exists() else "is missing"
        return f"{fault}, but there is {', '.join(found)}" if found else ""

    @classmethod
    def refuse_left_behind(cls, path: Path) -> None:
        """Check that a run has not lost its journal: it would begin again, and pay for everything again.

        Raises:
            RunError: it has.
        """
        if (path / "config.json").exists() and (said := cls.left_behind(path)):
            raise RunError(
                f"{str(path / JOURNAL)!r} {said}.",
                hint="Restore it from a backup, or give another folder (out= / --out): the run is as it was.",
            )

    @classmethod
    def check(cls, path: Path, config: RunConfig) -> None:
        """Check that no run of another config is here, and none without its journal; touches nothing.

        Raises:
            RunError: there is one, or its config cannot be read.
        """
        cls.refuse_left_behind(path)
        if (path / "config.json").exists():
            _same(path, settle(config, _stored_config(path)))

    @classmethod
    def refuse_others(cls, path: Path) -> None:
        """Check that there is a run, an empty folder or nothing; touches nothing.

        Raises:
            RunError: there is something else.
        """
        if path.exists() and not path.is_dir():
            raise RunError(f"{str(path)!r} is a file, not a run directory.", hint="Give another folder (out= / --out).")
        begun = (path / "config.json").exists()
        if path.is_dir() and not begun and not all(p.name == "lock" or _is_part(p) for p in path.iterdir()):
            raise RunError(f"{str(path)!r} is not empty and not a run.", hint="Give an empty or new folder (out= / --out).")

    @classmethod
    def refuse_network(cls, path: Path) -> None:
        """Check that a run or a comparison is not to be written onto a network file system; touches nothing.

        Raises:
            RunError: it is.
        """
        refuse_network_disk(path, "the folder", "Give one on a local disk (out= / --out) and copy it afterwards.")

    @classmethod
    def began_with(cls, path: Path) -> RunConfig | None:
        """Return the config that a run began with; ``None`` if there is no run yet.

        Raises:
            RunError: it cannot be read.
        """
        return _stored_config(path) if (path / "config.json").is_file() else None

    @classmethod
    def refuse_held(cls, path: Path) -> None:
        """Check early that no other process writes to this run; `open` takes the lock.

        Raises:
            RunError: another process holds it.
        """
        if (path / "config.json").is_file() and (holder := cls.read(path).holder()):
            raise _in_use(path, holder)

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def journal_path(self) -> Path:
        """The journal's file."""
        return self.path / JOURNAL

    def cache_path(self) -> Path | None:
        """Return the file of answers that runs share, or ``None``; see `answers_path`."""
        return answers_path(self.config.cache, self.path.parent)

    def model_path(self, round_number: int) -> Path:
        """Return the folder of a round's student."""
        return self.path / "models" / f"round-{round_number}"

    @property
    def final_model(self) -> Path:
        """The final student's folder under a name that does not depend on its round; there once the run has finished."""
        return self.path / "models" / "final"

    def name_final(self, round_number: int) -> None:
        """Let `final_model` be a link to a round's student; without one on a file system that has no links."""
        if not self.model_path(round_number).is_dir():
            return
        new = self.final_model.with_name(".final.part")
        # A run on a disk that cannot be written to is still finished.
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
            new.symlink_to(self.model_path(round_number).name)
            try:
                os.replace(new, self.final_model)
            finally:
                new.unlink(missing_ok=True)

    def new_model_folder(self, round_number: int) -> Path:
        """Return an empty folder to train into; leftovers of an interrupted training are removed."""
        part = self.path / "models" / f".round-{round_number}.part"
        shutil.rmtree(part, ignore_errors=True)
        # One by one: with parents=True, mkdir would not apply the mode to the parent.
        part.parent.mkdir(exist_ok=True, mode=0o700)
        part.mkdir(mode=0o700)
        return part

    def keep_model(self, part: Path, round_number: int) -> Path:
        """Seal a trained model with ``done.json`` and give it its final name."""
        target = self.model_path(round_number)
        with disk_errors(target):
            digests = {file.name: _sha256(file) for file in sorted(part.iterdir()) if file.is_file()}
            for file in part.iterdir():
                file.chmod(0o600)
                sync_file(file)
            write_atomic(part / "done.json", json.dumps(digests, indent=1, sort_keys=True) + "\n")
            fail_point(f"before rename: model {round_number}")
            shutil.rmtree(target, ignore_errors=True)
            os.replace(part, target)
            sync_folder(target.parent)
        fail_point(f"after rename: model {round_number}")
        return target

    def model_whole(self, round_number: int) -> bool:
        """Whether a round's student is complete, every file with its recorded sha256."""
        return not self.model_faults(round_number)

    def model_faults(self, round_number: int) -> list[str]:
        """Return the faults of a round's student, a few words per file; an empty list if it is whole."""
        folder = self.model_path(round_number)
        if not folder.is_dir():
            return ["is missing"]
        try:
            digests = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ["has no done.json: its training did not end"]
        except (OSError, ValueError):
            return ["done.json cannot be read"]
        if not isinstance(digests, dict) or not digests:
            return ["done.json names no files"]
        return [fault for name, value in digests.items() if (fault := _file_fault(folder, name, value))]

    def holder(self) -> str | None:
        """Return the process that writes to this run now, or ``None``; needs no write access."""
        try:
            with (self.path / "lock").open(encoding="utf-8", errors="replace") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return file.readline(200).strip() or "another process"
        except OSError:
            pass
        return None


def _is_part(path: Path) -> bool:
    return path.is_file() and path.name.startswith(".") and path.name.endswith(".part")


def _in_use(path: Path, holder: str) -> RunError:
    return RunError(f"{str(path)!r} is in use by {holder}.", hint="Wait for it, or give another folder (out= / --out).")


def _take_lock(path: Path) -> IO[str]:
    file = os.fdopen(os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.readline(200).strip() or "another process"
        file.close()
        raise _in_use(path, holder) from None
    # The text is for people; on a full disk the lock works without it.
    with contextlib.suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.pwrite(file.fileno(), f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return file


def _file_fault(folder: Path, name: str, digest: object) -> str:
    """Return the fault of a model's file; empty if it is as it was written."""
    # A name that leads out of the folder is not a file of this model.
    if Path(name).name != name:
        return f"done.json names {name!r}"
    try:
        return "" if _sha256(folder / name) == digest else f"{name} is damaged (sha256 differs)"
    except OSError as error:
        return f"{name} is missing" if isinstance(error, FileNotFoundError) else f"{name} cannot be read"


def _stored_config(path: Path) -> RunConfig:
    file = path / "config.json"
    if path_problem(path) or not file.is_file():
        raise no_run(path)
    try:
        return parse_stored(at_its_place(json.loads(file.read_text(encoding="utf-8"))["config"], path))
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{str(file)!r} cannot be read: {error}.", hint="Restore it, or start a new run.") from None


def _same(path: Path, config: RunConfig) -> bool:
    """Whether a run has this config; ``False`` if it has another one but nothing to lose yet.

    Raises:
        RunError: it has another config and something to lose.
    """
    stored = _stored_config(path)
    if stored.result_digest() == config.result_digest():
        return True
    if not (path / "models").exists() and holds_nothing(path / JOURNAL):
        return False
    changes, defaults = changes_between(stored, config), moved_defaults(stored, config)
    if another := [line for line in changes if line.startswith(("task.name", "task.labels", "task.instruction", "task.family"))]:
        raise RunError(
            f"{str(path)!r} is the run of another task: {'; '.join(another[:3])}.",
            hint="Give another folder (out= / --out), rename the task, or undo the change: the run is as it was.",
        )
    if changes or not defaults:
        also = f" (and write {', '.join(defaults)}: these defaults have changed)" if defaults else ""
        # A filter that counts in a public attribute looks like another filter after its first run.
        state = any(line.startswith("filters ") for line in changes)
        hidden = ", or give attributes that a filter changes itself a leading underscore" if state else ""
        raise RunError(
            f"{str(path)!r} was made with another config: {'; '.join(changes[:5]) or 'the stored config'}.",
            hint=f"Undo the change{also}{hidden}, or give another folder (out= / --out): the run is as it was.",
        )
    raise RunError(
        f"{str(path)!r} was made by an earlier version with other defaults.",
        hint=f"To resume it: `stepsynth run {shlex.quote(str(path))}`, or write into the config: {', '.join(defaults)}. "
        "Or give another folder (out= / --out): the run is as it was.",
    )


def _keep_given(config: RunConfig) -> None:
    """Write the rows that a program gave to the config's paths, so that the run can resume without that program."""
    for source in (getattr(config.data, name) for name in SOURCES):
        # The name contains the digest: an existing file has the same content.
        if source is not None and source.rows is not None and source.path is not None and not source.path.exists():
            source.path.parent.mkdir(exist_ok=True, parents=True, mode=0o700)
            write_atomic(source.path, given_lines(source.rows))


def _start_over(path: Path) -> None:
    """Remove the journal of a run that obtained nothing: it contains the old config's validation rows."""
    for end in ("-wal", "-shm", ""):
        (path / f"{JOURNAL}{end}").unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
