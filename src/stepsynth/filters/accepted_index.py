"""Lets a rule process each accepted row once, although every wave passes in all earlier accepted rows, old ones first.

`Facts` keeps what a rule finds out about a single row, so that it can be found out while answers are awaited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepsynth.types import GeneratedRow

__all__ = ["Facts", "Growing"]

Fact = TypeVar("Fact")


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


class Facts(Generic[Fact]):
    """What a rule knows of single rows.

    Args:
        found: finds it out.
    """

    def __init__(self, found: Callable[[GeneratedRow], Fact]) -> None:
        self._found = found
        # By identity, which is quicker than a hash of the texts; the row is kept, so that no other gets its number.
        self._known: dict[int, tuple[GeneratedRow, Fact]] = {}

    def of(self, row: GeneratedRow) -> Fact:
        """Return the fact about a row."""
        known = self._known.get(id(row))
        if known is None:
            known = self._known[id(row)] = (row, self._found(row))
        return known[1]
