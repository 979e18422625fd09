"""Questions whose answer stands in a given passage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.evaluation.squad import evaluate_extractive_qa, exact_match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import TaskConfig
    from stepsynth.types import Evaluation, Example, Prediction

__all__ = ["ExtractiveQA"]


class ExtractiveQA:
    """Extractive question answering (SQuAD, AdversarialQA); see `stepsynth.tasks.TaskFamily`."""

    metric = "exact_match"
    has_context = True

    def __init__(self, task: TaskConfig) -> None:
        self.task = task

    def groups(self, gold: Sequence[Example], rows: int) -> dict[str, int]:
        """Return one group: questions have no labels."""
        return {"": rows}

    def score(self, example: Example, prediction: Prediction) -> float:
        """Return whether the answer equals one of the gold answers, normalised as in SQuAD."""
        return float(exact_match(prediction.label, [answer.text for answer in example.answers]))

    def evaluate(self, gold: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
        """Return exact match and F1."""
        return evaluate_extractive_qa(gold, predictions)

    def gold(self, example: Example) -> str:
        """Return the first answer."""
        return example.answers[0].text

    def texts(self, example: Example) -> tuple[str, ...]:
        """Return question and passage."""
        return (example.text, example.context)

    def record(self, example: Example) -> dict[str, object]:
        """Return a row in SQuAD's form: ``context``, ``question``, ``answers``."""
        answers = {"text": [a.text for a in example.answers], "answer_start": [a.start for a in example.answers]}
        return {"context": example.context, "question": example.text, "answers": answers}
