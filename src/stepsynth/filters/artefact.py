"""Rows that betray their label by naming it: what small teachers do, and real texts seldom do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.tasks import label_words
from stepsynth.types import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.types import Candidate, Example

__all__ = ["LabelNaming"]


@dataclass(frozen=True)
class LabelNaming:
    """Lets rows name their label only as often as real rows of that label do.

    "Where is my delivery" is an honest text of the label *delivery*; a review that calls itself
    *positive* hardly exists. So the rate among the harvest rows of the label is the limit, kept
    at every point of the plan.

    Attributes:
        limits: label -> share of its real rows that name it.
    """

    limits: dict[str, float]

    @classmethod
    def like(cls, harvest: Sequence[Example]) -> LabelNaming:
        """Measure the rate of each label on real rows."""
        limits = {}
        for label in dict.fromkeys(example.label for example in harvest):
            texts = [example.text for example in harvest if example.label == label]
            limits[label] = sum(_names(text, label) for text in texts) / len(texts)
        return cls(limits)

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[Candidate]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`."""
        rows: dict[str, int] = {}
        named: dict[str, int] = {}
        for candidate in accepted:
            label = candidate.request.label
            rows[label] = rows.get(label, 0) + 1
            named[label] = named.get(label, 0) + _names(candidate.text, label)
        verdicts = []
        for candidate in candidates:
            label = candidate.request.label
            names = _names(candidate.text, label)
            allowed = named.get(label, 0) + 1 <= self.limits.get(label, 0.0) * (rows.get(label, 0) + 1)
            keep = not names or allowed
            if keep:
                rows[label] = rows.get(label, 0) + 1
                named[label] = named.get(label, 0) + names
            verdicts.append(Verdict(candidate, "" if keep else "names the label"))
        return verdicts


def _names(text: str, label: str) -> bool:
    """Whether a word of the label stands in the text, inflections (``negatively``) included."""
    folded = text.casefold()
    return any(re.search(rf"\b{re.escape(word)}", folded) for word in label_words(label))
