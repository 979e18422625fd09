"""Drops copies of validation rows and of the templates' words: a teacher may return what a prompt shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.filters.normalise import normalize_for_match
from stepsynth.filters.row_filters import RowFilterBase
from stepsynth.types import DropReason, Verdict
from stepsynth.words import count_words, is_spaceless

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepsynth.types import Candidate

__all__ = ["ContaminationFilter"]

_SHINGLE = 5
# Shorter ones may stand in a template by chance.
_ECHO = 3


@dataclass(frozen=True)
class ContaminationFilter(RowFilterBase):
    """Drops a row that equals a gold text or is mostly copied from one, or that is a piece of a template.

    A row counts as copied if more than ``most`` of its runs of five words occur in one gold text; rows
    with fewer than five words only if they are equal. In scripts without spaces between words, a run is
    ten characters. A row of three words or more that stands in a template word for word ("no title, no comment") repeats
    how it was asked for. What is filled in (the instruction, labels and their descriptions, reasons, texts) does not count:
    real texts use these words, too.

    Attributes:
        texts: gold texts in comparable form.
        shingles: five-word run -> positions of the gold texts that contain it.
        most: the largest allowed share of copied runs.
        wording: the templates' own words in comparable form, piece by piece.
    """

    texts: frozenset[str]
    shingles: dict[tuple[str, ...], frozenset[int]]
    most: float = 0.6
    wording: str = ""

    @classmethod
    def of(cls, gold: Iterable[str], wording: Iterable[str] = ()) -> ContaminationFilter:
        """Index gold texts.

        Args:
            gold: the texts.
            wording: pieces of the templates between what is filled in.
        """
        texts = [normalize_for_match(text) for text in gold]
        index: dict[tuple[str, ...], set[int]] = {}
        for position, text in enumerate(texts):
            for run in _runs(text):
                index.setdefault(run, set()).add(position)
        pieces = "|".join(f" {normalize_for_match(piece)} " for piece in wording)
        return cls(frozenset(texts), {run: frozenset(where) for run, where in index.items()}, wording=pieces)

    def verdict(self, candidate: Candidate) -> Verdict:
        """See `RowFilterBase`."""
        text = normalize_for_match(candidate.text)
        # Copies of the prompt's example answers are not the teacher's own, either.
        shown = ContaminationFilter.of(candidate.shown) if candidate.shown else None
        # A text that repeats its whole context shows nothing about how the two relate.
        repeats = bool(candidate.row.context) and text == normalize_for_match(candidate.row.context)
        copied = repeats or self.copied(text) or (shown is not None and shown.copied(text))
        copied = copied or (f" {text} " in self.wording and count_words(candidate.text) >= _ECHO)
        return Verdict(candidate, DropReason.COPY if copied else "")

    def copied(self, text: str) -> bool:
        """Whether most of a text (in comparable form) is copied from one of the indexed texts."""
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
    # In scripts without spaces, a word of the comparable form is one character.
    size = _SHINGLE if text.isascii() or 2 * sum(map(is_spaceless, words)) <= len(words) else 2 * _SHINGLE
    if size == _SHINGLE:
        return list(zip(words, words[1:], words[2:], words[3:], words[4:], strict=False))
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
