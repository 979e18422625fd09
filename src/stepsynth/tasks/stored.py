"""The family of a finished run whose class is not here: rows and scores can be looked at all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.tasks.family import TaskFamily

if TYPE_CHECKING:
    from stepsynth.config import TaskConfig
    from stepsynth.types import Example, Prediction

__all__ = ["StoredFamily"]


class StoredFamily(TaskFamily):
    """What a run's config tells of its family, see `stepsynth.tasks.TaskFamily.identity`."""

    def __init__(self, task: TaskConfig) -> None:
        super().__init__(task)
        self.summary = f"rows of the family {task.family}"
        known = task.identity
        self.metric, self.written = str(known.get("metric", self.metric)), str(known.get("written", self.written))
        self.kept = str(known.get("kept", self.kept))
        if (kind := known.get("answer_kind")) in ("label", "labels", "span"):
            self.answer_kind = kind

    def score(self, example: Example, prediction: Prediction) -> float:
        """Return whether the answer is the right one, letter by letter."""
        return float(self.gold(example) == prediction.label)
