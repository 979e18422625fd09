"""Drops rows whose label is in doubt: a judge trained on gold rows predicts another label.

With a small teacher an inherited label is often wrong: a text "like" a mistake need not have its
label. A check by a model of a few gold rows is the cheapest known remedy
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
    """Anything that gives label probabilities of texts."""

    def probabilities(self, examples: Sequence[Example]) -> Sequence[Mapping[str, float]]:
        """Return label -> probability for each row; the same list always gets the same answer."""
        ...


@dataclass(frozen=True)
class LabelCheck:
    """Drops a row if its label is less than ``ratio`` times as likely as the likeliest one.

    Attributes:
        adviser: gives the probabilities.
        ratio: 1 requires the label to be the likeliest; smaller values are more lenient.
    """

    adviser: Judge
    ratio: float

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[GeneratedRow]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`."""
        verdicts = []
        answers = self.adviser.probabilities([candidate.row.example for candidate in candidates])
        for candidate, probabilities in zip(candidates, answers, strict=True):
            asked = probabilities.get(candidate.label)
            # The judge does not know labels without gold rows, so it cannot object.
            doubt = asked is not None and asked < self.ratio * max(probabilities.values())
            verdicts.append(Verdict(candidate, DropReason.LABEL_IN_DOUBT if doubt else ""))
        return verdicts
