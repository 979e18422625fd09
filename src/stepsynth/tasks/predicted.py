"""A prediction as ``predict`` writes it and ``serve`` answers it: the family's columns, without an answer where it abstains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.evaluation.coverage import abstains

if TYPE_CHECKING:
    from stepsynth.tasks.family import TaskFamily
    from stepsynth.types import Prediction

__all__ = ["ABSTAINED", "predicted_columns"]

ABSTAINED = "abstained"
_PROBABLE = ("probabilities", "probability")


def predicted_columns(family: TaskFamily, prediction: Prediction, threshold: float | None = None) -> dict[str, object]:
    """Return a prediction in the columns of its family.

    Args:
        family: of the task.
        prediction: a student's.
        threshold: abstain below this confidence: the answer is ``None``, and ``abstained`` says so; ``None``: never, and
            without that column.
    """
    found = family.predicted(prediction)
    if threshold is None:
        return found
    abstained = abstains(prediction, threshold)
    likely = {name: value for name, value in found.items() if name not in _PROBABLE}
    answer = dict.fromkeys(likely) if abstained else likely
    return {**answer, ABSTAINED: abstained, **{name: found[name] for name in _PROBABLE if name in found}}
