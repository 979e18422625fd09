"""In which order prompts go to an engine that reuses what it has read of others (prefix caching).

The engine looks for the beginning of a prompt when the prompt is queued. Prompts that begin alike and are queued together
are therefore all read in full. `PrefixOrder` holds a prompt back while another one with its beginning is being read:

    held --take()--> being read --has_read()--> read, its beginning is reused by those that come now
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

__all__ = ["PrefixOrder"]

# Tokens that an engine keeps or drops together (OpenVINO on CPUs: 32).
_BLOCK = 32
# Blocks that waiting must save. The turns that every prompt of a task begins with are shorter.
_WORTH_WAITING = 2
# Beginnings to remember. The engine forgets, too; one that is taken for known is only read again.
_REMEMBERED = 20_000


class PrefixOrder:
    """Chooses which of the waiting prompts an engine should read next.

    Examples:
        >>> order = PrefixOrder()
        >>> order.add(0, [7] * 100), order.add(1, [7] * 100), order.add(2, [8] * 100)
        (None, None, None)
        >>> order.take(), order.take(), order.take()
        (0, 2, None)
        >>> order.has_read(0)
        >>> order.take()
        1
    """

    def __init__(self) -> None:
        # Position -> its beginnings, block by block, in the order of the requests.
        self._held: dict[int, tuple[Hashable, ...]] = {}
        # Position -> those beginnings that nobody had read before it.
        self._reading: dict[int, tuple[Hashable, ...]] = {}
        self._known: set[Hashable] = set()

    def __len__(self) -> int:
        """Return how many prompts are held back."""
        return len(self._held)

    @property
    def reading(self) -> tuple[int, ...]:
        """Positions of the prompts that are being read."""
        return tuple(self._reading)

    def add(self, position: int, tokens: Sequence[int]) -> None:
        """Hold a prompt until `take` returns its position."""
        self._held[position] = tuple(_beginnings(tokens))

    def take(self) -> int | None:
        """Return the first prompt that gains nothing by waiting, which is read from now on; None if there is none."""
        now = {beginning for own in self._reading.values() for beginning in own}
        for position, own in self._held.items():
            if sum(beginning in now for beginning in own if beginning not in self._known) < _WORTH_WAITING:
                del self._held[position]
                self._reading[position] = tuple(beginning for beginning in own if beginning not in self._known)
                return position
        return None

    def has_read(self, position: int) -> None:
        """Note that the engine has read a prompt."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        self._known.update(self._reading.pop(position, ()))


def _beginnings(tokens: Sequence[int]) -> Iterator[Hashable]:
    # A block counts only with all blocks before it, as in the engine.
    before: Hashable = None
    for end in range(_BLOCK, len(tokens) + 1, _BLOCK):
        before = hash((before, *tokens[end - _BLOCK : end]))
        yield before
