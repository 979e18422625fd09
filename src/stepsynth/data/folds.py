"""Folds of gold rows: every fold is predicted by a student that learned from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

from stepsynth.data.splits import units_by_context
from stepsynth.tasks import split_labels
from stepsynth.types import Example
from stepsynth.words import normalised

__all__ = ["Folds", "deal_folds"]


class Folds:
    """Which fold a row belongs to.

    Args:
        fold_of: id of a gold row -> its fold.
        contexts: normalised context of gold rows -> their fold.

    Attributes:
        count: number of folds.
    """

    def __init__(self, fold_of: Mapping[str, int], contexts: Mapping[str, int]) -> None:
        self._fold_of = fold_of
        self._contexts = contexts
        self.count = 1 + max(fold_of.values())

    def gold(self, row: Example) -> int:
        """Return the fold of a gold row."""
        return self._fold_of[row.id]

    def written(self, source: str | None, context: str) -> int | None:
        """Return the fold of the gold row that a written row derives from; ``None`` if there is none.

        Args:
            source: id of the gold row that it was written from.
            context: the text that it keeps; with the context of a gold row it belongs to that row's fold.
        """
        if source is not None and source in self._fold_of:
            return self._fold_of[source]
        return self._contexts.get(normalised(context)) if context else None

    def together(self, one: Example, other: Example) -> bool:
        """Whether two gold rows are in the same fold, so that one prompt may show both."""
        return self._fold_of.get(one.id) == self._fold_of.get(other.id)


def deal_folds(rows: Sequence[Example], most: int, seed: int) -> Folds:
    """Deal gold rows into folds, evenly by label; rows that share a context stay together.

    There are ``most`` folds, or fewer if no label has that many rows.

    Args:
        rows: at least two units; a unit is a row, or the rows of one context.
        most: number of folds to make.
        seed: seed of the order in which rows are dealt.
    """
    units = [[row] for row in rows if not row.context] + units_by_context(row for row in rows if row.context)
    carried = [Counter(label for row in unit for label in split_labels(row.label) or ("",)) for unit in units]
    per_label = Counter(label for labels in carried for label in labels)
    folds = max(2, min(most, max(per_label.values())))
    have: list[Counter[str]] = [Counter() for _ in range(folds)]
    sizes = [0] * folds
    dealt: dict[int, int] = {}
    # The rarest label first: later units make up for what it leaves uneven (Sechidis et al. 2011).
    for label in sorted(per_label, key=lambda name: (per_label[name], name)):
        for place in _shuffled([p for p, labels in enumerate(carried) if label in labels and p not in dealt], seed, label):
            fold = min(range(folds), key=lambda f: (have[f][label], sizes[f], f))
            dealt[place] = fold
            have[fold].update(carried[place])
            sizes[fold] += len(units[place])
    used = {fold: number for number, fold in enumerate(sorted(set(dealt.values())))}
    placed = [(row, used[dealt[place]]) for place, unit in enumerate(units) for row in unit]
    return Folds({row.id: fold for row, fold in placed}, {normalised(row.context): fold for row, fold in placed if row.context})


def _shuffled(places: Sequence[int], seed: int, label: str) -> list[int]:
    random = Random(f"folds {seed} {label}")
    return [place for _, place in sorted((random.random(), place) for place in places)]
