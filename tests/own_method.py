"""A method in one file outside of the package: rows between two gold rows of a label, then rows like its mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import stepsynth as ss
from stepsynth.methods import MethodContext, Plan, rng_for
from stepsynth.methods.extrapolation import ExtrapolationPlan

__all__ = ["Between"]


class Between(ss.Method):
    """Asks for a row that lies between two gold rows of its label; each round after that extrapolates mistakes."""

    name = "between"

    def __init__(self, per_label: int = 4, again: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.per_label, self.again = per_label, again
        self.rounds = int(again)

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        if round_number == 0:
            yield ss.PromptPlan(
                ctx,
                lambda label, number, given: self.prompt(ctx, label, number, given),
                kind="between",
                wanted=dict.fromkeys(ctx.config.task.labels, self.per_label),
                source=lambda label, number: self.rows(ctx, label)[number % len(self.rows(ctx, label))],
            )
        elif mistakes := ctx.mistakes(round_number - 1):
            yield ExtrapolationPlan.of_mistakes(ctx, mistakes, round_number)

    def rows(self, ctx: MethodContext, label: str) -> list[ss.Example]:
        return [row for row in ctx.harvest if row.label == label]

    def prompt(self, ctx: MethodContext, label: str, number: int, given: ss.Example) -> str:
        other = rng_for("between", ctx.config.seed, label, number).choice(self.rows(ctx, label))
        return f"Write one text of the kind {label} that lies between these two.\n1. {given.text}\n2. {other.text}"
