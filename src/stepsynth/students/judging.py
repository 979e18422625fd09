"""Judges whether written rows have the labels that were asked for, with a linear probe of the gold rows.

    judge = RowJudge(config, family, gold, folds.gold)
    judge.right, len(gold)         # what it gets right of the gold rows in cross-validation
    fits = judge.fits(rows)        # per row: True, False, or None where it knows too little
    judge.limit(rows)              # the share of gold rows of the same labels that it gets right

The judge is no better than its gold rows, so a share of fitting rows means something only beside `limit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.students.curve import guess_labels
from stepsynth.students.probe import FrozenEncoder, LinearProbe, recall_by_label
from stepsynth.tasks import split_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepsynth.config import StudentConfig
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = ["RowJudge"]


class RowJudge:
    """A probe fitted on all gold rows, for families with labels.

    Rows with one label are judged by a `LinearProbe`. With several labels there is a probe per label, and a row fits if all of
    its labels are guessed and no other.

    Args:
        config: its base model gives the embeddings.
        family: any but question answering.
        gold: at least two rows with different labels.
        fold_of: returns a gold row's fold, for the cross-validation of rows with several labels.

    Attributes:
        right: gold rows that cross-validation got right; ``None`` if a label with a single row prevents it.
    """

    def __init__(
        self, config: StudentConfig, family: TaskFamily, gold: Sequence[Example], fold_of: Callable[[Example], int]
    ) -> None:
        self._gold = gold
        self._encoder = FrozenEncoder(config, family)
        self._probe = None if family.several_labels else LinearProbe(config, family, gold)
        if self._probe is not None:
            self._recall = self._probe.recall
            self.right = self._probe.correct if self._recall else None
        else:
            labels, guessed = [_set_of(row) for row in gold], self._out_of_fold([fold_of(row) for row in gold])
            self._recall = recall_by_label(labels, guessed)
            self.right = sum(a == b for a, b in zip(labels, guessed, strict=True)) if guessed else None

    def fits(self, rows: Sequence[Example]) -> list[bool | None]:
        """Return for each row whether the probe guesses the row's label; ``None`` if no gold row has that label."""
        if not rows:
            return []
        if self._probe is not None:
            found = self._probe.probabilities(rows)
            return [
                max(shares, key=lambda label: shares[label]) == row.label if row.label in shares else None
                for shares, row in zip(found, rows, strict=True)
            ]
        known = {label for row in self._gold for label in split_labels(row.label)}
        vectors = self._encoder.features([*self._gold, *rows])
        taken, held = range(len(self._gold)), range(len(self._gold), len(self._gold) + len(rows))
        guessed = guess_labels(vectors, [row.label for row in self._gold], list(taken), list(held), several=True)
        return [guess == _set_of(row) if _set_of(row) <= known else None for guess, row in zip(guessed, rows, strict=True)]

    def limit(self, rows: Sequence[Example]) -> float | None:
        """Return the share of gold rows with the labels of these rows that cross-validation got right.

        Rows as clear as gold rows would fit this often. ``None`` if nothing was cross-validated, or no label is known.
        """
        shares = [self._recall[key] for key in map(self._key, rows) if key in self._recall]
        return sum(shares) / len(shares) if shares else None

    def _key(self, row: Example) -> Any:
        return row.label if self._probe is not None else _set_of(row)

    def _out_of_fold(self, folds: Sequence[int]) -> list[Any]:
        """Return a guess for each gold row by probes of the other folds; empty if one of them would see a single label."""
        vectors, guessed = self._encoder.features(self._gold), [frozenset[str]()] * len(self._gold)
        for fold in sorted(set(folds)):
            taken = [place for place, own in enumerate(folds) if own != fold]
            held = [place for place, own in enumerate(folds) if own == fold]
            labels = [self._gold[place].label for place in taken]
            if len(set(labels)) < 2:
                return []
            for place, guess in zip(held, guess_labels(vectors, labels, taken, held, several=True), strict=True):
                guessed[place] = guess
        return list(guessed)


def _set_of(row: Example) -> frozenset[str]:
    return frozenset(split_labels(row.label))
