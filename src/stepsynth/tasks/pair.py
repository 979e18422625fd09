"""Two texts and one label: one text is kept, the other is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.tasks.classification import Classification

if TYPE_CHECKING:
    from stepsynth.config import TaskConfig
    from stepsynth.types import Example

__all__ = ["Pair"]


class Pair(Classification):
    """Sentence pairs (RTE, QNLI); see `stepsynth.tasks.TaskFamily`.

    Attributes:
        kept: ``text1`` or ``text2``, whichever is the context.
        written: the other one.
    """

    has_context = True

    def __init__(self, task: TaskConfig) -> None:
        super().__init__(task)
        (self.kept,) = (name for name, field in task.fields.items() if field.context)
        (self.written,) = (name for name, field in task.fields.items() if not field.context)

    def texts(self, example: Example) -> tuple[str, ...]:
        """Return the two texts in the task's order."""
        named = {self.kept: example.context, self.written: example.text}
        return tuple(named[name] for name in self.task.order)

    def record(self, example: Example) -> dict[str, object]:
        """Return ``text1``, ``text2`` and ``label``."""
        named = {self.kept: example.context, self.written: example.text}
        return {"text1": named["text1"], "text2": named["text2"], "label": example.label}
