"""Read the teacher's decision from its words: labels, or a span of the passage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.tasks import create_family

if TYPE_CHECKING:
    from stepsynth.config import TaskConfig
    from stepsynth.types import Example

__all__ = ["read_answer"]


def read_answer(text: str, task: TaskConfig, row: Example) -> tuple[str, int] | None:
    """Return the decision in an answer, or ``None`` if there is none; see `stepsynth.tasks.TaskFamily.read_answer`.

    Args:
        text: the teacher's words.
        task: gives the family and the labels.
        row: gives the passage.
    """
    return create_family(task).read_answer(text, row)
