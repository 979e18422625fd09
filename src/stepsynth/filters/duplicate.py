"""Drops exact duplicates, ignoring case, punctuation and white space."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from stepsynth.filters.accepted_index import Growing
from stepsynth.filters.normalise import normalize_for_match
from stepsynth.types import DropReason, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.types import Candidate, GeneratedRow

__all__ = ["Duplicate"]


class Duplicate:
    """Keeps the first of equal rows (equal text and context), whatever their labels."""

    def __init__(self) -> None:
        self._growing = Growing()
        self._accepted: set[bytes] = set()

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[GeneratedRow]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`."""
        new, void = self._growing.news(accepted)
        if void:
            self._accepted.clear()
        self._accepted.update(map(_identity, new))
        seen: set[bytes] = set()
        verdicts = []
        for candidate in candidates:
            row = _identity(candidate.row)
            verdicts.append(Verdict(candidate, DropReason.DUPLICATE if row in seen or row in self._accepted else ""))
            seen.add(row)
        return verdicts


def _identity(row: GeneratedRow) -> bytes:
    """Return a 128-bit hash of a row's two texts, so that a million rows take 100 MB, however long they are."""
    context, text = normalize_for_match(row.context), normalize_for_match(row.text)
    # Comparable texts contain no NUL, so no two pairs give the same bytes.
    return hashlib.blake2b(f"{context}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
