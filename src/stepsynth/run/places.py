"""What a folder is, by the files in it: a run or a sweep; and the refusal of a folder that is something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.config import stored_run
from stepsynth.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ANOTHER", "JOURNAL", "SWEEP_FILE", "SWEEP_LOCK", "is_run", "is_sweep", "refuse_file_or_run"]

JOURNAL = "journal.db"
SWEEP_FILE = "sweep.json"
# It stays in the folder, so it also tells that a sweep was begun there.
SWEEP_LOCK = "sweep.lock"
# The hint where a folder is refused.
ANOTHER = "Give another folder (out= / --out)."


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
