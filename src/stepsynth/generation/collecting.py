"""The garbage collector, kept from looking over and over at requests that are all still wanted."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["rarely_collected"]

# Objects more than were freed, before the young ones are looked at: those of some hundred requests.
_YOUNG = 20_000


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Collect less often while a stage is written; what is set is global, and set back at the end.

    A request, its answer and its row live until the stage is done; with Python's own threshold of
    700 objects the collector finds that out again and again (docs/decisions.md).
    """
    before = gc.get_threshold()
    # 0 is how somebody turned it off.
    if before[0]:
        gc.set_threshold(max(before[0], _YOUNG), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
