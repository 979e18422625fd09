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
    """Keeps the first of equal rows (text, and context where there is one), whatever their labels."""

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[Candidate]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`."""
        seen = {_identity(candidate) for candidate in accepted}
        verdicts = []
        for candidate in candidates:
            row = _identity(candidate)
            verdicts.append(Verdict(candidate, "duplicate" if row in seen else ""))
            seen.add(row)
        return verdicts


def _identity(candidate: Candidate) -> tuple[str, str]:
    return comparable(candidate.request.context), comparable(candidate.text)
