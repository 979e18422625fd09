"""What a comparison's folder may hold before anything is written into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.errors import ConfigError
from stepsynth.run.places import ANOTHER, JOURNAL, SWEEP_LOCK, is_sweep, refuse_file_or_run

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["refuse_others"]

_OWN = ("results.json", "comparison.md", "comparison.html", "students")
# A folder with one of these is a cell.
_OF_A_CELL = ("config.json", "lock", JOURNAL)


def refuse_others(folder: Path) -> None:
    """Check that a folder is a comparison, empty or not there; nothing is written.

    Raises:
        ConfigError: it is a run, a sweep, a file, or holds something else and nothing of a comparison.
    """
    if not folder.exists():
        return
    refuse_file_or_run(folder, "a comparison")
    if is_sweep(folder) or (folder / SWEEP_LOCK).is_file():
        raise ConfigError(f"{str(folder)!r} is a sweep, not a comparison.", hint=ANOTHER)
    inside = list(folder.iterdir())
    begun = any(path.name in _OWN or any((path / name).exists() for name in _OF_A_CELL) for path in inside)
    if not begun and any(_is_foreign(path) for path in inside):
        raise ConfigError(
            f"{str(folder)!r} is not empty and not a comparison.", hint="Give an empty or new folder (out= / --out)."
        )


def _is_foreign(path: Path) -> bool:
    """Whether it is neither answers, nor hidden, nor an empty folder: these are left by a comparison that was killed early."""
    if path.name.startswith(".") or ".db" in path.name:
        return False
    return not path.is_dir() or any(path.iterdir())
