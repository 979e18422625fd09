"""The paper's system and its parts: seed rows with reasons, then rounds of extrapolated mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.methods.extrapolation import ExtrapolationPlan
from stepsynth.methods.seed import RationalePlan, SeedPlan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.config import RunConfig
    from stepsynth.methods import Lab, Plan

__all__ = ["S3", "S3WithGold", "SeedOnly"]


def _seed(lab: Lab) -> Iterator[Plan]:
    """Yield reasons per label, then texts that show them; with ``method.seed_from: gold`` only for labels without a gold row.

    The others have rows like their gold rows then.
    """
    labels = None
    if lab.config.method.seed_from == "gold":
        yield ExtrapolationPlan.of_gold(lab)
        labels = frozenset(SeedPlan(lab, None).targets) - {row.label for row in lab.harvest}
        if not labels:
            return
    if lab.config.method.rationales:
        yield RationalePlan(lab, labels=labels)
        yield SeedPlan(lab, lab.rationales(), labels=labels)
    else:
        yield SeedPlan(lab, None, labels=labels)


class SeedOnly:
    """Seed data with reasons and nothing else (the paper's "without EES")."""

    rounds = 0
    student = "written"
    takes_seed = True

    def __init__(self, config: RunConfig) -> None:
        self._imported = config.data.seed is not None

    def plans(self, round_number: int, lab: Lab) -> Iterator[Plan]:
        """Yield the stages of `_seed`; nothing where seed rows were given."""
        if not round_number and not self._imported:
            yield from _seed(lab)


class S3(SeedOnly):
    """Seed data, then error extrapolation round by round (S3, sections 3.1 and 3.2)."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.rounds = config.method.rounds

    def plans(self, round_number: int, lab: Lab) -> Iterator[Plan]:
        """Yield the seed stages; for later rounds rows like the mistakes of the round before."""
        if round_number == 0:
            yield from super().plans(0, lab)
        elif mistakes := lab.mistakes(round_number - 1):
            yield ExtrapolationPlan.of_mistakes(lab, mistakes, round_number)


class S3WithGold(S3):
    """S3's data and the validation rows together; to be reported apart from S3."""

    student = "both"
