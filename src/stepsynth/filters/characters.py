"""Cleans the characters of an answer: unifies line breaks and quotes, removes invisible ones that no script or emoji needs."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["KEPT_INVISIBLE", "QUOTES", "tidy"]

# Typographic quote marks and their replacements, used unless gold texts have them.
QUOTES = {"\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2018": "'", "\u2019": "'", "\u00ab": '"', "\u00bb": '"'}
_BREAK = re.compile("\r\n|[\r\x0b\x0c\x85\u2028]")
# Joiners are needed in words of Persian and Indic scripts and in composed emoji; tags in flags of regions. Some Arabic and
# other signs count as invisible although they are not. Direction marks, the soft hyphen, the byte order mark and the zero
# width space are removed: they only affect how a line is drawn or broken, and make equal texts differ.
_JOINERS, _TAGS = "\u200c\u200d", "\U000e0020-\U000e007f"
_VISIBLE = "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001343f"
KEPT_INVISIBLE = re.compile(f"[{_JOINERS}{_TAGS}{_VISIBLE}]")
_JOINED = (
    "\u0600-\u109f\u1780-\u18af\u1a20-\u1aaf\u1b00-\u1c4f\ua800-\ua82f\ua840-\uabff\ufb50-\ufdff\ufe70-\ufefc"
    "\U00010a00-\U00011fff"
)
_EMOJI = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_LOOSE = re.compile(
    f"(?<![{_JOINED}{_EMOJI}])[{_JOINERS}]|(?<=[{_EMOJI}])\u200c|(?<=[{_EMOJI}])\u200d(?![{_EMOJI}])"
    f"|(\U0001f3f4[\U000e0020-\U000e007e]{{1,8}}\U000e007f)|[{_TAGS}]"
)


class _Characters(dict[int, str | None]):
    """A table for `str.translate` that is filled with characters as they occur."""

    def __init__(self, kept: frozenset[str]) -> None:
        super().__init__()
        self._kept = kept

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        gone = character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Cs")
        if gone and not KEPT_INVISIBLE.match(character):
            self[code] = None
        else:
            self[code] = character if character in self._kept else QUOTES.get(character, character)
        return self[code]


_table = lru_cache(maxsize=8)(_Characters)


def tidy(text: str, kept: frozenset[str] = frozenset()) -> str:
    """Return a text with plain line breaks and without invisible characters.

    Args:
        text: the raw text.
        kept: typographic quote marks that stay as they are; others become ``"`` and ``'``.
    """
    text = _BREAK.sub("\n", text).translate(_table(kept))
    return text if text.isascii() else _LOOSE.sub(lambda match: match[1] or "", text)
