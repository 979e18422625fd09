"""Exact duplicates, compared without regard to case, punctuation and white space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.filters.normalise import comparable
from stepsynth.types import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.types import Candidate

__all__ = ["Duplicate"]


class Duplicate:
    """Keeps the first of equal texts, whatever their labels."""

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[Candidate]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`."""
        seen = {comparable(candidate.text) for candidate in accepted}
        verdicts = []
        for candidate in candidates:
            text = comparable(candidate.text)
            verdicts.append(Verdict(candidate, "duplicate" if text in seen else ""))
            seen.add(text)
        return verdicts
