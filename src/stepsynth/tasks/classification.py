"""Texts with one label, or with any number of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.evaluation.metrics import evaluate_classification, evaluate_multi_label
from stepsynth.tasks.family import AnswerKind, TaskFamily

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.types import Evaluation, Example, Prediction

__all__ = ["Classification", "MultiLabel"]


class Classification(TaskFamily):
    """One label per text; see `stepsynth.tasks.TaskFamily`."""

    summary = "one label per text"
    metric = "accuracy"

    def score(self, example: Example, prediction: Prediction) -> float:
        """Return whether the label is right."""
        return float(example.label == prediction.label)

    def evaluate(self, gold: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
        """Return accuracy and its tables; for a subclass with another score, that score with the same tables."""
        return self._as_scored(evaluate_classification(gold, predictions, self.labels), gold, predictions)

    def _as_scored(self, found: Evaluation, gold: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
        if type(self).score is Classification.score:
            return found
        return self.scored_beside(found, gold, predictions)


class MultiLabel(Classification):
    """Any number of labels per text; a row is right if all of them are (subset accuracy)."""

    summary = "any number of labels per text"
    metric = "subset_accuracy"
    answer_kind: AnswerKind = "labels"

    def evaluate(self, gold: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
        """Return subset accuracy, micro and macro F1."""
        return self._as_scored(evaluate_multi_label(gold, predictions, self.labels), gold, predictions)
