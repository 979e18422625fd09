"""What S3 has to be compared with: no reasons, no selection of mistakes, no synthetic data, no student."""

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
    """Plain prompts per label: no reasons, no gold row, no feedback (Ye et al. 2022).

    Example:
        >>> ZeroGen(seed_rows=200).name
        'zerogen'
    """

    name = "zerogen"
    draws_phrases = True
    # By its definition it sees no gold row.
    checks_labels = False

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        """Yield the one stage."""
        if round_number == 0:
            yield ZeroGenPlan(ctx)


class GoldGen(Method):
    """Rows like all labelled rows of the harvest half, not only like the mistakes (a baseline of the S3 paper).

    Example:
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

    Example:
        >>> Gold().values
        {'name': 'gold'}
    """

    name = "gold"
    # A baseline that writes nothing takes part in a budget, which counts rows.
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

    Example:
        >>> TeacherAlone(few_shot=2).name
        'teacher'
    """

    name = "teacher"
    keys = frozenset({"few_shot"})
    student = "none"
    asks = True
