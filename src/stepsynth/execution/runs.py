"""One attempt at a run, from config to written files."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

from stepsynth.config.addresses import refuse_folder
from stepsynth.errors import RunError
from stepsynth.journal import Journal, holds_nothing
from stepsynth.loop import run_loop
from stepsynth.methods import create_method
from stepsynth.registry import FAMILIES, METHODS, STUDENTS
from stepsynth.report.derived import write_exports
from stepsynth.run import JOURNAL, RunDirectory, answers_path
from stepsynth.run.answers import open_answers, refuse_network_answers
from stepsynth.run.data import load_run_data
from stepsynth.run.existing import open_journal
from stepsynth.run.logs import package_log
from stepsynth.run.pausing import PauseNotes
from stepsynth.run.public import public_config
from stepsynth.run.settling import settle
from stepsynth.runtime.progress import SilentProgress
from stepsynth.teachers import probe_teacher
from stepsynth.teachers.served import says_unlisted
from stepsynth.tracking import Tracking, make_trackers, tracked_run
from stepsynth.training import Together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.runtime.progress import Progress
    from stepsynth.tracking import Tracker

__all__ = ["execute", "held_names", "rebuild"]


def execute(
    config: RunConfig,
    folder: Path,
    *,
    progress: Progress | None = None,
    students: Path | None = None,
    log: Callable[[Path], AbstractContextManager[object]] | None = None,
    trackers: Sequence[Tracker] = (),
    together: Together | None = None,
) -> dict[str, Any]:
    """Run or resume; everything is checked before the folder is made or a request is sent.

    Args:
        config: the checked config.
        folder: the run directory.
        progress: receives the reports.
        students: a folder of trained students that several runs share.
        log: opens the log of this attempt, given the run directory; `package_log` by default.
        trackers: experiment trackers that a program gave, besides those that the config names.
        together: what it shares with other runs that go on at the same time.

    Returns:
        The content of ``results.json``.

    Raises:
        StepsynthError: the reason it stopped; everything obtained is kept.
        Interrupted: a stop was asked for, see `stepsynth.runtime.shutdown`.
    """
    with held_names(config, config.method.name):
        shown = SilentProgress() if progress is None else progress
        return _execute(config, folder, shown, students, log or package_log, trackers, together)


@contextmanager
def held_names(config: RunConfig, *methods: str) -> Iterator[None]:
    """Keep the names that a run uses bound to the same classes until it ends."""
    with ExitStack() as held:
        for registry, names in ((METHODS, methods), (FAMILIES, (config.task.family,)), (STUDENTS, (config.student.kind,))):
            for name in filter(None, names):
                held.enter_context(registry.held(name))
        yield


def _execute(
    config: RunConfig,
    folder: Path,
    progress: Progress,
    students: Path | None,
    log: Callable[[Path], AbstractContextManager[object]],
    given: Sequence[Tracker],
    together: Together | None,
) -> dict[str, Any]:
    refuse_folder(folder)
    RunDirectory.refuse_network(folder)
    refuse_network_answers(answers_path(config.cache, folder.parent))
    trackers = [*make_trackers(config.tracking), *((None, tracker) for tracker in given)]
    RunDirectory.refuse_held(folder)
    RunDirectory.refuse_left_behind(folder)
    config = settle(config, RunDirectory.began_with(folder), progress.note, fetch=create_method(config).asks)
    inputs = load_run_data(config, progress)
    for note in inputs.notes:
        progress.note(note)
    # A run with answers may have all that it needs; then it needs no teacher.
    if holds_nothing(folder / JOURNAL) and create_method(config).asks:
        said = probe_teacher(config.teacher, progress.note)
        if says_unlisted(said):
            progress.note(said)
    with closing(RunDirectory.open(folder, config)) as directory, log(folder):
        shared = open_answers(directory.cache_path(), config.teacher, progress.note)
        with closing(Journal(directory.journal_path, shared)) as journal:
            group = students.parent.name if students else ""
            shown = public_config(config) if trackers else {}
            told = Tracking(config, folder, journal, trackers, progress.note, group=group, params=shown)
            with tracked_run(told) as tracking:
                run_loop(
                    directory,
                    journal,
                    inputs,
                    students=students,
                    progress=PauseNotes(progress, folder),
                    scored=tracking.update,
                    together=together,
                )
                results = write_exports(journal, directory)
                tracking.finish(results)
            return results


def rebuild(folder: Path) -> dict[str, Any]:
    """Rewrite the derived files of a run; return the results.

    Raises:
        RunError: no student has been trained yet.
    """
    directory = RunDirectory.read(folder)
    with closing(open_journal(directory)) as journal:
        if not journal.rounds():
            raise RunError(f"the run at {str(folder)!r} has no trained student yet.", hint="Resume the run first.")
        return write_exports(journal, directory)
