"""From an answer to the text in it: wrappers off, spelling of white space and quotes unified."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import islice, takewhile

__all__ = ["clean", "comparable", "leading_sentences"]

_QUOTES = {"\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2018": "'", "\u2019": "'", "\u00ab": '"', "\u00bb": '"'}
# An answer with more layers around its text is no text.
_LAYERS = 16
# Far beyond what any token limit lets through: bounds the work on what a hostile server sends.
_LONGEST = 200_000
# Forms of longer texts are not kept in memory.
_SHORT = 1_000
_PAIRS = {'"': '"', "'": "'", "`": "`", "(": ")", "[": "]", "*": "*", "_": "_"}
_FENCE = "```"
_FENCE_HEAD = re.compile(r"```[\w-]*\s*")
_ROLE = re.compile(
    r"^(?:(?:assistant|user|system|ai|bot|human)\s*:|\[?(?:output|answer|response|text|result|example)\]?(?:\s+\d+)?\s*:"
    # With a small letter behind it, it is a turn of speech: "The question is: was it worth it?"
    r"|(?:the )?(?:premise|hypothesis|question|statement|claim|sentence|passage)(?: is)?\s*:(?=\s*(?-i:[^a-z\s])))\s*",
    re.IGNORECASE,
)
_OPENER = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok|absolutely|great|yes)\b[^\n:]{0,80}?[!,.:]\s+)?"
    r"(?:here(?:'s| is| are)|this is|below is|the following is)\b[^\n:]{0,160}:\s*",
    re.IGNORECASE,
)
_BULLET = re.compile(r"^(?:[-*\u2022]\s+|\d{1,2}[.)]\s+|#{1,6}\s+)")
_CONTROL = re.compile(r"<\|[^|>\n]{0,40}\|>|</?(?:s|text|example|output)>", re.IGNORECASE)
_WORD = re.compile(r"\w+")
_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*\u2022#]|\d{1,2}[.)]))")
_SENTENCE_END = re.compile(r"[.!?\u2026][\"')\]]*(?=\s|$)")


def clean(answer: str, *, truncated: bool = False) -> str:
    """Return the bare text of an answer, or an empty string.

    Takes off code fences, chat control tokens, role prefixes, "Here is a review:" and the like,
    list marks, markdown emphasis and surrounding quotes; unifies white space and quote marks
    (NFC). Takes the first paragraph, since small models go on talking after it. A truncated
    answer is cut back to its last whole sentence. Time is in proportion to the answer's length,
    whatever stands in it.

    Args:
        answer: the teacher's words; what goes beyond 200,000 characters is cut off.
        truncated: whether it was cut off at the token limit.
    """
    text, cut = answer[:_LONGEST], truncated or len(answer) > _LONGEST
    # What is under a wrapper may be wrapped itself; the result is a text that would come back as it is.
    for _ in range(_LAYERS):
        before = text
        text = _bare(text, cut=cut)
        if text == before:
            return text
        cut = False
    return ""


class _Characters(dict[int, str | None]):
    """For `str.translate`: quote marks unified, invisible characters gone; grows with the characters that occur."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        gone = character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cf", "Cs")
        self[code] = None if gone else _QUOTES.get(character, character)
        return self[code]


_CHARACTERS = _Characters()


def _bare(answer: str, *, cut: bool) -> str:
    """Take off one layer of each kind."""
    text = answer.translate(_CHARACTERS)
    text = unicodedata.normalize("NFC", _CONTROL.sub(" ", text)).strip()
    text = _unfenced(text)
    for _ in range(4):
        before = text
        text = _unwrap(text)
        if text == before:
            break
    paragraphs = [part.strip() for part in _PARAGRAPH.split(text) if part.strip()]
    if len(paragraphs) > 1:
        text, cut = _unwrap(paragraphs[0]), False
    text = " ".join(text.split())
    if cut:
        text = _whole_sentences(text)
    return _balanced(text)


def comparable(text: str) -> str:
    """Return the form in which texts are compared: letters and digits, casefolded."""
    return _remembered(text) if len(text) <= _SHORT else _comparable(text)


def _comparable(text: str) -> str:
    if text.isascii():
        return " ".join(_WORD.findall(text.lower()))
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


# Every rule that compares asks for the form of the same few thousand texts.
_remembered = lru_cache(maxsize=4096)(_comparable)


def leading_sentences(text: str, max_words: int) -> str:
    """Return the whole sentences at the beginning that have at most ``max_words`` words together.

    A text that fits is returned as it is; one whose first sentence is too long gives nothing.
    """
    if len(text.split()) <= max_words:
        return text
    beyond = next(islice(re.finditer(r"\S+", text), max_words, None)).start()
    fitting = [match.end() for match in takewhile(lambda match: match.end() <= beyond, _SENTENCE_END.finditer(text))]
    return _balanced(text[: fitting[-1]]) if fitting else ""


def _unfenced(text: str) -> str:
    """Take a code fence and its language off; one pattern for head and tail would try every way to share the spaces."""
    if len(text) < 2 * len(_FENCE) or not (text.startswith(_FENCE) and text.endswith(_FENCE)):
        return text
    head = _FENCE_HEAD.match(text)
    return text[head.end() if head else 0 : -len(_FENCE)].strip()


def _unwrap(text: str) -> str:
    text = text.strip()
    for pattern in (_ROLE, _OPENER, _BULLET):
        text = pattern.sub("", text, count=1).strip()
    for mark in ("**", "__"):
        if text.startswith(mark) and text.endswith(mark) and len(text) > 2 * len(mark):
            text = text[len(mark) : -len(mark)].strip()
    while len(text) > 1 and _PAIRS.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def _whole_sentences(text: str) -> str:
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else ""


def _balanced(text: str) -> str:
    """Drop a quote mark that lost its partner when the answer was cut."""
    if text.count('"') % 2 == 1:
        if text.startswith('"'):
            return text[1:].strip()
        if text.endswith('"'):
            return text[:-1].strip()
    return text
