"""How sure a reader may be: its own probabilities beside how often it was right.

A language model's probability for its answer is rarely the share of such answers that are right. A logistic regression on the
probability's logit corrects it (Platt 1999, "Probabilistic outputs for support vector machines", section 2.1), and each row is
judged by a regression that has not seen it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.runtime.imports import importing

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MOST_SURE", "calibrated"]

_FOLDS = 5
# A probability of one has no logit.
MOST_SURE = 0.999
# With fewer right or wrong answers a curve is chance.
_ENOUGH = 5
_DIGITS = 4


def calibrated(confidences: Sequence[float], right: Sequence[bool]) -> list[float] | None:
    """Return for each answer the probability that it is right, by a regression that was fitted on others.

    Args:
        confidences: the reader's own probabilities, from 0 to 1.
        right: whether its answers were right.

    Returns:
        ``None`` if fewer than five answers were right, or fewer than five wrong.

    Examples:
        >>> sure, unsure = calibrated([0.99, 0.6] * 20, [True, False, True, True] * 10)[:2]
        >>> sure > unsure
        True
    """
    if min(sum(right), len(right) - sum(right)) < _ENOUGH:
        return None
    with importing():
        import numpy
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold

    shares = numpy.clip(numpy.asarray(confidences, dtype=float), 1 - MOST_SURE, MOST_SURE)
    logits, truth = numpy.log(shares / (1 - shares)).reshape(-1, 1), numpy.asarray(right, dtype=int)
    found = numpy.zeros(len(truth))
    for known, asked in StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(logits, truth):
        found[asked] = LogisticRegression().fit(logits[known], truth[known]).predict_proba(logits[asked])[:, 1]
    return [round(float(share), _DIGITS) for share in found]
