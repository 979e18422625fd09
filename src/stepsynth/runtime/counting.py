"""Numbers with their nouns, as people write them."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, noun: str, many: str | None = None) -> str:
    """Return a number with its noun, in the plural unless it is one.

    Args:
        count: the number; thousands are separated.
        noun: the noun for one thing.
        many: the plural, if it takes more than an *s*.

    Examples:
        >>> counted(1, "row"), counted(1200, "row"), counted(2, "batch", "batches")
        ('1 row', '1,200 rows', '2 batches')
    """
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
