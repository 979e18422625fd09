"""The files that belong to a run or a comparison: no command writes its result over one of them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from stepsynth.config import SOURCES, stored_run
from stepsynth.data.keeping import is_kept_name
from stepsynth.errors import ConfigError
from stepsynth.run.pausing import FILE
from stepsynth.run.places import JOURNAL, is_run

if TYPE_CHECKING:
    from stepsynth.config import RunConfig

__all__ = ["refuse_data_file", "refuse_own_file"]

_SQLITE = ("", "-wal", "-shm", "-journal")
_OF_RUN = (
    "config.json",
    "lock",
    "results.json",
    "report.html",
    "dataset.jsonl",
    "tracking.json",
    FILE,
    *(f"{JOURNAL}{end}" for end in _SQLITE),
)
_OF_COMPARISON = ("results.json", "comparison.md", "comparison.html")
_ANSWERS = tuple(f"answers.db{end}" for end in _SQLITE)


def refuse_own_file(out: Path | None) -> None:
    """Check that an output is no file of a run or a comparison, however its path is spelled.

    Raises:
        ConfigError: it is one.
    """
    if out is None:
        return
    try:
        path = out.resolve()
        owner = next((kind for folder in path.parents if (kind := _owner(folder, path.relative_to(folder)))), None)
    # A path that cannot be followed is reported where it is written; RuntimeError: a loop of links.
    except (OSError, ValueError, RuntimeError):
        return
    if owner:
        raise ConfigError(
            f"the result would overwrite {str(out)!r}, a file of {owner}.", hint="Name another file (out= / --out)."
        )


def refuse_data_file(out: Path | None, config: RunConfig) -> None:
    """Check that an output is no file that a config's rows come from: labels that people gave are not made again.

    Raises:
        ConfigError: it is one.
    """
    for name in SOURCES:
        source = getattr(config.data, name)
        path = None if source is None or source.path is None else Path(source.path)
        # A path that cannot be followed is reported where it is written.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            if out is None or path is None:
                continue
            same = path.is_file() and out.samefile(path)
            if same or (path.is_dir() and path.resolve() in out.resolve().parents):
                raise ConfigError(
                    f"the result would overwrite {str(out)!r}, which is data.{name}.",
                    hint="Name another file (out= / --out).",
                )


def _owner(folder: Path, inside: Path) -> str:
    """Return what a path inside a folder belongs to; empty if to nobody."""
    first, name = inside.parts[0], inside.as_posix()
    # The user's own files may lie in the same folders.
    kept = len(inside.parts) == 2 and first == "data" and is_kept_name(inside.name)
    if is_run(folder):
        return "a run" if name in _OF_RUN or kept or first in ("models", "logs") else ""
    if not (name in (*_OF_COMPARISON, *_ANSWERS) or kept or first == "students"):
        return ""
    if not any(stored_run(cell.parent) for cell in folder.glob("*/config.json")):
        return ""
    if name in _ANSWERS:
        return "runs that share it"
    compared = folder.name.startswith("compare-") or (folder / "students").is_dir() or (folder / "comparison.md").is_file()
    return "a comparison" if compared else ""
