"""Runs a sweep's comparisons one after another; one that fails does not stop the others."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from stepsynth.errors import BudgetError, ConfigError, Interrupted, RunError, StepsynthError
from stepsynth.execution import execute_comparison
from stepsynth.journal import Cost
from stepsynth.journal.looking import Look
from stepsynth.methods import create_method
from stepsynth.report import render_sweep
from stepsynth.run.places import JOURNAL, SWEEP_FILE
from stepsynth.runtime.files import write_atomic
from stepsynth.runtime.shutdown import check_stop
from stepsynth.sweeps.checking import check_sweep
from stepsynth.sweeps.stored import locked
from stepsynth.sweeps.summary import Standing, dumped, earlier_standing, is_finished, summarise_sweep
from stepsynth.sweeps.tables import sweep_csv, sweep_markdown, title_of
from stepsynth.training.workers import check_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.execution import CheckedComparison
    from stepsynth.sweeps.spec import Part, SweepSpec

    Run = Callable[..., object]

__all__ = ["failures_of", "run_sweep"]


def run_sweep(
    spec: SweepSpec,
    *,
    run: Run,
    note: Callable[[str], None] = lambda _: None,
    checked: Mapping[Part, CheckedComparison] | None = None,
    jobs: int | None = None,
    on: str | None = None,
) -> dict[str, Any]:
    """Run or resume a sweep; write its table after every comparison.

    A comparison that fails is noted in the results, and the others are run; `failures_of` lists them. The same call goes
    on with what is missing.

    Args:
        spec: the sweep.
        run: runs one cell, see `stepsynth.execution.execute_comparison`.
        note: called with a sentence for everything fetched, chosen or failed.
        checked: from `stepsynth.sweeps.check_sweep`, if it was just called.
        jobs: how many students to train at once, see `stepsynth.training.workers.open_workers`.
        on: where to train them, see there.

    Returns:
        The content of ``sweep.json``.

    Raises:
        SweepProblems: something is wrong with it; nothing was spent.
        RunError: the table cannot be written; everything obtained is kept.
        Interrupted: a stop was asked for.
        Exception: a defect ended a comparison; raised after the others.
    """
    refuse_together(spec, jobs, on)
    known = check_sweep(spec, note) if checked is None else checked
    standings = {part: earlier_standing(spec, part, known[part]) for part in spec.parts}
    defects: list[Exception] = []
    purse = _Caps(spec)
    with locked(spec.folder):
        # The folder says what it is from the beginning.
        results = _write(spec, known, standings)
        for number, part in enumerate(spec.parts, start=1):
            check_stop()
            note(f"{part.title} ({number} of {len(spec.parts)} comparisons)")
            standing = standings[part]
            try:
                standing.results = execute_comparison(
                    part.config,
                    part.methods,
                    seeds=spec.seeds,
                    match=spec.match,
                    folder=spec.place(part),
                    reference=spec.reference,
                    max_seeds=spec.max_seeds,
                    run=purse.around(run),
                    note=note,
                    jobs=jobs,
                    on=on,
                    checked=known[part],
                )
            except Interrupted:
                with suppress(RunError):
                    _write(spec, known, standings)
                raise
            except (StepsynthError, OSError) as error:
                standing.results, standing.problem = None, " ".join(str(error).split())
                note(f"{part.title} failed: {standing.problem}")
            except Exception as error:
                # A defect, perhaps of a plug-in: the traceback is shown at the end, and the others are not lost.
                standing.results = None
                standing.problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                note(f"{part.title} failed: {standing.problem}")
                defects.append(error)
            results = _try_to_write(spec, known, standings, note, results, last=number == len(spec.parts))
    if defects:
        raise defects[0]
    return results


def refuse_together(spec: SweepSpec, jobs: int | None, on: str | None) -> None:
    """Refuse workers that cannot be had, and caps for a whole sweep whose cells run at once.

    Raises:
        ConfigError: the workers are wrong, or it has such caps.
    """
    if check_workers(on, jobs) and spec.capped:
        raise ConfigError(
            "the budget of a whole sweep holds only while its cells run one after another.",
            hint="Leave jobs and on out, or give each config a budget of its own.",
        )


def failures_of(results: dict[str, Any]) -> list[str]:
    """Return one line for every comparison of a sweep that failed."""
    return [f"{title_of(entry)}: {entry['problem']}" for entry in results["comparisons"] if entry["state"] == "failed"]


def _write(spec: SweepSpec, checked: Mapping[Part, CheckedComparison], standings: Mapping[Part, Standing]) -> dict[str, Any]:
    results = summarise_sweep(spec, checked, standings)
    write_atomic(spec.folder / SWEEP_FILE, dumped(results))
    write_atomic(spec.folder / "sweep.csv", sweep_csv(results))
    write_atomic(spec.folder / "sweep.md", sweep_markdown(results))
    write_atomic(spec.folder / "sweep.html", render_sweep(results))
    return results


def _try_to_write(
    spec: SweepSpec,
    checked: Mapping[Part, CheckedComparison],
    standings: Mapping[Part, Standing],
    note: Callable[[str], None],
    before: dict[str, Any],
    *,
    last: bool,
) -> dict[str, Any]:
    """Write the table; on a full disk only the last time counts, since there may be room again."""
    try:
        return _write(spec, checked, standings)
    except RunError as error:
        if last:
            raise
        note(str(error))
        return before


class _Caps:
    """The caps for all cells together: each cell gets what the others have left.

    A run counts what it sent before it sends it, and what a killed process left open counts as sent, so the caps are never
    passed as long as cells run one after another.
    """

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec

    def around(self, run: Run) -> Run:
        """Return the function that runs a cell, with the caps."""
        if not self._spec.capped:
            return run

        def capped(config: RunConfig, place: Path, title: str, students: Path) -> object:
            if not create_method(config).asks or is_finished(place):
                return run(config, place, title, students)
            limited, tight = self._limit(config, place)
            try:
                return run(limited, place, title, students)
            except BudgetError:
                if tight:
                    raise self._used_up() from None
                raise

        return capped

    def _limit(self, config: RunConfig, place: Path) -> tuple[RunConfig, bool]:
        """Return a cell's config with what is left for it, and whether only that can stop it, and no cap of its own.

        Raises:
            BudgetError: nothing is left.
        """
        spent, whole, own = self._spent(besides=place), self._spec.budget, config.budget
        update: dict[str, Any] = {}
        for name, used in (("requests", spent.sends), ("tokens", spent.tokens), ("usd", spent.usd)):
            cap, mine = getattr(whole, name), getattr(own, name)
            if cap is None:
                continue
            if (left := cap - used) <= 0:
                raise self._used_up()
            if mine is None or left < mine:
                update[name] = left
        tight = bool(update) and all(name in update or getattr(own, name) is None for name in ("requests", "tokens", "usd"))
        return config.model_copy(update={"budget": own.model_copy(update=update)}), tight

    def _spent(self, besides: Path | None = None) -> Cost:
        """Return what all cells have used, those too that a changed sweep no longer names."""
        found = self._spec.folder.glob(f"compare-*/*/{JOURNAL}")
        return sum((_spent(journal.parent) for journal in found if journal.parent != besides), Cost())

    def _used_up(self) -> BudgetError:
        spent = self._spent()
        cap, said = self._spec.budget, []
        if cap.requests is not None:
            said.append(f"{spent.sends:,} of {cap.requests:,} requests")
        if cap.tokens is not None:
            said.append(f"{spent.tokens:,} of {cap.tokens:,} tokens")
        if cap.usd is not None:
            said.append(f"${spent.usd:.4f} of ${cap.usd:.4f}")
        return BudgetError(
            f"the budget of the whole sweep is used up: {', '.join(said)}.",
            hint="Everything so far is kept; raise budget in the sweep and run it again.",
        )


def _spent(run: Path) -> Cost:
    """Return what caps count of a run: what was sent, and what a killed process may have sent."""
    with closing(Look(run / JOURNAL)) as journal:
        return journal.counted()
