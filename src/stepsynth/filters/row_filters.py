"""Rules that need no other row: their verdict can be given as soon as the answer comes, and is final."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.types import Candidate, GeneratedRow, Verdict

__all__ = ["RowFilterBase"]


class RowFilterBase(ABC):
    """A `stepsynth.filters.Filter` that looks at one row only."""

    @abstractmethod
    def verdict(self, candidate: Candidate) -> Verdict:
        """Return the verdict on one row; it may have a shortened row instead of the given one."""

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[GeneratedRow]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`."""
        return [self.verdict(candidate) for candidate in candidates]
