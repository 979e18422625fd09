"""Two small data sets for sweeps: the tests' tiny student under a probe, the fake teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from world import World, build_world

__all__ = ["build_sweep", "data_set", "write_sweep"]


def data_set(folder: Path, *, validation: int = 6, test: int = 8, **changes: Any) -> World:
    """Write a data set into a folder that has its name."""
    world = build_world(folder, validation=validation, test=test)
    small = {
        "task.name": folder.name,
        "student.head": "probe",
        "student.epochs": 1,
        "method.seed_rows": 6,
        "method.rounds": 0,
        "method.rationales": 0,
        "report.gap": False,
    }
    world.write_config({**small, **{key.replace("__", "."): value for key, value in changes.items()}})
    return world


def write_sweep(folder: Path, **changes: Any) -> Path:
    """Write a sweep over the data sets ``one`` and ``two``; a changed key that is ``None`` is left out."""
    values: dict[str, Any] = {
        "name": "small",
        "data_sets": {"one": "one/config.yaml", "two": {"config": "two/config.yaml", "set": {"data.validation.sample": 15}}},
        "methods": ["gold", "zerogen"],
        "seeds": 2,
        **changes,
    }
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}, sort_keys=False), encoding="utf-8")
    return file


def build_sweep(folder: Path, **changes: Any) -> Path:
    """Write two data sets and a sweep over them; return its file."""
    data_set(folder / "one")
    data_set(folder / "two")
    return write_sweep(folder, **changes)
