"""The config that a run keeps (``RUN/config.json``), where it is given in the place of a YAML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stepsynth.errors import ConfigError

__all__ = ["at_its_place", "read_stored", "stored_run", "was_edited"]

_NAME = "config.json"


def stored_run(path: Path) -> Path | None:
    """Return the run directory that a path names, itself or by its stored config; ``None`` for any other path."""
    folder = path if path.is_dir() else path.parent
    file = folder / _NAME
    if path not in (folder, file) or not file.is_file():
        return None
    if (folder / "journal.db").is_file():
        return folder
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return folder if isinstance(document, dict) and {"format", "config"} <= set(document) else None


def read_stored(run: Path) -> dict[str, Any]:
    """Return what a run's ``config.json`` holds: ``config``, its values, and ``digest``.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        document: dict[str, Any] = json.loads((run / _NAME).read_text(encoding="utf-8"))
        if not isinstance(document["config"]["task"], dict):
            raise TypeError("it has no task")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{str(run / _NAME)!r} cannot be read: {' '.join(str(error).split())}.", hint="Restore it, or start a new run."
        ) from None
    return document


def at_its_place(values: dict[str, Any], run: Path) -> dict[str, Any]:
    """Return a stored config's values with the paths of a program's rows where they are now: a run may have been moved.

    They are in the run's folder ``data``, or beside the run if it is a cell of a comparison.

    Args:
        values: from `read_stored`; stays as it is.
        run: the run's folder.
    """
    data = dict(values["data"])
    for name, source in data.items():
        path = Path(source["path"]) if isinstance(source, dict) and isinstance(source.get("path"), str) else None
        if path is None or path.parent.name != "data" or path.exists():
            continue
        places = (run / "data" / path.name, run.resolve().parent / "data" / path.name)
        if found := next((place for place in places if place.is_file()), None):
            data[name] = {**source, "path": str(found.resolve())}
    return {**values, "data": data}


def was_edited(document: dict[str, Any], resolved: dict[str, Any], digest: str) -> bool:
    """Whether a stored config is another one than the run began with.

    Args:
        document: what ``config.json`` holds.
        resolved: the values of the config that was read from it.
        digest: that config's.
    """
    # A config that another version wrote may lack keys of this one; its digest is that version's.
    return resolved == document["config"] and document.get("digest") != digest
