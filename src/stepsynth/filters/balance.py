"""Exact numbers per label: good rows that are no longer needed are set aside as surplus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.types import DropReason, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.types import Candidate, GeneratedRow

__all__ = ["LabelQuota"]


@dataclass(frozen=True)
class LabelQuota:
    """Accepts at most ``targets[label]`` rows of the current stage.

    Attributes:
        targets: label -> number of accepted rows wanted.
    """

    targets: Mapping[str, int]

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[GeneratedRow]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`; only accepted rows of the candidates' own stage count."""
        stage = candidates[0].row.stage if candidates else ""
        have: dict[str, int] = {}
        for row in accepted:
            if row.stage == stage:
                have[row.label] = have.get(row.label, 0) + 1
        verdicts = []
        for candidate in candidates:
            label = candidate.label
            full = have.get(label, 0) >= self.targets.get(label, 0)
            verdicts.append(Verdict(candidate, DropReason.SURPLUS if full else ""))
            have[label] = have.get(label, 0) + (not full)
        return verdicts
