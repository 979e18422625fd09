"""Exact numbers per label: what is good but not needed any more is set aside as surplus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.types import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.types import Candidate

__all__ = ["Surplus"]


@dataclass(frozen=True)
class Surplus:
    """Accepts at most ``targets[label]`` rows of the stage that is being written.

    Attributes:
        targets: label -> accepted rows wanted.
    """

    targets: Mapping[str, int]

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[Candidate]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`; only accepted rows of the candidates' own stage count."""
        stage = candidates[0].request.stage if candidates else ""
        have: dict[str, int] = {}
        for candidate in accepted:
            if candidate.request.stage == stage:
                have[candidate.request.label] = have.get(candidate.request.label, 0) + 1
        verdicts = []
        for candidate in candidates:
            label = candidate.request.label
            full = have.get(label, 0) >= self.targets.get(label, 0)
            verdicts.append(Verdict(candidate, "surplus" if full else ""))
            have[label] = have.get(label, 0) + (not full)
        return verdicts
