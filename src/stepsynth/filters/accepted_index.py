"""Lets a rule process each accepted row once, although every wave passes in all earlier accepted rows, old ones first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.types import GeneratedRow

__all__ = ["Growing"]


class Growing:
    """Remembers which accepted rows a rule has already counted."""

    def __init__(self) -> None:
        self._counted: list[GeneratedRow] = []

    def news(self, accepted: Sequence[GeneratedRow]) -> tuple[Sequence[GeneratedRow], bool]:
        """Return the rows that are new since the last call, and whether earlier counts are void.

        Args:
            accepted: all accepted rows, in plan order. If they do not begin with the same objects as
                in the last call, all of them are new.
        """
        known = self._counted
        void = len(known) > len(accepted) or any(old is not row for old, row in zip(known, accepted, strict=False))
        if void:
            self._counted = known = []
        new = accepted[len(known) :]
        known.extend(new)
        return new, void
