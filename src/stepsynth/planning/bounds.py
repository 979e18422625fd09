"""The most that a run can ask for, without asking anything."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stepsynth.config import BudgetConfig
from stepsynth.generation.room import with_room
from stepsynth.methods import create_method
from stepsynth.planning.plans import all_plans, planning_context
from stepsynth.planning.questions import row_sample, with_long_reasons
from stepsynth.teachers.prices import price_of
from stepsynth.teachers.purse import Bill, Purse
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from stepsynth.config import RunConfig
    from stepsynth.methods import MethodContext, Plan
    from stepsynth.run.data import RunData
    from stepsynth.types import Request

__all__ = ["most_asked", "most_rows"]


def most_asked(config: RunConfig, inputs: RunData) -> Bill:
    """Return the most requests, tokens and dollars (``None`` without a price) of a run, by its plans and its caps.

    Assumed is that the student gets every row wrong, that every stage asks ``max_overgeneration`` times, and that every
    answer is as long as it may be. Known answers are not taken off; attempts that are repeated come on top.

    Args:
        config: the run's config, with nothing left open.
        inputs: its data.
    """
    method, budget = create_method(config), config.budget
    if not method.asks:
        return Bill(usd=0.0)
    ctx = with_long_reasons(planning_context(config, method, inputs))
    gold = len(inputs.validation.harvest) + len(inputs.validation.select)
    if method.student == "none":
        judged = len(inputs.validation.select) + (inputs.sealed.n if inputs.sealed else 0)
        asked = [(judged, row_sample(method, ctx, 1))]
    else:
        asked = [found for plan in all_plans(method, ctx) if (found := _most_of(plan, ctx))[0]]
    if asked and config.method.second_reading != "none":
        # Every answer is read again, and at the end every labelled row; a question is no longer than the longest prompt here.
        longest = [request for _, requests in asked for request in requests]
        asked.append((config.method.readings * (sum(count for count, _ in asked) + gold), longest))
    purse, total = Purse(config.teacher, BudgetConfig(), price_of(config.teacher)), Bill(usd=0.0)
    for count, requests in asked:
        costs = [purse.worst([with_room(config.teacher, request)]) for request in requests]
        dollars = [cost.usd for cost in costs if cost.usd is not None]
        usd = None if purse.price is None or total.usd is None else total.usd + count * max(dollars, default=0.0)
        total = Bill(total.requests + count, total.tokens + count * max(cost.tokens for cost in costs), usd)
    return Bill(
        min(total.requests, budget.requests or total.requests),
        min(total.tokens, budget.tokens or total.tokens),
        budget.usd if total.usd is None else min(total.usd, budget.usd or total.usd),
    )


def most_rows(config: RunConfig, inputs: RunData) -> int:
    """Return the most rows that a run accepts; see `most_asked`."""
    method = create_method(config)
    plans = all_plans(method, planning_context(config, method, inputs))
    return sum(sum(plan.targets.values()) for plan in plans if plan.kind != StageKind.RATIONALES)


def _most_of(plan: Plan, ctx: MethodContext) -> tuple[int, list[Request]]:
    """Return how many requests a stage makes at most, and the first one for every label."""
    targets = {label: rows for label, rows in plan.targets.items() if rows}
    first = [plan.request(label, 0, 0) for label in targets]
    if plan.kind == StageKind.ANNOTATE:
        return sum(targets.values()) * ctx.config.method.readings, first
    most = ctx.config.method.max_overgeneration
    return sum(math.ceil(rows * most / max(first[0].parts, 1)) for rows in targets.values()), first
