"""How a text is written, in words for a teacher: its length, its capitals, its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.words import count_words

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["described_form"]

# Question marks of other scripts, too.
_QUESTION_MARKS = ("?", "\uff1f", "\u061f", "\u1367")
_EXACT = 20


def described_form(texts: Sequence[str]) -> str:
    """Return how texts are written, in a few words that tell nothing of what they say.

    Args:
        texts: gold texts, one for each that is to be written.

    Returns:
        For instance ``about 9 words, all in lower case, ends with a question mark``; of several texts the lengths
        of all, and what most of them have in common. Empty where there are no words.
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
    """Return a text's words; nobody counts to 137, so that larger numbers are round."""
    words = count_words(text)
    return words if words <= _EXACT else round(words, -1)
