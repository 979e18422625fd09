"""What a family's `score` gave, as a number between 0 and 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepsynth.tasks.family import TaskFamily
    from stepsynth.types import Example, Prediction

__all__ = ["score_of"]


def score_of(family: TaskFamily, example: Example, prediction: Prediction) -> float:
    """Return the score of one prediction; numpy's numbers and the like as Python's.

    Raises:
        ValueError: it is no number, or none between 0 and 1.
    """
    found: object = family.score(example, prediction)
    try:
        score = float("nan" if isinstance(found, str | bytes) else found)  # type: ignore[arg-type]
    except TypeError:
        score = float("nan")
    if not 0 <= score <= 1:
        raise ValueError(f"score() gave {found!r} for row {example.id!r}, which is no number from 0 to 1")
    return score
