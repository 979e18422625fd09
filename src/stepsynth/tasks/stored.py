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
        known = {"summary": f"rows of the family {task.family}", **task.identity}
        for key in ("summary", "metric", "written", "kept", "answer_kind"):
            setattr(self, key, known.get(key, getattr(self, key)))

    @property
    def page_names(self) -> dict[str, str]:
        """As the run's config has them."""
        return dict(self.task.identity.get("page_names", super().page_names))

    def score(self, example: Example, prediction: Prediction) -> float:
        """Return whether the answer is the right one, letter by letter."""
        return float(self.gold(example) == prediction.label)
