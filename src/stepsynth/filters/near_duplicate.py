"""Drops near-duplicates: rows that repeat an accepted row or a gold row but for a few characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.filters.accepted_index import Growing
from stepsynth.filters.normalise import normalize_for_match
from stepsynth.near_duplicates import NearDuplicates
from stepsynth.types import DropReason, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.types import Candidate, Example, GeneratedRow

__all__ = ["NearDuplicate"]


class NearDuplicate:
    """Keeps the first of rows with the same label, context and answer whose texts are nearly equal.

    Rows with different labels are not compared: where one word decides, two texts that differ in it are worth having both.

    Args:
        similarity: see `stepsynth.near_duplicates.NearDuplicates`.
        gold: rows that count as accepted before all others.
    """

    def __init__(self, similarity: float, gold: Sequence[Example] = ()) -> None:
        self._similarity = similarity
        self._growing = Growing()
        self._gold = NearDuplicates(similarity)
        # Of several right answers a written question may have any.
        pairs = [(row.text, _group(row, answer)) for row in gold for answer in {a.text for a in row.answers} or {""}]
        self._gold.add([text for text, _ in pairs], [group for _, group in pairs])
        self._accepted = NearDuplicates(similarity)

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[GeneratedRow]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`."""
        new, void = self._growing.news(accepted)
        if void:
            self._accepted = NearDuplicates(self._similarity)
        self._accepted.add([row.text for row in new], [_group(row, _answer(row)) for row in new])
        texts = [candidate.text for candidate in candidates]
        groups = [_group(candidate.row, _answer(candidate.row)) for candidate in candidates]
        gold = self._gold.known(texts, groups)
        left = [place for place, near in enumerate(gold) if not near]
        repeated = self._accepted.judge([texts[place] for place in left], [groups[place] for place in left])
        near = {place for place, found in zip(left, repeated, strict=True) if found}
        return [
            Verdict(candidate, DropReason.NEAR_DUPLICATE if gold[place] or place in near else "")
            for place, candidate in enumerate(candidates)
        ]


def _answer(row: GeneratedRow) -> str:
    return row.answer.text if row.answer else ""


def _group(row: GeneratedRow | Example, answer: str) -> tuple[str, ...]:
    return row.label, normalize_for_match(row.context), normalize_for_match(answer)
