"""Word counts and sentence ends in any script.

Scripts with spaces are split at them. Others are counted by rule: two characters of Chinese or Japanese
make a word, as do three letters of Thai, Lao, Khmer or Burmese, or one syllable of Tibetan. That is close
to a segmenter's count, needs no dictionary, and is the same on every machine.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["SENTENCE_END", "SPACELESS", "count_words", "is_spaceless", "normalised", "pieces", "read_form", "word_runs"]

# Bopomofo, kana, ideographs and their marks; not Hangul, which has spaces.
_PAIRED = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U000323af"
)
# Thai, Lao, Burmese, Khmer, Tai scripts, New Tai Lue, Tai Tham; letters and marks, not digits.
_TRIPLED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u109a-\u109f\u1780-\u17d3\u17d7\u17dc-\u17dd"
    "\u1950-\u19c9\u1a20-\u1a7c\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaadf"
)
_TIBETAN = "\u0f00\u0f18-\u0f19\u0f35\u0f37\u0f39\u0f40-\u0fbc"
SPACELESS = _PAIRED + _TRIPLED + _TIBETAN
_SPACELESS = re.compile(f"[{SPACELESS}]")
_RUN = re.compile(f"([{_PAIRED}]+)|([{_TRIPLED}]+)|([{_TIBETAN}]+)|[^\\s{SPACELESS}]+")
_SELECTOR = re.compile("[\ufe00-\ufe0f]")
_LETTERS_PER_WORD = 3
# A stop with its closing marks. Western stops must be followed by white space (unlike 3.50); stops of spaceless scripts need not.
_CLOSERS = "\"')\\]\u2019\u201d\u00bb\u203a\u300d\u300f\u3011\u300b\u3009\uff09\uff3d"
SENTENCE_END = re.compile(
    rf"[.!?\u2026\u061f\u06d4\u0589\u1362\u1367\u1368\u203c\u2047-\u2049][{_CLOSERS}]*(?=\s|$)"
    rf"|(?:[\u3002\uff01\uff1f\uff61\u0964\u0965\u104b\u17d4\u17d5\u0e5a\u0e5b\u0f0d-\u0f12]|\uff0e(?!\d))[{_CLOSERS}]*"
    # Western stops after a character of a spaceless script.
    rf"|(?<=[{_PAIRED}])[.!?\u2026]+(?!\w)[{_CLOSERS}]*"
    # Thai and Lao have no stop: a space ends a sentence.
    r"|(?<=[\u0e01-\u0e4e\u0e81-\u0ece])(?=\s+[\u0e01-\u0e4e\u0e81-\u0ece])"
)

# Marks that look the same in most fonts. NFKC normalises widths and ligatures, but not these.
_ALIKE = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-"),
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032`\u00b4", "'"),
        "\u2264": "<=",
        "\u2265": ">=",
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
    }
)


def normalised(text: str) -> str:
    """Normalise case and white space of a text for comparison."""
    return " ".join(text.casefold().split())


def is_spaceless(text: str) -> bool:
    """Whether a text contains characters of a script that puts no spaces between words."""
    return not text.isascii() and _SPACELESS.search(text) is not None


def count_words(text: str) -> int:
    """Count the words; see the module for the rules."""
    if not is_spaceless(text):
        return len(text.split())
    return sum(max(1, _weight(chunk)) for chunk in text.split())


def pieces(text: str) -> list[str]:
    """Return the units by which texts are compared: words, or overlapping character pairs in scripts without spaces.

    Unlike words cut off by counting, overlapping pairs match at any offset.
    """
    if not is_spaceless(text):
        return text.split()
    found: list[str] = []
    for match in _RUN.finditer(text):
        run = match[0]
        if match.lastindex is None or len(run) == 1:
            found.append(run)
        else:
            found += [run[at : at + 2] for at in range(len(run) - 1)]
    return found


def word_runs(text: str) -> list[str]:
    r"""Return the runs of letters, digits and their marks, like ``\w+``; in scripts without spaces, each character.

    A vowel sign of Hindi or Thai belongs to its letter, though ``\w`` does not match it.
    """
    return (_ASCII_RUNS if text.isascii() else _all_runs()).findall(text)


def read_form(text: str, *, fold: bool = True) -> str:
    """Normalise away what a reader does not see: case, width, white space, invisible characters and kinds of dashes."""
    text = text.translate(_ALIKE)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = text.casefold() if fold else text
    if not text.isascii() or not text.isprintable():
        # An invisible character may have separated a letter from its accent.
        unseen = {ord(character): None for character in set(text) if _invisible(character)}
        text = unicodedata.normalize("NFKC", text.translate(unseen) if unseen else text).translate(_ALIKE)
    return " ".join(text.split())


def _weight(chunk: str) -> int:
    words = 0
    for match in _RUN.finditer(chunk):
        run = match[0]
        if match[1]:
            words += (len(run) + 1) // 2
        elif match[2]:
            letters = sum(unicodedata.category(character).startswith("L") for character in run)
            words += max(1, -(-letters // _LETTERS_PER_WORD))
        else:
            words += any(map(str.isalnum, run))
    return words


_ASCII_RUNS = re.compile(r"\w+")


@lru_cache(maxsize=1)
def _all_runs() -> re.Pattern[str]:
    # Python's re has no class for marks, so list them once, when first needed.
    marks = "".join(
        character
        for character in map(chr, range(0x300, 0x1F000))
        if unicodedata.category(character) in ("Mn", "Mc") and not (_SPACELESS.match(character) or _SELECTOR.match(character))
    )
    return re.compile(f"[{SPACELESS}]|[^\\W{SPACELESS}](?:[^\\W{SPACELESS}]|[{marks}])*")


def _invisible(character: str) -> bool:
    # Selectors say how a character is drawn, not which one it is.
    selector = "\ufe00" <= character <= "\ufe0f"
    return selector or (unicodedata.category(character) in ("Cc", "Cf", "Cs") and not character.isspace())
