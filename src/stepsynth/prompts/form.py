"""How a text is written, in words for a teacher: its length, its capitals, its end."""

from __future__ import annotations

from stepsynth.words import count_words

__all__ = ["described_form"]

# Question marks of other scripts, too.
_QUESTION_MARKS = ("?", "\uff1f", "\u061f", "\u1367")
_EXACT = 20


def described_form(text: str) -> str:
    """Return how a text is written, in a few words that tell nothing of what it says.

    Args:
        text: a gold text.

    Returns:
        For instance ``about 9 words, all in lower case, ends with a question mark``; empty for an empty text.
    """
    words = count_words(text)
    if not words:
        return ""
    # Nobody counts to 137: fewer lengths also make more prompts equal at their beginning.
    length = words if words <= _EXACT else round(words, -1)
    found = [f"about {length} words" if words > 1 else "one word"]
    if text == text.lower() != text.upper():
        found.append("all in lower case")
    if text.rstrip("\"') ").endswith(_QUESTION_MARKS):
        found.append("ends with a question mark")
    return ", ".join(found)
