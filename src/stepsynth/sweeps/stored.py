"""A sweep's folder: how it is recognised, locked and read again."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from stepsynth.config.addresses import refuse_folder
from stepsynth.errors import ConfigError, RunError
from stepsynth.run.places import ANOTHER, SWEEP_FILE, SWEEP_LOCK, is_sweep, refuse_file_or_run
from stepsynth.sweeps.tables import sweep_markdown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["check_folder", "locked", "read_stored_sweep"]


def read_stored_sweep(folder: Path) -> dict[str, Any]:
    """Return what a sweep's ``sweep.json`` holds.

    Raises:
        RunError: there is none, or it cannot be read or shown.
    """
    if not is_sweep(folder):
        what = "there is no such folder" if not folder.exists() else f"it has no {SWEEP_FILE}"
        raise RunError(f"there is no sweep at {str(folder)!r}: {what}.", hint="Give the folder of a sweep.")
    try:
        found = _stored(folder)
        try:
            sweep_markdown(found)
        except (AttributeError, ArithmeticError, LookupError, TypeError, ValueError):
            raise ValueError("it is not that of a sweep") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise RunError(
            f"{str(folder / SWEEP_FILE)!r} cannot be read: {said}.",
            hint="The same sweep again writes it anew: nothing is asked for twice.",
        ) from None
    return found


def _stored(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / SWEEP_FILE).read_text(encoding="utf-8"))
    if not {"sweep", "comparisons", "averages", "warnings"} <= set(found):
        raise ValueError("it is not that of a sweep")
    return dict(found)


def check_folder(folder: Path, name: str) -> None:
    """Check that a sweep can go into a folder; nothing is made.

    Args:
        folder: the sweep's folder.
        name: the sweep's name.

    Raises:
        UserError: something else is there.
    """
    refuse_folder(folder)
    if not folder.exists():
        return
    refuse_file_or_run(folder, "a sweep")
    if is_sweep(folder):
        # A damaged file is written anew.
        with suppress(OSError, ValueError, TypeError, RecursionError):
            if isinstance(known := _stored(folder)["sweep"], str) and known != name:
                raise ConfigError(f"{str(folder)!r} holds the sweep {known!r}, not {name!r}.", hint=ANOTHER)
        return
    if (folder / SWEEP_FILE).exists():
        raise ConfigError(f"{str(folder / SWEEP_FILE)!r} is a folder, not a file.", hint="Remove it, and run the sweep again.")
    names = {path.name for path in folder.iterdir()}
    if SWEEP_LOCK in names:
        # A sweep that has lost its table, or was stopped before the first one: it is written from the cells.
        return
    if "results.json" in names or "students" in names:
        raise ConfigError(f"{str(folder)!r} is a comparison, not a sweep.", hint=ANOTHER)
    if names:
        raise ConfigError(f"{str(folder)!r} is not empty and not a sweep.", hint="Give an empty or new folder (out= / --out).")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a sweep's folder, and keep other processes from sweeping in it.

    Raises:
        RunError: another process does, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / SWEEP_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot write into {str(folder)!r}: {error.strerror}.", hint="Name another folder.") from None
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another process works on the sweep at {str(folder)!r}.", hint="Wait for it to end.") from None
        yield
