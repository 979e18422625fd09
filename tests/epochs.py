"""Epochs whose order is given, so that a test knows which one is the best without training until one is worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stepsynth.students import trainer

if TYPE_CHECKING:
    import pytest

__all__ = ["scripted_epochs", "without_words"]


def without_words(weights: dict[str, Any]) -> dict[str, Any]:
    """Return the weights that have the same shape during and after a training: all but the embedding matrix."""
    return {name: value for name, value in weights.items() if "word_embeddings" not in name}


def scripted_epochs(monkeypatch: pytest.MonkeyPatch, accuracies: Sequence[float]) -> list[dict[str, Any]]:
    """Let epochs have these accuracies on select, whatever they learned; return the weights that each one ends with.

    Loss and F1 stay what they are.
    """
    ended: list[dict[str, Any]] = []
    judge = trainer._judge

    def scripted(network: Any, score: Any, epoch: int, train_loss: float) -> trainer.Epoch:
        ended.append({name: value.clone() for name, value in without_words(network.state_dict()).items()})
        return replace(judge(network, score, epoch, train_loss), select_accuracy=accuracies[epoch - 1])

    monkeypatch.setattr(trainer, "_judge", scripted)
    return ended
