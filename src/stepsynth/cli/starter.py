"""``init``: a folder that runs as it is, and a config whose comments say what to change."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from stepsynth.errors import ConfigError, did_you_mean

__all__ = ["write_starter"]

_TASKS = ("classification",)


def write_starter(folder: Path, task: str) -> None:
    """Write ``config.yaml`` and the rows of the shipped example into a new or empty folder.

    Raises:
        ConfigError: unknown task, or the folder holds something already.
    """
    if task not in _TASKS:
        raise ConfigError(f"no starter for task {task!r}.", hint=did_you_mean(task, _TASKS))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{str(folder)!r} is not an empty folder.", hint="Name a new one; nothing was written.")
    packaged = resources.files("stepsynth") / "starter"
    # In a checkout the example's rows are not copied into the package, but stand beside it.
    rows = packaged if (packaged / "validation.csv").is_file() else Path(__file__).parents[3] / "examples" / "shop"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_bytes((packaged / f"{task}.yaml").read_bytes())
        for name in ("validation.csv", "test.csv"):
            (folder / name).write_bytes((rows / name).read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot write into {str(folder)!r}: {error.strerror}.", hint="Name another folder.") from None
