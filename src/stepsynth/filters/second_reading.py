"""Asks for the answer to a written row again, without showing the one it was written for, and compares.

For labels this is a check by an annotator who has not seen the first annotation; for questions it is round-trip
consistency (Alberti et al. 2019, "Synthetic QA Corpora Generation with Roundtrip Consistency", section 2).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from stepsynth.tasks.scoring import score_of
from stepsynth.types import DropReason, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Candidate, Example, GeneratedRow, Prediction

__all__ = ["Reader", "SecondReading", "most_frequent"]

# A partial score, such as the F1 of a span, agrees from here on.
_AGREES = 0.5


class Reader(Protocol):
    """Anything that answers rows without seeing their answers."""

    def read(self, rows: Sequence[Example]) -> Sequence[Sequence[Prediction]]:
        """Return the readings of each row, in order; a reading that decided nothing is left out."""
        ...


@dataclass(frozen=True)
class SecondReading:
    """Drops a row, or changes its answer, if most readings give another one; a row that nobody could read stays.

    Attributes:
        reader: reads the rows.
        family: compares answers.
        relabels: whether a row gets the answer that most readings give, instead of being dropped.
        counts: what came of the rows so far: ``read``, ``agreed``, ``relabelled``, ``unread``.
    """

    reader: Reader
    family: TaskFamily
    relabels: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[GeneratedRow]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`."""
        found = self.reader.read([candidate.row.example for candidate in candidates])
        return [self._verdict(candidate, readings) for candidate, readings in zip(candidates, found, strict=True)]

    def _verdict(self, candidate: Candidate, readings: Sequence[Prediction]) -> Verdict:
        self.counts["read"] += 1
        if not readings:
            self.counts["unread"] += 1
            return Verdict(candidate)
        row = candidate.row.example
        scores = [score_of(self.family, row, reading) for reading in readings]
        if sum(scores) >= _AGREES * len(scores):
            self.counts["agreed"] += 1
            return Verdict(candidate)
        if self.relabels and (changed := self.family.labelled(row, most_frequent(readings))) is not None:
            self.counts["relabelled"] += 1
            answer = changed.answers[0] if changed.answers else None
            return Verdict(replace(candidate, row=replace(candidate.row, label=changed.label, answer=answer)))
        return Verdict(candidate, DropReason.READ_OTHERWISE)


def most_frequent(readings: Sequence[Prediction]) -> Prediction:
    """Return the most frequent of at least one reading; of equally frequent ones the first."""
    said = Counter((reading.label, reading.start) for reading in readings)
    return max(readings, key=lambda reading: said[reading.label, reading.start])
