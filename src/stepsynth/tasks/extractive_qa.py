"""Questions whose answer is a span of a given passage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.evaluation.squad import evaluate_extractive_qa, exact_match
from stepsynth.tasks.family import AnswerKind, TaskFamily

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.types import Evaluation, Example, Prediction

__all__ = ["ExtractiveQA"]


class ExtractiveQA(TaskFamily):
    """Extractive question answering (SQuAD, AdversarialQA); see `stepsynth.tasks.TaskFamily`."""

    summary = "questions with their answer in a passage"
    metric = "exact_match"
    answer_kind: AnswerKind = "span"
    written = "question"
    kept = "context"

    def score(self, example: Example, prediction: Prediction) -> float:
        """Return whether the answer equals one of the gold answers, normalised as in SQuAD."""
        return float(exact_match(prediction.label, [answer.text for answer in example.answers]))

    def evaluate(self, gold: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
        """Return exact match and F1; for a subclass with another score, also that score."""
        found = evaluate_extractive_qa(gold, predictions)
        return found if type(self).score is ExtractiveQA.score else self.scored_beside(found, gold, predictions)

    @property
    def prompt_names(self) -> dict[str, str]:
        """Empty: the templates for questions already say "passage" and "question"."""
        return {}

    @property
    def page_names(self) -> dict[str, str]:
        """The words "passage" and "question"."""
        return {"context": "passage", "text": "question"}
