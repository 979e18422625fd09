"""Methods x seeds at a matched budget: the same teacher, the same gold rows, one file of answers.

    systems = parse_systems("gold,zerogen,seed-only,s3", config)
    cells = run_cells(config, systems, seeds=3, match="rows", folder=folder, run=run_config)

S3 runs first for every seed; what it used (accepted rows, or the requests, tokens or dollars of its
answers) is the budget of the others. Every cell has its own run directory, so a comparison resumes
like a run. All seeds are tested on the same sealed rows, so every difference is paired; a seed
determines the validation rows and the randomness of teacher and student.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from stepsynth.comparison.cell import read_cell
from stepsynth.comparison.systems import changed_config
from stepsynth.comparison.together import run_together
from stepsynth.config import SEED_END, MatchConfig
from stepsynth.errors import ConfigError, RunError
from stepsynth.journal.database import refuse_damaged
from stepsynth.methods import MATCHED_OVERGENERATION
from stepsynth.run import JOURNAL, RunDirectory
from stepsynth.runtime.shutdown import check_stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from stepsynth.comparison.cell import Cell
    from stepsynth.comparison.systems import System
    from stepsynth.config import RunConfig

__all__ = ["Match", "cell_folder", "check_known", "plan_cells", "run_cells"]

Match = Literal["rows", "requests", "tokens", "usd"]


def plan_cells(config: RunConfig, systems: Sequence[System], seeds: int) -> Iterator[tuple[System, RunConfig, int]]:
    """Yield every cell's system, config and seed: seed by seed, the one that sets the budget first.

    These configs have no budgets yet: those follow from that first cell.

    Raises:
        ConfigError: there is no test set to compare on, or the last seed is too large.
    """
    if (last := config.seed + seeds - 1) >= SEED_END:
        raise ConfigError(
            f"seed {config.seed} with {seeds} seeds ends at {last}, but a seed must be less than {SEED_END}.",
            hint="Give a smaller seed, or fewer seeds.",
        )
    if config.data.test is None:
        raise ConfigError(
            "a comparison needs data.test.", hint="Give a labelled test file; it is opened at the end of each cell."
        )
    ordered = sorted(systems, key=lambda system: not system.sets_budget)
    for offset in range(seeds):
        for system in ordered:
            changed = changed_config(config, system)
            # All seeds are tested on the same rows.
            seed = config.data.test.seed
            test = config.data.test.model_copy(update={"seed": config.seed if seed is None else seed})
            data = changed.data.model_copy(update={"test": test})
            yield system, changed.model_copy(update={"seed": config.seed + offset, "data": data}), config.seed + offset


def run_cells(
    config: RunConfig,
    systems: Sequence[System],
    *,
    seeds: int,
    match: Match,
    folder: Path,
    run: Callable[[RunConfig, Path, str, int], object],
    at_once: Callable[[], int] | None = None,
) -> list[Cell]:
    """Run or resume every cell.

    Args:
        config: the task and the settings of S3.
        systems: from `parse_systems`.
        seeds: how many, starting at ``config.seed``.
        match: the unit of the common budget.
        folder: gets one run directory per cell.
        run: runs one cell: its config, its run directory, its title, its number, from 1.
        at_once: how many cells may run at once, each in its own thread; ``None`` runs one after the other in this one.

    Raises:
        StepsynthError: the reason a cell stopped; the same command resumes.
    """
    check_known(config, systems, seeds, match, folder)
    planned = list(plan_cells(config, systems, seeds))
    cells: dict[int, Cell] = {}

    def needs(place: int) -> int | None:
        """Return the place of the cell that sets this one's budget."""
        same = (other for other, (system, _, seed) in enumerate(planned) if system.sets_budget and seed == planned[place][2])
        return next(same, None) if planned[place][0].takes_budget else None

    def run_cell(place: int) -> Cell:
        # A stop may have come while the cell before was completed.
        check_stop()
        system, changed, seed = planned[place]
        need = needs(place)
        cell_config = _budgeted(changed, system, None if need is None else cells[need], match)
        where = cell_folder(folder, system, seed)
        if cell_config.method.seed_from == "auto" and (known := seed_source(folder, system)) is not None:
            cell_config = cell_config.model_copy(update={"method": cell_config.method.model_copy(update={"seed_from": known})})
        run(cell_config, where, f"{system.name}, seed {seed} ({place + 1} of {len(planned)})", place + 1)
        cells[place] = read_cell(where, system.name)
        return cells[place]

    if at_once is None:
        return [run_cell(place) for place in range(len(planned))]
    return run_together(len(planned), run_cell, needs=needs, at_once=at_once)


def cell_folder(folder: Path, system: System, seed: int) -> Path:
    """Return the run directory of a cell in a comparison's folder."""
    return folder / f"{system.folder}-{seed}"


def seed_source(folder: Path, system: System) -> str | None:
    """Return what the seed rows of a method's cells are written from (``method.seed_from``); ``None`` before the first cell.

    A version may choose otherwise than the one that ran the first seeds did.
    """
    cells = (found for found in sorted(folder.glob("*/config.json")) if found.parent.name.rpartition("-")[0] == system.folder)
    return next((RunDirectory.read(found.parent).config.method.seed_from for found in cells), None)


def check_known(config: RunConfig, systems: Sequence[System], seeds: int, match: Match, folder: Path) -> None:
    """Refuse cells of another config, or that cannot be read, before a new one is paid for; their budgets are not checked here.

    Raises:
        RunError: there is such a cell.
    """
    budgeted = any(system.sets_budget for system in systems)
    for system, changed, seed in plan_cells(config, systems, seeds):
        place = cell_folder(folder, system, seed)
        RunDirectory.refuse_others(place)
        if not (place / "config.json").exists():
            continue
        refuse_damaged(place / JOURNAL)
        expected, stored = changed, RunDirectory.read(place).config.method
        if budgeted and system.takes_budget:
            update: dict[str, Any] = {"max_overgeneration": max(MATCHED_OVERGENERATION, changed.method.max_overgeneration)}
            if match != "rows":
                known = stored.match is not None and stored.match.unit == match
                update["match"] = stored.match if known else MatchConfig(unit=match, amount=1)
            elif stored.match is None:
                update["seed_rows"] = stored.seed_rows
            expected = changed.model_copy(update={"method": changed.method.model_copy(update=update)})
        RunDirectory.check(place, expected)


def _budgeted(config: RunConfig, system: System, budget: Cell | None, match: Match) -> RunConfig:
    """Give a cell the loop's budget; an ablation of the loop keeps its own rounds and is only measured."""
    if budget is None or not system.takes_budget:
        return config
    update: dict[str, Any] = {"max_overgeneration": max(MATCHED_OVERGENERATION, config.method.max_overgeneration)}
    if match == "rows":
        update["seed_rows"] = budget.spent_rows
    else:
        amount = {"requests": budget.requests, "tokens": budget.tokens, "usd": budget.usd}[match]
        if not amount:
            raise RunError(
                f"{match} cannot be matched: S3's answers cost {'an unknown amount' if amount is None else 'nothing'}.",
                hint="Match rows, requests or tokens instead.",
            )
        update["match"] = MatchConfig(unit=match, amount=amount)
    return config.model_copy(update={"method": config.method.model_copy(update=update)})
