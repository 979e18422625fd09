"""Methods: what to ask the teacher for, in which order, and how many rows to keep.

A plan is pure: the n-th request for a label is always the same, however often and in
whatever order it is asked for, so that a run repeats and resumes.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol

from stepsynth.types import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepsynth.types import Request

__all__ = ["Plan", "even_targets", "seeded"]


class Plan(Protocol):
    """A stage's requests."""

    @property
    def stage(self) -> str:
        """Name of the stage, for instance ``round-1/extrapolate``."""
        ...

    @property
    def kind(self) -> str:
        """Name of what is written: ``rationales``, ``seed`` or ``extrapolate``."""
        ...

    @property
    def targets(self) -> Mapping[str, int]:
        """Label -> accepted rows wanted."""
        ...

    def request(self, label: str, number: int, index: int) -> Request:
        """Return the ``number``-th request for a label, at position ``index`` of the stage's plan."""
        ...


def even_targets(rows: int, labels: list[str]) -> dict[str, int]:
    """Spread ``rows`` over the labels; the first ones get what does not divide evenly."""
    each, rest = divmod(rows, len(labels))
    return {label: each + (position < rest) for position, label in enumerate(labels)}


def seeded(*parts: object) -> random.Random:
    """Return a generator that depends on ``parts`` only, the same on every machine."""
    return random.Random(int(digest(parts)[:16], 16))
