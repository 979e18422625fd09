"""Small finished runs of every family, made once per process, for tests that only read them."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from family_worlds import build_family_world, lend_student
from stepsynth.execution import execute
from stepsynth.run import RunDirectory

__all__ = ["finished_run", "run_directory"]


@cache
def _base() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    folder = tempfile.TemporaryDirectory(prefix="stepsynth-runs-")
    return folder, lend_student(Path(folder.name) / "student")


def finished_run(family: str, method: str = "s3") -> Path:
    """Return the run directory of a finished run; it has 20 validation rows and 10 test rows."""
    # A cache tells a default from the same value given: the run would be made twice, over itself.
    return _finished(family, method)


@cache
def _finished(family: str, method: str) -> Path:
    folder, student = _base()
    changes: dict[str, Any] = {
        "method__name": method,
        "method__rounds": 0,
        "student__epochs": 1,
        "method__rationales": 2,
        "cache": None,
    }
    world = build_family_world(Path(folder.name) / f"{family}-{method}", family, student=student, **changes)
    run = world.folder / "runs" / "run"
    execute(world.config(), run)
    return run


def run_directory(family: str, method: str = "s3") -> RunDirectory:
    """Return a finished run for reading."""
    return RunDirectory.read(finished_run(family, method))
