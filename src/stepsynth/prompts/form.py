"""Describe a text's form for a teacher: its length, its case, its ending."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.words import count_words

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["described_form"]

# Including those of other scripts.
_QUESTION_MARKS = ("?", "\uff1f", "\u061f", "\u1367")
_EXACT = 20


def described_form(texts: Sequence[str]) -> str:
    """Describe the form of texts in a few words, without their content.

    Args:
        texts: gold texts, one for each text to write.

    Returns:
        For instance ``about 9 words, all in lower case, ends with a question mark``; for several texts, all lengths
        and what most of them have in common. Empty if there are no words.
    """
    lengths = [_length(text) for text in texts if count_words(text)]
    if not lengths:
        return ""
    one = len(lengths) == 1
    listed = str(lengths[0]) if one else f"{', '.join(map(str, lengths[:-1]))} and {lengths[-1]}"
    found = [f"about {listed} words" if lengths != [1] else "one word"]
    if 2 * sum(text == text.lower() != text.upper() for text in texts) > len(texts):
        found.append("all in lower case")
    if 2 * sum(text.rstrip("\"') ").endswith(_QUESTION_MARKS) for text in texts) > len(texts):
        found.append("ends with a question mark" if one else "each ends with a question mark")
    return ", ".join(found)


def _length(text: str) -> int:
    """Return a text's number of words, rounded to tens if large."""
    words = count_words(text)
    return words if words <= _EXACT else round(words, -1)
