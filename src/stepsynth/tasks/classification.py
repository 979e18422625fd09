"""Texts with one label, or with any number of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from stepsynth.evaluation.metrics import evaluate_classification, evaluate_multi_label
from stepsynth.tasks.labels import even_targets, split_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import TaskConfig
    from stepsynth.types import Evaluation, Example, Prediction

__all__ = ["Classification", "MultiLabel"]


class Classification:
    """One label per text; see `stepsynth.tasks.TaskFamily`."""

    metric = "accuracy"
    has_context = False

    def __init__(self, task: TaskConfig) -> None:
        self.task = task
        self.labels = list(task.labels)

    def groups(self, gold: Sequence[Example], rows: int) -> dict[str, int]:
        """Spread the rows evenly over the labels."""
        return even_targets(rows, self.labels)

    def score(self, example: Example, prediction: Prediction) -> float:
        """Return whether the label is right."""
        return float(example.label == prediction.label)

    def evaluate(self, gold: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
        """Return accuracy and its tables."""
        return evaluate_classification(gold, predictions, self.labels)

    def gold(self, example: Example) -> str:
        """Return the label."""
        return example.label

    def texts(self, example: Example) -> tuple[str, ...]:
        """Return the text."""
        return (example.text,)

    def record(self, example: Example) -> dict[str, object]:
        """Return ``text`` and ``label``."""
        return {"text": example.text, "label": example.label}


class MultiLabel(Classification):
    """Any number of labels per text; a row is right when all of them are (subset accuracy)."""

    metric = "subset_accuracy"

    def groups(self, gold: Sequence[Example], rows: int) -> dict[str, int]:
        """Spread the rows over the combinations of labels that real rows have, as often as they occur there.

        Every combination that occurs gets a row while there are enough; then the commonest first.
        """
        counts = Counter(example.label for example in gold if example.label)
        ordered = sorted(counts, key=lambda label: (-counts[label], label))[:rows]
        total = sum(counts[label] for label in ordered)
        # Largest remainder, with one row each put aside first.
        spare = rows - len(ordered)
        exact = {label: spare * counts[label] / total for label in ordered}
        targets = {label: 1 + int(exact[label]) for label in ordered}
        by_remainder = sorted(ordered, key=lambda label: (int(exact[label]) - exact[label], label))
        for label in by_remainder[: rows - sum(targets.values())]:
            targets[label] += 1
        return targets

    def evaluate(self, gold: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
        """Return subset accuracy, micro and macro F1."""
        return evaluate_multi_label(gold, predictions, self.labels)

    def record(self, example: Example) -> dict[str, object]:
        """Return ``text`` and ``labels``."""
        return {"text": example.text, "labels": list(split_labels(example.label))}
