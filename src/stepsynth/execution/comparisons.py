"""One attempt at a comparison, from config to written files; a caller's function runs the cells.

results = execute_comparison(config, "gold,zerogen,s3", seeds=3, match="rows", folder=folder, run=run_cell)
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

from stepsynth.comparison.cells import Match, check_known, plan_cells, run_cells
from stepsynth.comparison.folder import began_with, note_beginning, refuse_others
from stepsynth.comparison.looks import check_max_seeds, look, read_looks
from stepsynth.comparison.markdown import comparison_markdown
from stepsynth.comparison.summary import summarise
from stepsynth.comparison.systems import choose_reference, parse_systems
from stepsynth.config.addresses import refuse_folder
from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.evaluation.power import seeds_power, seeds_power_line
from stepsynth.execution.runs import held_names
from stepsynth.report import render_comparison
from stepsynth.run import RunDirectory, answers_path
from stepsynth.run.answers import refuse_network_answers
from stepsynth.run.data import load_run_data
from stepsynth.run.settling import settle
from stepsynth.runtime.files import write_atomic
from stepsynth.runtime.turns import Once, Turns
from stepsynth.tasks import create_family
from stepsynth.teachers.prices import price_of
from stepsynth.tracking import make_trackers
from stepsynth.training import Together
from stepsynth.training.workers import check_workers, open_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from stepsynth.comparison.systems import System
    from stepsynth.config import RunConfig, TeacherConfig
    from stepsynth.training.workers import Workers

__all__ = ["CheckedComparison", "check_comparison", "execute_comparison"]


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
    note_beginning(folder, config)

    with held_names(config, *(system.method for system in systems)), _workers(on, jobs, note) as workers:
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
    # All cells have the same teacher: that of the first call.
    settled = settle(config, began_with(folder), note, fetch=fetch)
    # The source of seed rows depends on the method, so it is settled for each cell.
    own: dict[str, str] = {"seed_from": config.method.seed_from}
    if settled.method.demonstrations == settle(config, None).method.demonstrations:
        # They depend on the rows per answer; a comparison of an earlier version, which drew them, goes on with that.
        own["demonstrations"] = config.method.demonstrations
    config = settled.model_copy(update={"method": settled.method.model_copy(update=own)})
    systems = parse_systems(methods, config)
    compared_with = choose_reference(systems, reference)
    planned = list(plan_cells(config, systems, seeds))
    # What one method's settings do not allow is said before another one is run.
    for _, changed, _ in planned[: len(systems)]:
        settle(changed, None)
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
