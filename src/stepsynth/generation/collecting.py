"""Makes garbage collection rarer while many requests are alive."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["rarely_collected"]

# Net allocations before a collection of the young generation: the objects of a few hundred requests.
_YOUNG = 20_000


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Collect less often while a stage is written; the threshold is global and restored at the end.

    A request, its answer and its row live until the stage is done; with Python's default threshold of
    700 objects the collector scans them in vain again and again (docs/decisions.md).
    """
    before = gc.get_threshold()
    # 0 means that the collector was turned off.
    if before[0]:
        gc.set_threshold(max(before[0], _YOUNG), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
