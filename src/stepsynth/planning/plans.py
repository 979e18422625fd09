"""What a method would ask for, before anything is known of its student or its reasons."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stepsynth.data import deal_folds
from stepsynth.methods import MethodContext
from stepsynth.methods.own import plans_of
from stepsynth.prompts import Prompts
from stepsynth.tasks import create_family
from stepsynth.types import Mistake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.config import RunConfig
    from stepsynth.methods import Method, Plan
    from stepsynth.run.data import RunData
    from stepsynth.types import Example

__all__ = ["all_plans", "planning_context", "shown_rows"]


def planning_context(config: RunConfig, method: Method, inputs: RunData) -> MethodContext:
    """Return a method's data as if its student had got every gold row wrong, with labels as reasons."""
    harvest, family = shown_rows(method, inputs), create_family(config.task)
    mistakes = [Mistake(example, "", 1.0) for example in harvest]
    reasons = {name: [name or "reason"] for name in config.task.labels or [""]}
    ctx = MethodContext(config, Prompts(config.task), family, harvest, inputs.contexts, lambda: reasons, lambda _: mistakes)
    ctx = replace(ctx, pool=inputs.pool.rows if inputs.pool else ())
    return replace(ctx, together=deal_folds(harvest, config.method.folds, config.seed).together) if method.crossfits else ctx


def shown_rows(method: Method, inputs: RunData) -> tuple[Example, ...]:
    """Return the gold rows that may feed the loop."""
    return (*inputs.validation.harvest, *(inputs.validation.select if method.crossfits else ()))


def all_plans(method: Method, ctx: MethodContext) -> Iterator[Plan]:
    """Yield the plans of all rounds."""
    for number in range(method.rounds + 1):
        yield from plans_of(method, number, ctx)
