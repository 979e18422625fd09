"""What S3 has to be compared with: no reasons, no selection of mistakes, no synthetic data, no student."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.methods.extrapolation import ExtrapolationPlan
from stepsynth.methods.seed import ZeroGenPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.config import RunConfig
    from stepsynth.methods import Lab, Plan

__all__ = ["Gold", "GoldGen", "Teacher", "ZeroGen"]


class _OneRound:
    rounds = 0
    student = "written"
    takes_seed = False

    def __init__(self, config: RunConfig) -> None:
        del config


class ZeroGen(_OneRound):
    """Plain zero-shot prompts per label: no reasons, no gold row, no feedback (Ye et al. 2022)."""

    def plans(self, round_number: int, lab: Lab) -> Iterator[Plan]:
        """Yield the one stage."""
        if round_number == 0:
            yield ZeroGenPlan(lab)


class GoldGen(_OneRound):
    """Extrapolates all rows of the harvest half instead of a student's mistakes (a baseline of the S3 paper)."""

    def plans(self, round_number: int, lab: Lab) -> Iterator[Plan]:
        """Yield the one stage."""
        if round_number == 0:
            yield ExtrapolationPlan.of_gold(lab)


class Gold(_OneRound):
    """The validation rows themselves are the training data; nothing is asked."""

    student = "gold"

    def plans(self, round_number: int, lab: Lab) -> Iterator[Plan]:
        """Yield nothing."""
        del round_number, lab
        yield from ()


class Teacher(Gold):
    """No student: the large model answers the rows itself."""

    student = "none"
