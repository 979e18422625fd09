"""Two small data sets for sweeps: the tests' tiny student under a probe, the fake teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from world import World, build_world

__all__ = ["build_sweep", "data_set", "invented_results", "write_sweep"]


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


def invented_results(data_sets: int = 6, *, long: str = "") -> dict[str, Any]:
    """Return the content of a ``sweep.json`` with two methods; the last comparison failed.

    Args:
        data_sets: how many.
        long: a word that is put behind every name.
    """
    difference: dict[str, Any] = {"value": 0.05, "ci95": [-0.01, 0.11], "p": 0.08, "p_holm": 0.08, "per_seed": []}
    score = {"value": 0.7, "ci95": [0.6, 0.8]}
    usage = {"per_seed": [], "rows": [60, 64], "requests": [0, 120], "tokens": [0, 9000], "usd": [0.0, None], "minutes": 1.5}
    methods = [f"gold{long}", f"s3{long}"]
    systems = [
        {"name": methods[0], "score": score, "difference": None, "rank": 2.0, **usage},
        {"name": methods[1], "score": score, "difference": difference, "rank": 1.0, **usage},
    ]
    cell: dict[str, Any] = {
        "seed": 0,
        "state": "finished",
        "metric": "accuracy",
        "score": 0.7,
        "round": 0,
        "rows": 60,
        "accepted_rows": 60,
    }
    cell |= {"requests": 0, "tokens": 0, "usd": 0.0, "minutes": 1.0, "folder": "compare-a/gold-0"}
    names = [f"set{number}{long}" for number in range(data_sets)]
    entry: dict[str, Any] = {
        "setting": None,
        "folder": "compare-a",
        "state": "finished",
        "problem": None,
        "task": "a",
        "student": f"tiny{long}",
    }
    entry |= {"teacher": {"backend": "openai", "model": f"large{long}"}, "budget": None, "metric": "accuracy", "test_rows": 100}
    entry |= {"seeds": [0], "systems": systems, "warnings": [f"Small test set. {long}"]}
    entry |= {"cells": [{**cell, "method": method} for method in methods]}
    failed = {**entry, "state": "failed", "problem": f"the teacher fell silent {long}", "systems": [], "metric": None}
    average = {key: difference[key] for key in ("value", "ci95")} | {"other_data_sets_ci95": [-0.02, 0.12], "ahead_on": 5}
    average |= {"behind_on": 0, "established_ahead_on": 2, "established_behind_on": 0}
    averaged = [
        {"name": methods[0], "data_sets": data_sets, "score": score, "difference": None, "rank": 2.0, "best_on": 0},
        {"name": methods[1], "data_sets": data_sets, "score": score, "difference": average, "rank": 1.0, "best_on": data_sets},
    ]
    return {
        "format": 1,
        "sweep": f"invented{long}",
        "data_sets": [*names, f"last{long}"],
        "settings": [],
        "methods": methods,
        "seeds": 1,
        "match": "rows",
        "reference": methods[0],
        "comparisons": [*({**entry, "data_set": name} for name in names), {**failed, "data_set": f"last{long}"}],
        "averages": [{"setting": None, "data_sets": names, "systems": averaged}],
        "warnings": ["1 of 7 comparisons are not finished; the averages are without them."],
    }
