"""A stand-in for the family of a finished run whose class is missing, so that rows and scores can still be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.tasks.family import TaskFamily

if TYPE_CHECKING:
    from stepsynth.config import TaskConfig
    from stepsynth.types import Example, Prediction

__all__ = ["StoredFamily"]


class StoredFamily(TaskFamily):
    """A family made from a run's config, see `stepsynth.tasks.TaskFamily.identity`."""

    def __init__(self, task: TaskConfig) -> None:
        super().__init__(task)
        known = {"summary": f"rows of the family {task.family}", **task.identity}
        for key in ("summary", "metric", "written", "kept", "answer_kind"):
            setattr(self, key, known.get(key, getattr(self, key)))

    @property
    def page_names(self) -> dict[str, str]:
        """The names in the run's config."""
        return dict(self.task.identity.get("page_names", super().page_names))

    def score(self, example: Example, prediction: Prediction) -> float:
        """Return whether the answer equals the gold answer exactly."""
        return float(self.gold(example) == prediction.label)
