"""The requests of a wave, made when they are needed: the first are on their way before the last are planned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import overload

from stepsynth.types import Request

__all__ = ["Planned"]


class Planned(Sequence[Request]):
    """A sequence that makes its members one after the other.

    Args:
        source: gives them in order.
        count: how many it gives.

    Attributes:
        made: those that were made so far.
    """

    def __init__(self, source: Iterator[Request], count: int) -> None:
        self._source = source
        self._count = count
        self.made: list[Request] = []

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Request: ...

    @overload
    def __getitem__(self, place: slice) -> list[Request]: ...

    def __getitem__(self, place: int | slice) -> Request | list[Request]:
        places = range(self._count)[place]
        last = places if isinstance(places, int) else max(places, default=-1)
        if (lacking := last + 1 - len(self.made)) > 0:
            self.made += islice(self._source, lacking)
        return self.made[place]
