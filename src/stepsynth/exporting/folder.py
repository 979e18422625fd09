"""An export's folder: written beside its place under another name, and renamed when it is whole."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stepsynth.config.addresses import refuse_folder, shown_path
from stepsynth.errors import ConfigError, RunError
from stepsynth.runtime.failpoints import fail_point
from stepsynth.runtime.files import disk_errors, sync_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["new_folder", "refuse_existing"]


def refuse_existing(folder: Path) -> None:
    """Check that a folder can be made here.

    Raises:
        ConfigError: something is there, or no folder can have this path.
    """
    refuse_folder(folder)
    if os.path.lexists(folder):
        raise ConfigError(f"{shown_path(folder)} exists already.", hint="Give a new folder: nothing is written over.")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``folder`` at the end of the block; after an error nothing of it is left.

    Raises:
        ConfigError: the folder exists.
        RunError: it cannot be written.
    """
    refuse_existing(folder)
    part = folder.with_name(f"{_prefix(folder)}{os.getpid()}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(folder)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        with disk_errors(folder):
            yield part
            for path in part.rglob("*"):
                if path.is_file():
                    sync_file(path)
            fail_point(f"before rename: {folder.name}")
            refuse_existing(folder)
            os.rename(part, folder)
            sync_folder(folder.parent)
    except OSError as error:
        raise _unwritable(folder, error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _prefix(folder: Path) -> str:
    return f".{folder.name[:200]}."


def _clear_leftovers(folder: Path) -> None:
    """Remove what killed exports to this folder have left."""
    for name in os.listdir(folder.parent):
        number = name.removeprefix(_prefix(folder)).removesuffix(".part")
        if name == f"{_prefix(folder)}{number}.part" and number.isdecimal() and not _is_alive(int(number)):
            shutil.rmtree(folder.with_name(name), ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _unwritable(folder: Path, error: OSError) -> RunError:
    return RunError(
        f"{shown_path(folder)} cannot be written: {error.strerror or error}.",
        hint="Give a folder that you may write to: nothing was left there.",
    )
