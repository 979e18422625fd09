"""``init``: write a folder that runs as it is, with a config whose comments say what to change."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.presets import write_new_folder

__all__ = ["STARTERS", "write_starter"]

# Task family -> the shipped example that its starter uses.
STARTERS = {
    "classification": "shop",
    "multi_label": "topics",
    "pair": "claims",
    "extractive_qa": "handbook",
}


def write_starter(folder: Path, task: str) -> None:
    """Write ``config.yaml`` and the rows of the family's shipped example into a new or empty folder.

    Args:
        folder: the folder.
        task: a task family.

    Raises:
        ConfigError: the task is unknown, or the folder is not empty.
    """
    if task not in STARTERS:
        raise ConfigError(f"unknown task family {task!r}.", hint=did_you_mean(task, STARTERS))
    example = STARTERS[task]
    packaged = resources.files("stepsynth") / "starter"
    rows = packaged / "data" / task
    # In a checkout the example's rows are not copied into the package; they are in examples/.
    if not rows.is_dir():
        rows = Path(__file__).parents[3] / "examples" / example
    files = {"config.yaml": (packaged / f"{task}.yaml").read_bytes()}
    for file in rows.iterdir():
        if file.name.startswith(("validation.", "test.")):
            files[file.name] = file.read_bytes()
    write_new_folder(folder, files)
