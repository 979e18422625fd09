"""The paper's method and its parts: seed rows with reasons, then rounds of extrapolated mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.methods.base import CHECK, LOOP, REASONS, ROWS, Method, Trains
from stepsynth.methods.extrapolation import ExtrapolationPlan
from stepsynth.methods.seed import RationalePlan, SeedPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.methods import MethodContext, Plan

__all__ = ["S3", "S3WithGold", "SeedOnly"]


def _seed(ctx: MethodContext) -> Iterator[Plan]:
    """Yield reasons per label, then texts that show them.

    With ``method.seed_from: gold``, labels with gold rows get rows like those instead; with ``examples``, rows about other
    contexts as gold rows were about theirs; with ``instruction``, texts show nothing.
    """
    labels, method = None, ctx.config.method
    shows = method.seed_from == "examples"
    if method.seed_from == "gold":
        yield ExtrapolationPlan.of_gold(ctx)
    if method.seed_from in ("gold", "examples"):
        labels = frozenset(SeedPlan(ctx, None).targets) - {row.label for row in ctx.harvest}
        if not labels and not shows:
            return
    reasons = None
    if method.rationales and method.seed_from != "instruction" and (labels is None or labels):
        yield RationalePlan(ctx, labels=labels)
        reasons = ctx.rationales()
    yield SeedPlan(ctx, reasons, labels=None if shows else labels, shows=shows)


class SeedOnly(Method):
    """The first stage of `S3` alone: rows from reasons (the paper's ablation, "without EES").

    Examples:
        >>> SeedOnly(seed_rows=200).name
        'seed-only'
    """

    name = "seed-only"
    keys = ROWS | REASONS | CHECK
    takes_seed = True
    draws_phrases = True

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        """Yield the stages of `_seed`, or nothing if seed rows were given."""
        if not round_number and ctx.config.data.seed is None:
            yield from _seed(ctx)


class S3(SeedOnly):
    """The paper's loop: half of the labelled rows supply mistakes, the other half picks the best round (arXiv 2310.13671).

    Seed data, then error extrapolation round by round (sections 3.1 and 3.2).

    Examples:
        >>> S3(rounds=2, seed_rows=300).values
        {'name': 's3', 'rounds': 2, 'seed_rows': 300}
    """

    name = "s3"
    keys = ROWS | REASONS | LOOP | CHECK | {"mistakes_of"}
    takes_budget = False
    sets_budget = True
    leads = True

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        """Yield the seed stages; in later rounds, rows like the previous round's mistakes."""
        if round_number == 0:
            yield from super().plans(0, ctx)
        elif mistakes := ctx.mistakes(round_number - 1):
            yield ExtrapolationPlan.of_mistakes(ctx, mistakes, round_number)


class S3WithGold(S3):
    """`S3` with a last student on its rows and the labelled rows together; report it separately from S3.

    Examples:
        >>> S3WithGold(rounds=1).name
        's3+gold'
    """

    name = "s3+gold"
    student: Trains = "both"
