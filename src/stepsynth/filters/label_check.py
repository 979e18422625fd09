"""Rows whose label is in doubt: a judge that has seen gold rows thinks of another label.

An inherited label is often wrong with a small teacher: a text "like" a mistake need not keep its
label. Checking it against what few gold rows teach is the cheapest of the known remedies
(docs/decisions.md, "Label check"; measured in docs/results.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from stepsynth.types import DropReason, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.types import Candidate, Example, GeneratedRow

__all__ = ["Judge", "LabelCheck"]


class Judge(Protocol):
    """Whatever can say how likely a text has which label."""

    def probabilities(self, examples: Sequence[Example]) -> Sequence[Mapping[str, float]]:
        """Return label -> probability for each row; the same list always gets the same answer."""
        ...


@dataclass(frozen=True)
class LabelCheck:
    """Drops a row when its label is less than ``ratio`` times as likely as the likeliest one.

    Attributes:
        adviser: gives the probabilities.
        ratio: 1 wants the asked label to be the likeliest; smaller values are more lenient.
    """

    adviser: Judge
    ratio: float

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[GeneratedRow]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`."""
        verdicts = []
        answers = self.adviser.probabilities([candidate.row.example for candidate in candidates])
        for candidate, probabilities in zip(candidates, answers, strict=True):
            asked = probabilities.get(candidate.label)
            # A label without gold rows is unknown to the judge: it cannot object to it.
            doubt = asked is not None and asked < self.ratio * max(probabilities.values())
            verdicts.append(Verdict(candidate, DropReason.LABEL_IN_DOUBT if doubt else ""))
        return verdicts
