"""What the teacher decided: labels, or a piece of the passage, read from its words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.tasks import create_family

if TYPE_CHECKING:
    from stepsynth.config import TaskConfig
    from stepsynth.types import Example

__all__ = ["read_answer"]


def read_answer(text: str, task: TaskConfig, row: Example) -> tuple[str, int] | None:
    """Return what an answer decides, or ``None`` when it decides nothing; see `stepsynth.tasks.TaskFamily.read_answer`.

    Args:
        text: the teacher's words.
        task: gives the family and the labels.
        row: gives the passage.
    """
    return create_family(task).read_answer(text, row)
