"""Accepted rows are looked at once: each wave of a stage brings all that were accepted before it, old ones first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.types import GeneratedRow

__all__ = ["Growing"]


class Growing:
    """Remembers which accepted rows a rule has counted already."""

    def __init__(self) -> None:
        self._counted: list[GeneratedRow] = []

    def news(self, accepted: Sequence[GeneratedRow]) -> tuple[Sequence[GeneratedRow], bool]:
        """Return the rows that are new since the last call, and whether what was counted before is void.

        Args:
            accepted: all accepted rows, in plan order. Where they do not begin with the very
                objects of the last call, all of them are new.
        """
        known = self._counted
        void = len(known) > len(accepted) or any(old is not row for old, row in zip(known, accepted, strict=False))
        if void:
            self._counted = known = []
        new = accepted[len(known) :]
        known.extend(new)
        return new, void
