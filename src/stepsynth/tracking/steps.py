"""Figures that a continued run does not have yet.

A process may be killed between a tracker's call and the note in the run directory that it was made; then the call comes
again, and a store that can be asked keeps each figure once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["without_earlier"]


def without_earlier(metrics: Mapping[str, float], step: int, had: Mapping[str, set[int]]) -> dict[str, float]:
    """Return the figures that a store does not have for a step.

    Args:
        metrics: the figures of the step.
        step: the round.
        had: name -> the steps that the store had when the run was continued.
    """
    return {name: value for name, value in metrics.items() if step not in had.get(name, ())}
