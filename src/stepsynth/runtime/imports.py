"""One import of a large library at a time.

    with importing():
        from transformers import AutoModel

Such libraries import their parts lazily and in circles. Several threads at once would see half-imported modules, and runs
started together in one process would fail with an ImportError.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["importing"]

# Take no other lock while holding this one: that could deadlock.
_turn = threading.RLock()


@contextmanager
def importing() -> Iterator[None]:
    """Keep other threads from importing a large library, or from loading a model with it (which imports too)."""
    with _turn:
        yield
