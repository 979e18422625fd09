"""Whole small runs in this process: made, changed behind the program's back, gone on with."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.journal import Journal
from stepsynth.loop import run_loop
from stepsynth.report.derived import write_exports
from stepsynth.run import RunDirectory
from stepsynth.run.data import load_run_data
from stepsynth.teachers.fake import FakeTeacher

if TYPE_CHECKING:
    from stepsynth.config import RunConfig
    from stepsynth.students import Student

__all__ = ["copied", "go_on"]


def go_on(
    config: RunConfig, folder: Path, teacher: FakeTeacher | None = None, student: Student | None = None
) -> tuple[dict[str, Any], FakeTeacher]:
    """Start a run or go on with it; return its results and the teacher, which knows what it was asked."""
    teacher = teacher or FakeTeacher(identity=config.teacher.identity())
    with closing(RunDirectory.open(folder, config)) as directory, closing(Journal(directory.journal_path)) as journal:
        run_loop(directory, journal, load_run_data(config), teacher=teacher, student=student)
        return write_exports(journal, directory), teacher


def copied(run: Path, root: Path) -> Path:
    """Return a copy of a run under the same name, so that its derived files are the same."""
    target = root / "copy" / run.name
    shutil.copytree(run, target)
    return target
