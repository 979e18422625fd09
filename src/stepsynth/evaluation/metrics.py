"""What a student scored on gold rows: accuracy first, and the tables that explain it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat

from stepsynth.evaluation.statistics import wilson
from stepsynth.types import Evaluation, Example, Prediction

__all__ = ["evaluate_classification"]

_DIGITS = 6
_BINS = 10


def evaluate_classification(gold: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]) -> Evaluation:
    """Score predictions against gold labels.

    Args:
        gold: the examples with their true labels, at least one.
        predictions: one per example, in the same order.
        labels: all labels, in the order of the tables.

    Returns:
        Accuracy with its Wilson interval. ``details`` holds plain numbers, rounded to 6 digits:
        ``macro_f1`` (mean over the labels that occur in gold or predictions), ``mcc`` (Gorodkin
        2004), ``per_label`` (``label, n, precision, recall, f1``), ``confusion`` (rows gold,
        columns predicted), ``mean_confidence`` and ``ece`` (expected calibration error over ten
        equal bins of the confidence, Guo et al. 2017).

    Raises:
        ValueError: no rows, predictions that belong to other rows, or a label not in ``labels``.
    """
    _check(gold, predictions, labels)
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, matthews_corrcoef, precision_recall_fscore_support

    truth, predicted = [example.label for example in gold], [prediction.label for prediction in predictions]
    occurring = sorted({*truth, *predicted})
    columns = precision_recall_fscore_support(truth, predicted, labels=list(labels), zero_division=0)
    details: dict[str, Any] = {
        "macro_f1": _plain(f1_score(truth, predicted, labels=occurring, average="macro", zero_division=0)),
        # The library warns where one label is all there is; the coefficient is 0 by definition there.
        "mcc": _plain(matthews_corrcoef(truth, predicted)) if len(occurring) > 1 else 0.0,
        "per_label": [
            {"label": label, "n": int(n), "precision": _plain(precision), "recall": _plain(recall), "f1": _plain(f1)}
            for label, precision, recall, f1, n in zip(labels, *columns, strict=True)
        ],
        "confusion": confusion_matrix(truth, predicted, labels=list(labels)).tolist(),
        **_calibration(truth, predictions),
    }
    right = sum(a == b for a, b in zip(truth, predicted, strict=True))
    return Evaluation("accuracy", _plain(accuracy_score(truth, predicted)), wilson(right, len(truth)), len(truth), details)


def _calibration(truth: Sequence[str], predictions: Sequence[Prediction]) -> dict[str, float]:
    from scipy.stats import binned_statistic

    # A softmax in 32 bits may end a hair above 1, which would fall out of the last bin.
    confidence = [min(1.0, float(prediction.probabilities[prediction.label])) for prediction in predictions]
    surplus = [sure - (prediction.label == label) for sure, prediction, label in zip(confidence, predictions, truth, strict=True)]
    per_bin = binned_statistic(confidence, surplus, statistic="sum", bins=_BINS, range=(0.0, 1.0)).statistic
    return {"mean_confidence": _plain(sum(confidence) / len(truth)), "ece": _plain(abs(per_bin).sum() / len(truth))}


def _check(gold: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]) -> None:
    if not gold:
        raise ValueError("no rows to evaluate")
    if [example.id for example in gold] != [prediction.example_id for prediction in predictions]:
        raise ValueError(f"the {len(predictions)} predictions do not belong to the {len(gold)} gold rows, one by one")
    strange = {example.label for example in gold} | {prediction.label for prediction in predictions}
    strange -= set(labels)
    if strange:
        raise ValueError(f"labels {sorted(strange)!r} are not among {list(labels)!r}")


def _plain(value: SupportsFloat) -> float:
    # Adding 0.0 turns -0.0 into 0.0, so that equal scores have one spelling.
    return round(float(value), _DIGITS) + 0.0
