"""Paths that a program gives."""

from __future__ import annotations

import os
from pathlib import Path

from stepsynth.config.addresses import refuse_folder, shown_path
from stepsynth.errors import ConfigError, UserError
from stepsynth.runtime.files import path_problem

__all__ = ["absolute_path", "output_folder"]


def absolute_path(given: object, what: str, hint: str, error: type[UserError] = ConfigError) -> Path:
    """Return a path as an absolute one: the program may change its working directory.

    Args:
        given: the value.
        what: its name in messages.
        hint: what to give instead.
        error: the class of the error.

    Raises:
        UserError: it is no path, or one that no file system takes.
    """
    if not isinstance(given, str | os.PathLike) or isinstance(os.fspath(given), bytes):
        raise error(f"{what} is {given!r}, a {type(given).__name__}.", hint=hint)
    path = Path(given)
    if problem := path_problem(path):
        raise error(f"{what} is {shown_path(path)}: {problem}.", hint=hint)
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise error(f"{what} is {shown_path(path)}: there is no such user.", hint=hint) from None


def output_folder(out: object) -> Path:
    """Return the absolute path of an output folder.

    Raises:
        ConfigError: it is no path, or no folder can be made there.
    """
    folder = absolute_path(out, "out", "Give the path of a folder.")
    refuse_folder(folder)
    return folder
