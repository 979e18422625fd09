"""One import of a large library at a time.

    with importing():
        from transformers import AutoModel

Such libraries import their parts when these are first named, in circles that several threads at once run into half done: the
first runs of a process, begun together, would fail with an ImportError.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["importing"]

# Whoever waits for another lock inside would wait for ever: nothing else is taken in there.
_turn = threading.RLock()


@contextmanager
def importing() -> Iterator[None]:
    """Let no other thread import a large library, or read a model with it, which imports as well."""
    with _turn:
        yield
