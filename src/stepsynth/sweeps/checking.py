"""Everything that a sweep needs, checked before its first cell begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.comparison import cell_folder
from stepsynth.comparison.cells import plan_cells
from stepsynth.errors import ConfigError, Interrupted, StepsynthError
from stepsynth.execution import check_comparison
from stepsynth.generation.budget import check_price
from stepsynth.journal import holds_nothing
from stepsynth.methods import create_method
from stepsynth.run import JOURNAL, RunDirectory
from stepsynth.run.settling import settle
from stepsynth.runtime.shutdown import check_stop
from stepsynth.sweeps.spec import Problems
from stepsynth.sweeps.stored import check_folder
from stepsynth.teachers import probe_teacher
from stepsynth.teachers.prices import price_of
from stepsynth.teachers.served import says_unlisted

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepsynth.config import RunConfig
    from stepsynth.execution import CheckedComparison
    from stepsynth.sweeps.spec import Part, SweepSpec

__all__ = ["check_sweep"]

# Backends whose check may fetch a model.
_FETCHING = ("openvino",)


def check_sweep(
    spec: SweepSpec, note: Callable[[str], None] = lambda _: None, *, fetch: bool = True
) -> dict[Part, CheckedComparison]:
    """Check every comparison: data, methods, models, teachers, the cells that are there. Nothing is written or spent.

    Args:
        spec: the sweep.
        note: called with a sentence for everything fetched or chosen.
        fetch: whether to fetch an embedded teacher that is missing.

    Returns:
        What each comparison was checked to be.

    Raises:
        SweepProblems: what is wrong, a line per problem.
        Interrupted: a stop was asked for.
    """
    problems, checked = Problems(), {}
    try:
        check_folder(spec.folder, spec.name)
    except StepsynthError as error:
        problems.add(error)
        problems.refuse()
    probed: dict[str, str] = {}
    for part in spec.parts:
        check_stop()
        try:
            checked[part] = check_comparison(
                part.config,
                part.methods,
                seeds=spec.seeds,
                match=spec.match,
                folder=spec.place(part),
                reference=spec.reference,
                max_seeds=spec.max_seeds,
                note=note,
                fetch=fetch,
            )
            for line in _check_cells(spec, part, checked[part], probed, note, fetch=fetch):
                problems.add(line, part.title)
        except Interrupted:
            raise
        except (StepsynthError, OSError) as error:
            problems.add(error, part.title)
    problems.refuse(len(spec.parts))
    return checked


def _check_cells(
    spec: SweepSpec,
    part: Part,
    checked: CheckedComparison,
    probed: dict[str, str],
    note: Callable[[str], None],
    *,
    fetch: bool,
) -> list[str]:
    """Return what is wrong with a comparison's cells beyond what a comparison checks at once.

    Args:
        spec: the sweep.
        part: the comparison.
        checked: as it was checked.
        probed: what was said of each teacher before; filled here.
        note: called with a sentence.
        fetch: whether to fetch an embedded teacher.
    """
    found: dict[str, None] = {}
    for system, changed, seed in plan_cells(checked.config, checked.systems, spec.seeds):
        place = cell_folder(spec.place(part), system, seed)
        RunDirectory.refuse_held(place)
        if spec.capped:
            _check_cap(spec, changed)
        asks = create_method(changed).asks
        if not asks or not holds_nothing(place / JOURNAL) or (changed.teacher.backend in _FETCHING and not fetch):
            continue
        settled = settle(changed, RunDirectory.began_with(place), note, fetch=fetch).teacher
        key = settled.model_dump_json()
        if key not in probed:
            try:
                said = probe_teacher(settled, note)
                probed[key] = ""
                if says_unlisted(said):
                    note(f"{part.title}: {said}")
            except Interrupted:
                raise
            except StepsynthError as error:
                probed[key] = str(error)
        if probed[key]:
            found[probed[key]] = None
    return list(found)


def _check_cap(spec: SweepSpec, config: RunConfig) -> None:
    """Refuse a cap for the whole sweep that cannot be kept."""
    if not create_method(config).asks:
        return
    check_price(config.teacher, spec.budget, price_of(config.teacher))
    if config.teacher.mode == "batch":
        raise ConfigError(
            "budget of a sweep cannot be kept with teacher.mode=batch: the provider may work on a stopped cell's batches.",
            hint="Remove budget from the sweep and cap each run with the budget of its config.",
        )
