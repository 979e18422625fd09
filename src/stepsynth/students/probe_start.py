"""Initialises a student's head with a logistic regression on the frozen encoder.

A random head distorts the encoder's features before it is useful itself (Kumar et al. 2022, "LP-FT"). With two
rows per label, it has hardly learned anything when training ends. A regression on the frozen features takes a second
and is often as good as the finished student; training continues from there. A second training also starts with a
new regression, on the encoder of the first: that head was trained on other rows, and with 77 labels the second
training has too few steps to adapt it.

The regression is the one of `probe`: C=10, classes weighted by their share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stepsynth.students.batches import forward_vectors
from stepsynth.students.probe import new_regression

if TYPE_CHECKING:
    from stepsynth.students.batches import Network, Row, Tokenizer

__all__ = ["start_head"]


def start_head(network: Network, tokenizer: Tokenizer, rows: Sequence[Row], targets: Sequence[Any], *, several: bool) -> None:
    """Set a `PooledClassifier`'s head to a logistic regression on its encoder's vectors of the rows.

    A label without rows gets zero weights, so that it is never the likeliest. If there is nothing to tell
    apart (only one label; in multi-label tasks, one that no row or every row has), only the bias is set.

    Args:
        network: in eval mode afterwards.
        tokenizer: its tokenizer.
        rows: the training rows.
        targets: a label number for each row, or a list with 0.0 or 1.0 for each label.
        several: whether ``targets`` has such lists (multi-label tasks).
    """
    import numpy
    import torch
    from threadpoolctl import threadpool_limits

    network.eval()
    vectors = torch.zeros(len(rows), network.head.in_features, dtype=torch.float64)
    for positions, found in forward_vectors(network, tokenizer, rows):
        vectors[positions] = found.cpu().double()
    count = network.head.out_features
    weight, bias = numpy.zeros((count, network.head.in_features)), numpy.zeros(count)
    fit = _each_label if several else _one_label
    # So little work is faster on one thread, many times so on a busy machine, and gives the same bytes on any machine's cores.
    with threadpool_limits(1, user_api="blas"):
        fit(vectors.numpy(), targets, weight, bias)
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(weight))
        network.head.bias.copy_(torch.from_numpy(bias))


def _one_label(vectors: Any, targets: Sequence[int], weight: Any, bias: Any) -> None:
    """Fill in the weights of one label per row."""
    present = sorted(set(targets))
    if len(present) < 2:
        bias[present] = _odds(len(targets), len(targets))
        return
    classifier = new_regression().fit(vectors, targets)
    if len(present) == 2:
        # A two-class regression has one row of weights, for the second class.
        weight[present] = classifier.coef_ * [[-0.5], [0.5]]
        bias[present] = classifier.intercept_ * [-0.5, 0.5]
    else:
        weight[present], bias[present] = classifier.coef_, classifier.intercept_


def _each_label(vectors: Any, targets: Sequence[Sequence[float]], weight: Any, bias: Any) -> None:
    """Fill in the weights of each of several labels, one against the rest."""
    for label in range(len(bias)):
        holds = [bool(target[label]) for target in targets]
        if len(set(holds)) < 2:
            bias[label] = _odds(sum(holds), len(holds))
            continue
        classifier = new_regression().fit(vectors, holds)
        weight[label], bias[label] = classifier.coef_[0], classifier.intercept_[0]


def _odds(holding: int, rows: int) -> float:
    """Return the log-odds of a label, half a row added on either side."""
    return math.log((holding + 0.5) / (rows - holding + 0.5))
