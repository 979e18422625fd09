"""Baselines for S3: without reasons, without selecting mistakes, without synthetic data, without a student."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.methods.base import CHECK, ROWS, Method, Trains
from stepsynth.methods.extrapolation import ExtrapolationPlan
from stepsynth.methods.seed import ZeroGenPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.methods import MethodContext, Plan

__all__ = ["Gold", "GoldGen", "TeacherAlone", "ZeroGen"]


class ZeroGen(Method):
    """Plain prompts per label: no reasons, no gold rows, no feedback (Ye et al. 2022).

    Examples:
        >>> ZeroGen(seed_rows=200).name
        'zerogen'
    """

    name = "zerogen"
    draws_phrases = True
    # By definition it sees no gold rows.
    checks_labels = False

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        """Yield the one stage."""
        if round_number == 0:
            yield ZeroGenPlan(ctx)


class GoldGen(Method):
    """Rows like any labelled rows of the harvest half, not only like the mistakes (a baseline of the S3 paper).

    Examples:
        >>> GoldGen(seed_rows=200).name
        'goldgen'
    """

    name = "goldgen"
    keys = ROWS | CHECK | {"demonstrations"}

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        """Yield the one stage."""
        if round_number == 0:
            yield ExtrapolationPlan.of_gold(ctx)


class Gold(Method):
    """The labelled rows themselves, nothing written: the number to beat.

    Examples:
        >>> Gold().values
        {'name': 'gold'}
    """

    name = "gold"
    # It writes nothing; seed_rows is accepted because comparisons have a budget of rows.
    keys = frozenset({"seed_rows"})
    student: Trains = "gold"
    asks = False
    takes_budget = False
    is_reference = True

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        """Yield nothing."""
        del round_number, ctx
        yield from ()


class TeacherAlone(Gold):
    """The large model answers the rows itself, without a student.

    Examples:
        >>> TeacherAlone(few_shot=2).name
        'teacher'
    """

    name = "teacher"
    keys = frozenset({"few_shot"})
    student = "none"
    asks = True
