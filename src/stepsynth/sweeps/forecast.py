"""What a sweep would do: its cells, which of them are there, and what the others may ask for at most."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stepsynth.comparison import cell_folder
from stepsynth.comparison.cells import plan_cells
from stepsynth.methods import MATCHED_OVERGENERATION, create_method
from stepsynth.planning.bounds import most_asked, most_rows
from stepsynth.run.data import load_run_data
from stepsynth.run.places import is_sweep
from stepsynth.run.settling import settle
from stepsynth.runtime.shutdown import check_stop
from stepsynth.sweeps.summary import is_finished
from stepsynth.teachers.purse import Bill

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepsynth.config import RunConfig
    from stepsynth.execution import CheckedComparison
    from stepsynth.sweeps.spec import Part, SweepSpec

__all__ = ["plan_sweep"]


def plan_sweep(spec: SweepSpec, checked: Mapping[Part, CheckedComparison]) -> dict[str, Any]:
    """Return what a sweep would do, as plain values; nothing is asked and nothing is written.

    Args:
        spec: the sweep.
        checked: from `stepsynth.sweeps.check_sweep`.

    Returns:
        ``sweep``, ``folder``, ``begun``, ``comparisons`` (each with ``cells``, ``finished`` and ``at_most``: ``requests``,
        ``tokens`` and ``usd`` of the cells that are not finished), and the sums ``cells``, ``finished`` and ``at_most``.
    """
    comparisons = []
    for part in spec.parts:
        check_stop()
        comparisons.append(_comparison(spec, part, checked[part]))
    most = _sum([Bill(**found["at_most"]) for found in comparisons])
    cap = spec.budget
    most = Bill(
        min(most.requests, cap.requests or most.requests),
        min(most.tokens, cap.tokens or most.tokens),
        cap.usd if most.usd is None else min(most.usd, cap.usd or most.usd),
    )
    return {
        "sweep": spec.name,
        "folder": str(spec.folder),
        "begun": is_sweep(spec.folder),
        "seeds": spec.seeds,
        "comparisons": comparisons,
        "cells": sum(found["cells"] for found in comparisons),
        "finished": sum(found["finished"] for found in comparisons),
        "at_most": asdict(most),
    }


def _comparison(spec: SweepSpec, part: Part, checked: CheckedComparison) -> dict[str, Any]:
    cells = list(plan_cells(checked.config, checked.systems, spec.seeds))
    done = [(system, is_finished(cell_folder(spec.place(part), system, seed))) for system, _, seed in cells]
    bills: list[Bill] = []
    loop: tuple[int, Bill] | None = None
    # Seeds draw other rows, but as many of them: the first one stands for all.
    for system, changed, _ in cells[: len(checked.systems)]:
        left = sum(known is system and not finished for known, finished in done)
        config = settle(changed, None)
        if loop is not None and system.takes_budget:
            config = _budgeted(config, loop[0])
        if not create_method(config).asks or not (left or system.sets_budget):
            continue
        inputs = load_run_data(config)
        bill = most_asked(config, inputs)
        if system.sets_budget:
            loop = most_rows(config, inputs), bill
        elif loop is not None and system.takes_budget and spec.match != "rows":
            bill = loop[1]
        bills += [bill] * left
    return {
        "data_set": part.data_set,
        "setting": part.setting or None,
        "folder": part.folder,
        "methods": [system.name for system in checked.systems],
        "cells": len(cells),
        "finished": sum(finished for _, finished in done),
        "at_most": asdict(_sum(bills)),
    }


def _budgeted(config: RunConfig, rows: int) -> RunConfig:
    """Return a cell that gets as many rows as the loop may have."""
    update = {"seed_rows": max(rows, 2), "max_overgeneration": max(MATCHED_OVERGENERATION, config.method.max_overgeneration)}
    return config.model_copy(update={"method": config.method.model_copy(update=update)})


def _sum(bills: list[Bill]) -> Bill:
    dollars = [bill.usd for bill in bills]
    usd = None if None in dollars else sum(each for each in dollars if each is not None)
    return Bill(sum(bill.requests for bill in bills), sum(bill.tokens for bill in bills), usd)
