"""What a label is called in prose, by which words a text would give it away, and how several are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["even_targets", "join_labels", "label_phrase", "label_words", "split_labels"]

_SEPARATOR = "|"


def label_phrase(label: str) -> str:
    """Return a label as words: ``order_status`` -> ``order status``; several are joined by "and"."""
    parts = [re.sub(r"[_\-/]+", " ", part).strip() or part for part in label.split(_SEPARATOR)]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def label_words(label: str) -> tuple[str, ...]:
    """Return the words of three letters or more that name a label, casefolded."""
    words = re.findall(r"[^\W\d_]{3,}", " ".join(label_phrase(part) for part in label.split(_SEPARATOR)).casefold())
    return tuple(dict.fromkeys(words))


def join_labels(chosen: Iterable[str], labels: Sequence[str]) -> str:
    """Return the one spelling of a set of labels: in the order of ``labels``, joined by ``|``."""
    wanted = set(chosen)
    return _SEPARATOR.join(label for label in labels if label in wanted)


def split_labels(joined: str) -> tuple[str, ...]:
    """Return the labels of a row; none for the empty string."""
    return tuple(joined.split(_SEPARATOR)) if joined else ()


def even_targets(rows: int, labels: Sequence[str]) -> dict[str, int]:
    """Spread ``rows`` over the labels; the first ones get what does not divide evenly."""
    each, rest = divmod(rows, len(labels))
    return {label: each + (position < rest) for position, label in enumerate(labels)}
