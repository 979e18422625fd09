"""``init``: a folder that runs as it is, and a config whose comments say what to change."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from stepsynth.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["write_starter"]

_TASKS = ("classification",)


def write_starter(folder: Path, task: str) -> None:
    """Write ``config.yaml`` and ``data/`` into a new or empty folder.

    Raises:
        ConfigError: unknown task, or the folder holds something already.
    """
    if task not in _TASKS:
        raise ConfigError(f"no starter for task {task!r}.", hint=did_you_mean(task, _TASKS))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{str(folder)!r} is not an empty folder.", hint="Name a new one; nothing was written.")
    source = _source(task)
    try:
        (folder / "data").mkdir(parents=True)
        (folder / "config.yaml").write_bytes((source / "config.yaml").read_bytes())
        for name in ("validation.csv", "test.csv"):
            (folder / "data" / name).write_bytes((source / name).read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot write into {str(folder)!r}: {error.strerror}.", hint="Name another folder.") from None


def _source(task: str) -> Traversable:
    """Return the shipped example: inside an installed package, or in the checkout it is run from."""
    packaged = resources.files("stepsynth") / "starter" / task
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "examples" / "shop"
