"""Copies of validation rows: prompts show them, so a teacher may hand them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.filters.normalise import normalize_for_match
from stepsynth.filters.row_filters import RowFilterBase
from stepsynth.types import DropReason, Verdict
from stepsynth.words import is_spaceless

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepsynth.types import Candidate

__all__ = ["ContaminationFilter"]

_SHINGLE = 5


@dataclass(frozen=True)
class ContaminationFilter(RowFilterBase):
    """Drops a row that equals a gold text, or of which most was copied from one.

    A row counts as copied when more than ``most`` of its runs of five words stand in one gold
    text; rows with fewer than five words only when they are equal. Of scripts without spaces between
    words, ten characters are such a run.

    Attributes:
        texts: gold texts in comparable form.
        shingles: five-word run -> positions of the gold texts that hold it.
        most: share of copied runs that is still allowed.
    """

    texts: frozenset[str]
    shingles: dict[tuple[str, ...], frozenset[int]]
    most: float = 0.6

    @classmethod
    def of(cls, gold: Iterable[str]) -> ContaminationFilter:
        """Index gold texts."""
        texts = [normalize_for_match(text) for text in gold]
        index: dict[tuple[str, ...], set[int]] = {}
        for position, text in enumerate(texts):
            for run in _runs(text):
                index.setdefault(run, set()).add(position)
        return cls(frozenset(texts), {run: frozenset(where) for run, where in index.items()})

    def verdict(self, candidate: Candidate) -> Verdict:
        """See `RowFilterBase`."""
        text = normalize_for_match(candidate.text)
        # Turns that showed the form of an answer are no more the teacher's own than gold rows are.
        shown = ContaminationFilter.of(candidate.shown)
        # A written text that repeats its whole context says nothing about how the two relate.
        repeats = bool(candidate.row.context) and text == normalize_for_match(candidate.row.context)
        copied = repeats or self.copied(text) or shown.copied(text)
        return Verdict(candidate, DropReason.COPY if copied else "")

    def copied(self, text: str) -> bool:
        """Whether most of a text (in comparable form) was copied from one of the indexed ones."""
        if text in self.texts:
            return True
        if not self.shingles:
            return False
        runs = _runs(text)
        counts: dict[int, int] = {}
        for run in runs:
            for position in self.shingles.get(run, ()):
                counts[position] = counts.get(position, 0) + 1
        return bool(counts) and max(counts.values()) > self.most * len(runs)


def _runs(text: str) -> list[tuple[str, ...]]:
    words = text.split()
    # Of scripts without spaces, a word of the comparable form is one character.
    size = _SHINGLE if 2 * sum(map(is_spaceless, words)) <= len(words) else 2 * _SHINGLE
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
