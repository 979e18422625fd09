"""Which texts are most like a row, by a student's own encoder before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.runtime.imports import importing
from stepsynth.students.probe import FrozenEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import StudentConfig
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = ["most_similar"]

# Last digits depend on the processor: texts that are equally near to so many digits stay in their order.
_DIGITS = 4


def most_similar(config: StudentConfig, family: TaskFamily, rows: Sequence[Example], texts: Sequence[Example]) -> list[list[int]]:
    """Return for each row the places of all texts, the most similar first (cosine of mean-pooled vectors).

    Args:
        config: its base model gives the vectors.
        family: how rows are read.
        rows: what texts should be like.
        texts: what to choose from.
    """
    with importing():
        from sklearn.metrics.pairwise import cosine_similarity

    if not rows or not texts:
        return [[] for _ in rows]
    vectors = FrozenEncoder(config, family).features([*rows, *texts])
    near = cosine_similarity(vectors[: len(rows)], vectors[len(rows) :]).round(_DIGITS)
    return [sorted(range(len(texts)), key=lambda place: -own[place]) for own in near.tolist()]
