"""What a comparison's folder may hold before anything is written into it, and the config that its cells have in common.

begun = began_with(folder)  # of an earlier call, None for a new comparison
note_beginning(folder, config)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from stepsynth.config import parse_stored
from stepsynth.errors import ConfigError, RunError
from stepsynth.run import RunDirectory
from stepsynth.run.places import ANOTHER, JOURNAL, SWEEP_LOCK, is_sweep, refuse_file_or_run
from stepsynth.runtime.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.config import RunConfig

__all__ = ["began_with", "note_beginning", "refuse_others"]

_SETTLED = "settled.json"
_OWN = (_SETTLED, "results.json", "comparison.md", "comparison.html", "students")
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


def began_with(folder: Path) -> RunConfig | None:
    """Return the config that a comparison's cells have in common; ``None`` if there is no cell yet.

    A cell of an ablation differs in just what the others must not take from it. So comparisons that do not keep the config,
    made by version 0.1.0, are known by a cell without changes, whose folder's name has no "=".

    Raises:
        RunError: it cannot be read.
    """
    cells = [found.parent for found in sorted(folder.glob("*/config.json"))]
    file = folder / _SETTLED
    if not cells or not file.is_file():
        return next((RunDirectory.began_with(cell) for cell in cells if "=" not in cell.name), None)
    try:
        return parse_stored(json.loads(file.read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{str(file)!r} cannot be read: {error}.", hint="Restore it, or give another folder.") from None


def note_beginning(folder: Path, config: RunConfig) -> None:
    """Keep the config that all cells have in common, unless an earlier call did."""
    if began_with(folder) is None:
        write_atomic(folder / _SETTLED, json.dumps({"config": config.resolved()}, indent=1, ensure_ascii=False) + "\n")
