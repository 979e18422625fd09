"""A student's scores on gold rows: accuracy, and the tables that explain it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepsynth.evaluation.clusters import clusters_of, in_details
from stepsynth.evaluation.statistics import plain, share_interval
from stepsynth.runtime.imports import importing
from stepsynth.types import Evaluation, Example, Prediction

__all__ = ["check_rows", "evaluate_classification", "evaluate_multi_label"]

_BINS = 10


def evaluate_classification(gold: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]) -> Evaluation:
    """Score predictions against gold labels.

    Args:
        gold: the examples with their true labels, at least one.
        predictions: one per example, in the same order.
        labels: all labels, in the order of the tables.

    Returns:
        Accuracy with its Wilson interval. ``details`` has plain numbers, rounded to 6 digits:
        ``macro_f1`` (mean over the labels that occur in gold or predictions), ``mcc`` (Gorodkin
        2004), ``per_label`` (``label, n, precision, recall, f1``), ``confusion`` (rows gold,
        columns predicted), ``mean_confidence``, ``ece`` (expected calibration error over ten
        equal bins of the confidence, Guo et al. 2017) and, where rows share contexts, ``clusters``
        (number of contexts, over which the interval then is).

    Raises:
        ValueError: no rows, predictions for other rows, or a label not in ``labels``.
    """
    _check(gold, predictions, labels, {row.label for row in gold} | {row.label for row in predictions})
    with importing():
        from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, matthews_corrcoef, precision_recall_fscore_support

    truth, predicted = [example.label for example in gold], [prediction.label for prediction in predictions]
    occurring = sorted({*truth, *predicted})
    columns = precision_recall_fscore_support(truth, predicted, labels=list(labels), zero_division=0)
    details: dict[str, Any] = {
        "macro_f1": plain(f1_score(truth, predicted, labels=occurring, average="macro", zero_division=0)),
        # With only one label the library warns; the coefficient is 0 by definition then.
        "mcc": plain(matthews_corrcoef(truth, predicted)) if len(occurring) > 1 else 0.0,
        "per_label": [
            {"label": label, "n": int(n), "precision": plain(precision), "recall": plain(recall), "f1": plain(f1)}
            for label, precision, recall, f1, n in zip(labels, *columns, strict=True)
        ],
        "confusion": confusion_matrix(truth, predicted, labels=list(labels)).tolist(),
        **_calibration(truth, predictions),
        **in_details(clusters := clusters_of(gold)),
    }
    right = [a == b for a, b in zip(truth, predicted, strict=True)]
    return Evaluation("accuracy", plain(accuracy_score(truth, predicted)), share_interval(right, clusters), len(truth), details)


def evaluate_multi_label(gold: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str]) -> Evaluation:
    """Score predicted sets of labels against the true ones.

    Args:
        gold: the examples; a row's labels are joined by ``|``; without labels it is the empty string.
        predictions: one per example, in the same order, with labels joined the same way.
        labels: all labels, in the order of the tables.

    Returns:
        Subset accuracy (a row counts if all its labels are right) with its Wilson interval.
        ``details`` has plain numbers, rounded to 6 digits: ``micro_f1``, ``macro_f1`` (mean over
        the labels that occur in gold or predictions), ``hamming`` (share of wrong decisions, one
        decision per row and label), ``per_label`` (``label, n, precision, recall, f1``),
        ``mean_confidence`` (of a row's least certain decision) and, where rows share contexts,
        ``clusters`` (number of contexts, over which the interval then is).

    Raises:
        ValueError: no rows, predictions for other rows, or a label not in ``labels``.
    """
    truth, predicted = [_chosen(example.label) for example in gold], [_chosen(prediction.label) for prediction in predictions]
    _check(gold, predictions, labels, set().union(*truth, *predicted))
    per_label = [_one_label(label, truth, predicted) for label in labels]
    occurring = [row["f1"] for row in per_label if any(row["label"] in chosen for chosen in (*truth, *predicted))]
    shared = sum(len(a & b) for a, b in zip(truth, predicted, strict=True))
    marked = sum(len(a) + len(b) for a, b in zip(truth, predicted, strict=True))
    right = [a == b for a, b in zip(truth, predicted, strict=True)]
    details: dict[str, Any] = {
        "micro_f1": plain(2 * shared / marked) if marked else 0.0,
        "macro_f1": plain(sum(occurring) / len(occurring)) if occurring else 0.0,
        "hamming": plain((marked - 2 * shared) / (len(gold) * len(labels))),
        "per_label": [{name: plain(v) if isinstance(v, float) else v for name, v in row.items()} for row in per_label],
        "mean_confidence": plain(sum(map(_least_sure, predictions, predicted)) / len(predictions)),
        **in_details(clusters := clusters_of(gold)),
    }
    return Evaluation("subset_accuracy", plain(sum(right) / len(gold)), share_interval(right, clusters), len(gold), details)


def check_rows(gold: Sequence[Example], predictions: Sequence[Prediction]) -> None:
    """Check that there are rows and that the predictions match them, one by one.

    Raises:
        ValueError: there are none, or they do not match.
    """
    if not gold:
        raise ValueError("no rows to evaluate")
    if [example.id for example in gold] != [prediction.example_id for prediction in predictions]:
        raise ValueError(f"the {len(predictions)} predictions do not belong to the {len(gold)} gold rows, one by one")


def _calibration(truth: Sequence[str], predictions: Sequence[Prediction]) -> dict[str, float]:
    with importing():
        from scipy.stats import binned_statistic

    # A 32-bit softmax may be slightly above 1, outside the last bin.
    confidence = [min(1.0, float(prediction.probabilities[prediction.label])) for prediction in predictions]
    surplus = [sure - (prediction.label == label) for sure, prediction, label in zip(confidence, predictions, truth, strict=True)]
    per_bin = binned_statistic(confidence, surplus, statistic="sum", bins=_BINS, range=(0.0, 1.0)).statistic
    return {"mean_confidence": plain(sum(confidence) / len(truth)), "ece": plain(abs(per_bin).sum() / len(truth))}


def _chosen(joined: str) -> set[str]:
    return set(joined.split("|")) if joined else set()


def _least_sure(prediction: Prediction, chosen: set[str]) -> float:
    # `Prediction.confidence` cannot tell whether one label is one of several or the only one.
    return min(float(p if label in chosen else 1 - p) for label, p in prediction.probabilities.items())


def _one_label(label: str, truth: Sequence[set[str]], predicted: Sequence[set[str]]) -> dict[str, Any]:
    n, marked = sum(label in chosen for chosen in truth), sum(label in chosen for chosen in predicted)
    hits = sum(label in a and label in b for a, b in zip(truth, predicted, strict=True))
    return {
        "label": label,
        "n": n,
        "precision": hits / marked if marked else 0.0,
        "recall": hits / n if n else 0.0,
        "f1": 2 * hits / (n + marked) if n + marked else 0.0,
    }


def _check(gold: Sequence[Example], predictions: Sequence[Prediction], labels: Sequence[str], seen: set[str]) -> None:
    check_rows(gold, predictions)
    strange = seen - set(labels)
    if strange:
        raise ValueError(f"labels {sorted(strange)!r} are not among {list(labels)!r}")
