"""What a student's answers make of rows: labels for texts that have none, weights for written rows.

    pseudo_labelled("soft", family, texts, predictions, gold)  # texts of a pool, with a student's labels
    weighted(family, written, predictions, gold)  # written rows, each with a weight

No answer may come from a student that has seen a row that judges the next one; whoever calls sees to that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example, Prediction

__all__ = ["pseudo_labelled", "weighted"]

# Those of predictions; a distribution that is stored and read again is the same.
_DIGITS = 6
_TINY = 10.0**-_DIGITS


def pseudo_labelled(
    how: str, family: TaskFamily, texts: Sequence[Example], predictions: Sequence[Prediction], gold: Sequence[Example]
) -> list[Example]:
    """Return texts with the labels that a student gives them; those without an answer are left out.

    Args:
        how: ``hard``: the predicted answer. ``soft``: the student's probabilities, too (`Example.soft_label`). ``aligned``:
            these, moved towards the labels' shares in the gold rows (after ReMixMatch, Berthelot et al. 2020, arXiv
            1911.09785, section 3.1). ``confident``: these, and a text counts less the further it is below the mean
            confidence (weights after SoftMatch, Chen et al. 2023, arXiv 2301.10921, which weighs hard labels of augmented
            views). Tasks with several labels know ``hard`` and ``soft``, those with spans ``hard``.
        family: the task's family.
        texts: rows without an answer.
        predictions: one per text.
        gold: rows with certain labels.
    """
    pairs = ((family.labelled(text, said), said) for text, said in zip(texts, predictions, strict=True))
    found = [(row, said) for row, said in pairs if row is not None]
    if how == "hard" or not found:
        return [row for row, _ in found]
    labels = list(family.labels)
    if how == "soft":
        return [replace(row, soft_label=_soft(labels, _shares(labels, said))) for row, said in found]
    return _aligned(labels, [row for row, _ in found], [_shares(labels, said) for _, said in found], gold, how == "confident")


def _aligned(
    labels: Sequence[str], rows: Sequence[Example], said: Sequence[Sequence[float]], gold: Sequence[Example], confident: bool
) -> list[Example]:
    import numpy

    shares, counts = numpy.array(said), Counter(row.label for row in gold)
    means = numpy.maximum(shares.mean(0), _TINY)
    # A row more for each label, since few rows say little about shares; a label without gold rows stays as it is.
    wanted = numpy.array([1.0 + counts[label] for label in labels]) / (len(gold) + len(labels))
    shares = shares * numpy.where([counts[label] > 0 for label in labels], wanted / means, 1.0)
    shares /= numpy.maximum(shares.sum(1, keepdims=True), _TINY)
    weights = _confidence(shares.max(1)) if confident else [1.0] * len(rows)
    return [
        replace(row, label=labels[share.argmax()], soft_label=_soft(labels, share.tolist()), weight=weight)
        for row, share, weight in zip(rows, shares, _scaled(weights), strict=True)
    ]


def _confidence(sure: Any) -> list[float]:
    """Return 1 above the mean confidence, and below it a normal density, as a share of its height at the mean."""
    import numpy

    below, spread = numpy.minimum(sure - sure.mean(), 0.0), sure.var()
    found: list[float] = (numpy.exp(-(below**2) / (2 * spread)) if spread > 0 else numpy.ones(len(sure))).tolist()
    return found


def weighted(
    family: TaskFamily, rows: Sequence[Example], predictions: Sequence[Prediction], gold: Sequence[Example]
) -> list[Example]:
    """Return written rows with weights: the probability that a student gives the label of each.

    Args:
        family: a family with labels; each of several labels counts as a decision of its own.
        rows: written rows.
        predictions: those of a student of gold rows, one per row.
        gold: these gold rows. A row with a label that none of them has gets the mean weight: the student does not know it.
    """
    labels, known = list(family.labels), {label for row in gold for label in family.labels_of(row)}
    found: list[float | None] = []
    for row, said in zip(rows, predictions, strict=True):
        held, shares = set(family.labels_of(row)), dict(zip(labels, _shares(labels, said), strict=True))
        others = [label for label in labels if label not in held] if family.several_labels else []
        weight = math.prod([*(shares[label] for label in held), *(1.0 - shares[label] for label in others)])
        found.append(weight if held <= known else None)
    told = [weight for weight in found if weight is not None]
    mean = sum(told) / len(told) if told else 1.0
    return [
        replace(row, weight=weight)
        for row, weight in zip(rows, _scaled([mean if weight is None else weight for weight in found]), strict=True)
    ]


def _shares(labels: Sequence[str], said: Prediction) -> list[float]:
    """Return the probability of each label, in order; those of a user's own student may be a little outside."""
    return [min(1.0, max(0.0, said.probabilities.get(label, 0.0))) for label in labels]


def _soft(labels: Sequence[str], shares: Sequence[float]) -> tuple[tuple[str, float], ...]:
    return tuple((label, round(share, _DIGITS)) for label, share in zip(labels, shares, strict=True))


def _scaled(weights: Sequence[float]) -> list[float]:
    """Return weights with a mean of 1: an optimiser step is then as long as without them."""
    mean = sum(weights) / len(weights) if weights else 0.0
    return [round(weight / mean, _DIGITS) for weight in weights] if mean > 0 else [1.0] * len(weights)
