"""What a student makes of rows whose label is not certain: labels for texts that have none, weights for written rows.

    pseudo_labelled("soft", family, texts, predictions, gold)  # texts of a pool, with a student's labels
    weighted(family, written, predictions)  # written rows, each with a weight

No prediction may come from a student that learnt from the row itself, or from one that the next student is judged by; whoever
calls sees to that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepsynth.tasks import split_labels

if TYPE_CHECKING:
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example, Prediction

__all__ = ["pseudo_labelled", "weighted"]

# Those of predictions; a distribution that is stored and read again is the same.
_DIGITS = 6


def pseudo_labelled(
    how: str, family: TaskFamily, texts: Sequence[Example], predictions: Sequence[Prediction], gold: Sequence[Example]
) -> list[Example]:
    """Return texts with the labels that a student gives them; those without an answer are left out.

    Args:
        how: ``hard``: the predicted answer. ``soft``: the student's probabilities (`Example.soft_label`). ``aligned``: these,
            moved so that the labels' shares are those of the gold rows (AdaMatch, Berthelot et al. 2022, arXiv 2106.04732).
            ``weighted``: these, and a text counts less the further it is below the mean confidence (SoftMatch, Chen et al.
            2023, arXiv 2301.10921). Tasks with several labels know ``hard`` and ``soft``, those with spans ``hard``.
        family: the task's family.
        texts: rows without an answer.
        predictions: one per text.
        gold: rows with certain labels.
    """
    found = [
        (row, said) for text, said in zip(texts, predictions, strict=True) if (row := family.labelled(text, said)) is not None
    ]
    if how == "hard" or not found:
        return [row for row, _ in found]
    labels = list(family.labels)
    if family.several_labels:
        return [replace(row, soft_label=_soft(labels, _shares(family, said))) for row, said in found]
    return _of_one_label(how, labels, [row for row, _ in found], [_shares(family, said) for _, said in found], gold)


def _of_one_label(
    how: str, labels: Sequence[str], rows: Sequence[Example], said: Sequence[Sequence[float]], gold: Sequence[Example]
) -> list[Example]:
    import numpy

    shares = numpy.array(said)
    if how in ("aligned", "weighted"):
        # A row more for each label, so that one without gold rows keeps a share.
        wanted = numpy.array([1.0 + sum(row.label == label for row in gold) for label in labels])
        shares = shares * (wanted / wanted.sum()) / numpy.maximum(shares.mean(0), 10.0**-_DIGITS)
        shares /= shares.sum(1, keepdims=True)
    weights = _confidence(shares.max(1)) if how == "weighted" else numpy.ones(len(rows))
    return [
        replace(row, label=labels[share.argmax()], soft_label=_soft(labels, share.tolist()), weight=weight)
        for row, share, weight in zip(rows, shares, _scaled(weights.tolist()), strict=True)
    ]


def _confidence(sure: Any) -> Any:
    """Return 1 above the mean confidence, and below it a normal density's height in the place of the mean's."""
    import numpy

    below, spread = numpy.minimum(sure - sure.mean(), 0.0), sure.var()
    return numpy.exp(-(below**2) / (2 * spread)) if spread > 0 else numpy.ones(len(sure))


def weighted(family: TaskFamily, rows: Sequence[Example], predictions: Sequence[Prediction]) -> list[Example]:
    """Return written rows with weights: the probability that a student gives the label of each.

    Args:
        family: a family with labels; each of several labels counts as a decision of its own.
        rows: written rows.
        predictions: those of a student of gold rows, one per row.
    """
    weights = []
    for row, said in zip(rows, predictions, strict=True):
        held, shares = family.labels_of(row), _shares(family, said)
        against = (1.0 - share for share in shares) if family.several_labels else (1.0 for _ in shares)
        each = zip(family.labels, shares, against, strict=True)
        weights.append(math.prod(share if label in held else other for label, share, other in each))
    return [replace(row, weight=weight) for row, weight in zip(rows, _scaled(weights), strict=True)]


def _shares(family: TaskFamily, said: Prediction) -> list[float]:
    """Return the probability of each label, in order; a student of the user's own may give none."""
    if said.probabilities:
        return [said.probabilities.get(label, 0.0) for label in family.labels]
    held = set(split_labels(said.label)) if family.several_labels else {said.label}
    return [float(label in held) for label in family.labels]


def _soft(labels: Sequence[str], shares: Sequence[float]) -> tuple[tuple[str, float], ...]:
    return tuple((label, round(share, _DIGITS)) for label, share in zip(labels, shares, strict=True))


def _scaled(weights: Sequence[float]) -> list[float]:
    """Return weights with a mean of 1: an optimiser step is then as long as without them."""
    mean = sum(weights) / len(weights) if weights else 0.0
    return [round(weight / mean, _DIGITS) for weight in weights] if mean > 0 else [1.0] * len(weights)
