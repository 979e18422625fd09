"""What a label is called in prose, and by which words a text would give it away."""

from __future__ import annotations

import re

__all__ = ["label_phrase", "label_words"]


def label_phrase(label: str) -> str:
    """Return a label as words: ``order_status`` -> ``order status``."""
    return re.sub(r"[_\-/]+", " ", label).strip() or label


def label_words(label: str) -> tuple[str, ...]:
    """Return the words of three letters or more that name a label, casefolded."""
    words = re.findall(r"[^\W\d_]{3,}", label_phrase(label).casefold())
    return tuple(dict.fromkeys(words))
