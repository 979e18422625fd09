"""One attempt at a run or a comparison, from config to written files; the caller handles signals, logs and the display.

results = execute(config, Path("runs/tickets"))
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import ExitStack, closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

from stepsynth.comparison import (
    Match,
    check_known,
    check_max_seeds,
    choose_reference,
    comparison_markdown,
    look,
    parse_systems,
    plan_cells,
    read_looks,
    refuse_others,
    run_cells,
    summarise,
)
from stepsynth.config.addresses import refuse_folder
from stepsynth.errors import ConfigError, Interrupted, RunError, did_you_mean
from stepsynth.evaluation.power import seeds_power, seeds_power_line
from stepsynth.journal import Journal, holds_nothing
from stepsynth.journal.results import best_round
from stepsynth.loop import run_loop
from stepsynth.methods import create_method, trains_on
from stepsynth.registry import FAMILIES, METHODS, STUDENTS
from stepsynth.report import render_comparison
from stepsynth.report.derived import write_exports
from stepsynth.report.listing import ENDED_WITH
from stepsynth.run import JOURNAL, RunDirectory, answers_path
from stepsynth.run.answers import open_answers, refuse_network_answers
from stepsynth.run.data import load_run_data
from stepsynth.run.pausing import PauseNotes
from stepsynth.run.public import public_config
from stepsynth.run.settling import settle
from stepsynth.runtime.files import write_atomic
from stepsynth.runtime.progress import SilentProgress
from stepsynth.runtime.turns import Once, Turns
from stepsynth.tasks import create_family
from stepsynth.teachers import probe_teacher
from stepsynth.teachers.prices import price_of
from stepsynth.teachers.served import says_unlisted
from stepsynth.tracking import Tracking, make_trackers, tracked_run
from stepsynth.training import Together
from stepsynth.training.workers import check_workers, open_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stepsynth.comparison import System
    from stepsynth.config import RunConfig, TeacherConfig
    from stepsynth.runtime.progress import Progress
    from stepsynth.tracking import Tracker
    from stepsynth.training.workers import Workers

# The run whose log takes what is said in this context.
_logged: ContextVar[Path | None] = ContextVar("logged", default=None)

__all__ = [
    "CheckedComparison",
    "attempt_log",
    "check_comparison",
    "execute",
    "execute_comparison",
    "open_journal",
    "package_log",
    "rebuild",
    "trained_round",
]


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
    with _held(config, config.method.name):
        shown = SilentProgress() if progress is None else progress
        return _execute(config, folder, shown, students, log or package_log, trackers, together)


@contextmanager
def _held(config: RunConfig, *methods: str) -> Iterator[None]:
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


@contextmanager
def package_log(folder: Path) -> Iterator[logging.Handler]:
    """Write this package's log into ``logs/attempt-n.log``; no other logger is touched.

    Records of other runs in this process, in threads of their own, are left to those.
    """
    token = _logged.set(folder)
    with attempt_log(folder) as handler:
        handler.addFilter(lambda _: _logged.get() == folder)
        logger = logging.getLogger("stepsynth")
        logger.addHandler(handler)
        try:
            yield handler
        finally:
            logger.removeHandler(handler)
            _logged.reset(token)


@contextmanager
def attempt_log(folder: Path) -> Iterator[logging.Handler]:
    """Yield a handler that writes ``logs/attempt-n.log`` of a run directory; it is attached to no logger."""
    logs = folder / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    number = 1 + sum(1 for _ in logs.glob("attempt-*.log"))
    handler = logging.FileHandler(logs / f"attempt-{number}.log", encoding="utf-8")
    (logs / f"attempt-{number}.log").chmod(0o600)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    began = f"attempt {number} began at {time.strftime('%Y-%m-%dT%H:%M:%S')}"
    handler.handle(logging.LogRecord("stepsynth", logging.INFO, __file__, 0, began, None, None))
    try:
        yield handler
    except Exception as error:
        if not isinstance(error, Interrupted):
            # Without the message, which is the user's to keep; `stepsynth.report.listing` tells a failure from a stop by it.
            said = f"{ENDED_WITH}{type(error).__name__}"
            handler.handle(logging.LogRecord("stepsynth", logging.ERROR, __file__, 0, said, None, None))
        raise
    finally:
        handler.close()


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


def open_journal(directory: RunDirectory) -> Journal:
    """Open the journal of an existing run.

    Raises:
        RunError: it has none yet.
    """
    if not directory.journal_path.is_file():
        raise RunError(f"the run at {str(directory.path)!r} has no journal yet.", hint="Start it with `stepsynth run`.")
    return Journal(directory.journal_path)


def trained_round(directory: RunDirectory, wanted_round: int | None = None) -> int:
    """Return the round whose student answers: ``wanted_round``, or the best one.

    Raises:
        RunError: the run has no such student, or it is damaged.
    """
    folder = directory.path
    if not directory.journal_path.is_file():
        raise RunError(f"the run at {str(folder)!r} has not started.", hint="Run it first.")
    with closing(Journal(directory.journal_path)) as journal:
        rounds = journal.rounds()
        if not rounds or (wanted_round is not None and wanted_round not in rounds):
            wanted = "trained student" if wanted_round is None else f"student of round {wanted_round}"
            raise RunError(f"the run at {str(folder)!r} has no {wanted}.", hint=f"Trained rounds: {rounds or 'none yet'}.")
        number = best_round(journal) if wanted_round is None else wanted_round
        trains = trains_on(directory.config, journal)
    if trains == "none":
        raise RunError(
            f"the run at {str(folder)!r} has no student: the teacher answered itself.", hint="Name a run of another method."
        )
    if not directory.model_whole(number):
        raise RunError(
            f"the student of round {number} is missing or damaged.",
            hint="Resume the run to retrain it.",
        )
    return number


def execute_comparison(
    config: RunConfig,
    methods: str,
    *,
    seeds: int,
    match: str,
    folder: Path,
    reference: str | None = None,
    max_seeds: int | None = None,
    run: Callable[..., object],
    note: Callable[[str], None] = lambda _: None,
    jobs: int | None = None,
    on: str | None = None,
    checked: CheckedComparison | None = None,
) -> dict[str, Any]:
    """Run or resume a comparison; write its numbers, table and page into ``folder``.

    Args:
        config: the task and the settings of S3.
        methods: see `stepsynth.comparison.parse_systems`.
        seeds: how many, starting at ``config.seed``.
        match: ``rows``, ``requests``, ``tokens`` or ``usd``.
        folder: gets one run directory per method and seed.
        reference: the method that the others are compared with; see `stepsynth.comparison.choose_reference`.
        max_seeds: how many seeds there may be in the end; see `stepsynth.comparison.looks`.
        run: runs one cell; called with its config, run directory, title, and the folder of shared students. Where several
            run at once, in threads of their own, also with ``together``, see `execute`.
        note: called with a sentence for everything fetched or chosen.
        jobs: how many students to train at once, see `stepsynth.training.workers.open_workers`.
        on: where to train them, see there.
        checked: from `check_comparison` with the same arguments, if it was just called.

    Raises:
        UserError: the input is wrong; raised before anything is spent.
    """
    check_workers(on, jobs)
    checked = checked or check_comparison(
        config, methods, seeds=seeds, match=match, folder=folder, reference=reference, max_seeds=max_seeds, note=note
    )
    config, systems, power = checked.config, checked.systems, checked.power
    if power:
        note(seeds_power_line(power))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"cannot write into {str(folder)!r}: {error.strerror}.", hint="Name another folder.") from None

    with _held(config, *(system.method for system in systems)), _workers(on, jobs, note) as workers:
        turns, once = Turns(), Once()

        def run_cell(cell: RunConfig, path: Path, title: str, number: int) -> None:
            shared = {"together": Together(workers, number, turns, once)} if workers else {}
            run(cell, path, title, folder / "students", **shared)

        # One more than can be trained: it writes rows meanwhile.
        at_once = (lambda: workers.at_once() + 1) if workers else None
        matched = cast("Match", match)
        cells = run_cells(config, systems, seeds=seeds, match=matched, folder=folder, run=run_cell, at_once=at_once)
    results = {**summarise(cells, config, cast("Match", match), checked.reference), "power": power}
    results = look(results, read_looks(folder), max_seeds, note)
    write_atomic(folder / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_atomic(folder / "comparison.md", comparison_markdown(results))
    write_atomic(folder / "comparison.html", render_comparison(results))
    return results


@dataclass(frozen=True)
class CheckedComparison:
    """A comparison whose input was checked.

    Attributes:
        config: with nothing left open, except the source of seed rows, which depends on the method.
        systems: the methods.
        reference: the one that the others are compared with, if there is one.
        power: what a comparison of this size can show, see `stepsynth.evaluation.power.seeds_power`.
    """

    config: RunConfig
    systems: tuple[System, ...]
    reference: str | None
    power: dict[str, Any] | None


def check_comparison(
    config: RunConfig,
    methods: str,
    *,
    seeds: int,
    match: str,
    folder: Path,
    reference: str | None = None,
    max_seeds: int | None = None,
    note: Callable[[str], None] = lambda _: None,
    fetch: bool = True,
) -> CheckedComparison:
    """Check all of a comparison's input, and the cells that are there; nothing is written or spent.

    Args:
        config: see `execute_comparison`, as for the other arguments.
        methods: the methods.
        seeds: how many seeds.
        match: what all get the same amount of.
        folder: the comparison's folder.
        reference: the method that the others are compared with.
        max_seeds: how many seeds there may be in the end.
        note: called with a sentence for everything fetched or chosen.
        fetch: whether to fetch an embedded teacher that is chosen here.

    Raises:
        UserError: the input is wrong, or a cell was made with another config.
    """
    if match not in get_args(Match):
        raise ConfigError(f"match is {match!r}.", hint=did_you_mean(match, get_args(Match)))
    check_max_seeds(max_seeds, seeds)
    make_trackers(config.tracking)
    refuse_folder(folder)
    RunDirectory.refuse_network(folder)
    refuse_network_answers(answers_path(config.cache, folder))
    refuse_others(folder)
    # All cells have the same teacher: that of the first cell found.
    begun = next((RunDirectory.began_with(found.parent) for found in sorted(folder.glob("*/config.json"))), None)
    settled = settle(config, begun, note, fetch=fetch)
    # The source of seed rows depends on the method, so it is settled for each cell.
    config = settled.model_copy(update={"method": settled.method.model_copy(update={"seed_from": config.method.seed_from})})
    systems = parse_systems(methods, config)
    compared_with = choose_reference(systems, reference)
    planned = list(plan_cells(config, systems, seeds))
    if match == "usd":
        for teacher in [config.teacher, *(changed.teacher for _, changed, _ in planned)]:
            _check_price(teacher)
    power = _power_of(config, _check_cells(config, planned, seeds), seeds)
    check_known(config, systems, seeds, cast("Match", match), folder)
    return CheckedComparison(config, tuple(systems), compared_with, power)


@contextmanager
def _workers(on: str | None, jobs: int | None, note: Callable[[str], None]) -> Iterator[Workers | None]:
    workers = open_workers(on, jobs, note)
    try:
        yield workers
    finally:
        if workers is not None:
            workers.close()


def _power_of(config: RunConfig, test_rows: int, seeds: int) -> dict[str, Any] | None:
    """Return what a comparison of this size can show; the typical variances are of answers that are right or wrong."""
    return None if create_family(config.task).spans else seeds_power(test_rows, seeds)


def _check_cells(config: RunConfig, planned: Sequence[tuple[System, RunConfig, int]], seeds: int) -> int:
    """Check the data of every seed and changed method; return the number of test rows."""
    test_rows = 0
    for offset in range(seeds):
        inputs = load_run_data(config.model_copy(update={"seed": config.seed + offset}))
        test_rows = inputs.sealed.n if inputs.sealed else 0
    for system, changed, seed in planned:
        if system.changes and seed == config.seed:
            load_run_data(changed)
    return test_rows


def _check_price(teacher: TeacherConfig) -> None:
    price = price_of(teacher)
    if price is None or price.free:
        found = "none is known" if price is None else "there is nothing to pay"
        raise ConfigError(
            f"match=usd needs a price, and {found} for {teacher.model!r}.",
            hint="Match rows, requests or tokens, or set teacher.price.",
        )
