"""Two task families as a user would write them: all that they are stands in this one file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import stepsynth as ss
from stepsynth.config import TaskConfig
from stepsynth.tasks import Classification
from stepsynth.types import Prediction

__all__ = ["Rating", "Reply"]


class Rating(Classification):
    """Grades in an order: the nearer, the better."""

    name = "rating"
    summary = "one grade per text"
    metric = "closeness"
    options: Mapping[str, Any] = {"steps": 2}

    @classmethod
    def check_task(cls, task: TaskConfig) -> None:
        super().check_task(task)
        if not 1 <= task.options.get("steps", 2) < 10:
            raise ValueError(f"task.options.steps is {task.options['steps']!r}; give 1 to 9")

    def score(self, example: ss.Example, prediction: Prediction) -> float:
        apart = abs(self.labels.index(example.label) - self.labels.index(prediction.label))
        return max(0.0, 1 - apart / int(self.options["steps"]))


class Reply(ss.TaskFamily):
    """The tone of a reply to a letter; the letter is kept, the reply is written."""

    name = "reply"
    summary = "one tone per reply to a letter"
    metric = "tone_found"
    kept, written = "letter", "reply"
    prompts: Mapping[str, str] = {
        "seed": "--- user\nLetter: {{ context }}\nReply to it in {{ words }} words, in this tone: {{ label }}.",
        "zerogen": "--- user\nLetter: {{ context }}\nReply in this tone: {{ label }}.",
    }

    def variables(self, label: str, row: ss.Example) -> Mapping[str, object]:
        return {"words": 12}

    def score(self, example: ss.Example, prediction: Prediction) -> float:
        return float(example.label == prediction.label)
