"""Pairs of texts with one label: one text is kept, the other is written."""

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

    summary = "one label per pair of texts"

    def __init__(self, task: TaskConfig) -> None:
        super().__init__(task)
        (self.kept,) = (name for name, field in task.fields.items() if field.context)
        (self.written,) = (name for name, field in task.fields.items() if not field.context)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """``text1`` and ``text2``, whichever is kept."""
        return ("text1", "text2")

    def texts(self, example: Example) -> tuple[str, ...]:
        """Return the two texts in the task's order."""
        named = {self.kept: example.context, self.written: example.text}
        return tuple(named[name] for name in self.task.order)

    @property
    def page_names(self) -> dict[str, str]:
        """The names of the task's fields."""
        return {"context" if field.context else "text": field.name for field in self.task.fields.values()}

    @classmethod
    def check_fields(cls, task: TaskConfig) -> None:
        """Check that there are two fields, one of which is kept."""
        kept = [name for name, field in task.fields.items() if field.context]
        if len(task.fields) != 2 or len(kept) != 1:
            raise ValueError(
                "a pair needs fields {text1: {name: ...}, text2: {name: ...}}, one of them with context: true; "
                f"found {len(task.fields)} fields, {len(kept)} of them kept as the context"
            )
        if len(set(task.order)) != 2:
            raise ValueError(f"order {list(task.order)!r} names a field twice; write [text1, text2] or [text2, text1]")
