"""Check that a family's `score` is a number from 0 to 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepsynth.tasks.family import TaskFamily
    from stepsynth.types import Example, Prediction

__all__ = ["score_of"]


def score_of(family: TaskFamily, example: Example, prediction: Prediction) -> float:
    """Return the score of a prediction as a Python float.

    Raises:
        ValueError: it is not a number from 0 to 1.
    """
    found: object = family.score(example, prediction)
    try:
        score = float("nan" if isinstance(found, str | bytes) else found)  # type: ignore[arg-type]
    except TypeError:
        score = float("nan")
    if not 0 <= score <= 1:
        raise ValueError(f"score() gave {found!r} for row {example.id!r}, which is not a number from 0 to 1")
    return score
