"""Where a run lies, and what a folder is, by the files in it: a run or a sweep; the refusal of one that is something else."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from stepsynth.config import USER_CACHE, stored_run
from stepsynth.config.addresses import shown_path
from stepsynth.errors import ConfigError, RunError, closest
from stepsynth.model_cache import cache_folder
from stepsynth.runtime.files import path_problem

__all__ = [
    "ANOTHER",
    "JOURNAL",
    "SWEEP_FILE",
    "SWEEP_LOCK",
    "answers_path",
    "default_folder",
    "folder_name",
    "is_run",
    "is_sweep",
    "no_run",
    "refuse_file_or_run",
]

JOURNAL = "journal.db"
SWEEP_FILE = "sweep.json"
# It stays in the folder, so it also tells that a sweep was begun there.
SWEEP_LOCK = "sweep.lock"
_RUN_HINT = "Give the folder of a run, with its config.json and journal.db."
# The hint where a folder is refused.
ANOTHER = "Give another folder (out= / --out)."


def folder_name(task: str) -> str:
    """Return a folder name for a task's run; no task name can make it leave the parent folder."""
    return re.sub(r"[^\w-]+", "-", task).strip("-_")[:60] or "run"


def default_folder(config: Path, task: str, prefix: str = "") -> Path:
    """Return where a run lies unless another folder is named.

    Args:
        config: the file that its config is read from: the run lies in ``runs`` beside it. Where that is a run directory or its
            ``config.json``, it is that run; what is no run of it lies beside it.
        task: the task's name.
        prefix: of the folder's name, where it is no run.
    """
    name = f"{prefix}{folder_name(task)}"
    run = stored_run(config)
    if run is None:
        return config.parent / "runs" / name
    return run.parent / name if prefix else run


def answers_path(cache: Path | None, runs: Path) -> Path | None:
    """Return the file of answers that runs share; ``None`` if sharing is off.

    ``$STEPSYNTH_ANSWERS`` is the path for ``user``; ``off`` turns sharing off for any ``cache``.

    Args:
        cache: the config's ``cache``.
        runs: base of relative paths: the folder that contains the run directory.
    """
    own = os.environ.get("STEPSYNTH_ANSWERS", "")
    if cache is None or own == "off":
        return None
    if cache == USER_CACHE:
        cache = Path(own) if own else cache_folder() / "answers.db"
    return runs / os.path.expanduser(cache)


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, or of one that has lost its config."""
    return stored_run(folder) is not None or (folder / JOURNAL).is_file()


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of a sweep with a table."""
    return (folder / SWEEP_FILE).is_file()


def refuse_file_or_run(folder: Path, what: str) -> None:
    """Refuse a path that cannot become the folder of several runs.

    Args:
        folder: the path; it exists.
        what: what was to go there: ``a comparison`` or ``a sweep``.

    Raises:
        ConfigError: it is a file or a run.
    """
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is a file, not {what}.", hint=ANOTHER)
    if is_run(folder):
        raise ConfigError(f"{str(folder)!r} is a run, not {what}.", hint=ANOTHER)


def _run_beside(path: Path) -> str:
    """Say which run of the same folder may be meant, or to which run a student belongs; empty if none has a similar name."""
    with suppress(OSError):
        if path.parent.name == "models" and (path.parents[1] / "config.json").is_file():
            return f"Give the folder of the run: {str(path.parents[1])!r}."
        if best := closest(path.name, (found.parent.name for found in path.parent.glob("*/config.json"))):
            return f"Did you mean {str(path.parent / best)!r}?"
    return ""


def no_run(path: Path) -> RunError:
    """Return the error for a path that is not a run: missing, a file, a comparison, a folder of runs, or something else."""
    if problem := path_problem(path):
        return RunError(f"there is no run at {shown_path(path)}: {problem}.", hint=_RUN_HINT)
    if not path.exists():
        return RunError(f"there is no run at {str(path)!r}: there is no such folder.", hint=_run_beside(path) or _RUN_HINT)
    if not path.is_dir():
        return RunError(f"there is no run at {str(path)!r}: it is a file.", hint=_RUN_HINT)
    if is_sweep(path):
        cell = next((str(found.parent) for found in sorted(path.glob("compare-*/*/config.json"))), "")
        return RunError(f"{str(path)!r} is a sweep; give one of its runs{f', e.g. {cell!r}' if cell else ''}.")
    runs = sorted(found.parent for found in path.glob("*/config.json"))
    if runs and ((path / "results.json").is_file() or path.name.startswith("compare-") or (path / "students").is_dir()):
        return RunError(f"{str(path)!r} is a comparison; give one of its runs, e.g. {str(runs[0])!r}.")
    if runs:
        return RunError(f"{str(path)!r} is a folder with runs; give one of them, e.g. {str(runs[0])!r}.")
    empty = "the folder is empty" if next(path.glob("*"), None) is None else "the folder has no config.json"
    return RunError(f"there is no run at {str(path)!r}: {empty}.", hint=_RUN_HINT)
