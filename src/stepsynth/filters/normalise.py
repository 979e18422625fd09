"""Extracts the text of an answer: removes wrappers, unifies white space and quotes."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from stepsynth.filters.characters import tidy
from stepsynth.filters.layout import Layout, begins_with_title, one_paragraph, whole_lines, whole_text
from stepsynth.filters.phrases import OTHER_OPENER
from stepsynth.words import SENTENCE_END, count_words, word_runs

__all__ = ["clean", "leading_sentences", "normalize_for_match"]

# An answer with more layers around its text is rejected.
_LAYERS = 16
# Far beyond any token limit: bounds the work on a hostile server's answer.
_LONGEST = 200_000
# Normalised forms of longer texts are not cached.
_SHORT = 1_000
_PLAIN_PAIRS = {'"': '"', "'": "'", "`": "`", "(": ")", "[": "]", "*": "*", "_": "_"}
# Some languages close with marks that others open with.
_TYPOGRAPHIC_PAIRS = {
    "\u201c": "\u201d",
    "\u2018": "\u2019",
    "\u00ab": "\u00bb",
    "\u00bb": "\u00ab",
    "\u2039": "\u203a",
    "\u203a": "\u2039",
    "\u300c": "\u300d",
    "\u300e": "\u300f",
    "\u300a": "\u300b",
    "\u3010": "\u3011",
    "\u201e": "\u201c\u201d",
    "\u201a": "\u2018\u2019",
}
_ONE_PARAGRAPH = Layout()
_BLANKS = re.compile(r"[^\S\n\t ]")
_FENCE = "```"
_FENCE_HEAD = re.compile(r"```[\w-]*\s*")
_ROLE = re.compile(
    r"^(?:(?:assistant|user|system|ai|bot|human)\s*:|\[?(?:output|answer|response|text|result|example)\]?(?:\s+\d+)?\s*:"
    # Before a lower-case letter it is normal prose: "The question is: was it worth it?"
    r"|(?:the )?(?:premise|hypothesis|question|statement|claim|sentence|passage)(?: is)?\s*:(?=\s*(?-i:[^a-z\s])))\s*",
    re.IGNORECASE,
)
_OPENER = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok|absolutely|great|yes)\b[^\n:]{0,80}?[!,.:]\s+)?"
    r"(?:here(?:'s| is| are)|this is|below is|the following is)\b[^\n:\uff1a]{0,160}[:\uff1a]\s*",
    re.IGNORECASE,
)
# One line of words without a character that any rule of `clean` looks for: nothing of it would be removed.
_NOTHING_TO_DO = re.compile(r"[A-Za-z][A-Za-z0-9.,!?;'/%&$()+=@-]*(?: [A-Za-z0-9.,!?;'/%&$()+=@-]+)*")
_BULLET = re.compile(r"^(?:[-*\u2022]\s+|\d{1,2}[.)]\s+|#{1,6}\s+)")
_CONTROL = re.compile(r"<\|[^|>\n]{0,40}\|>|</?(?:s|text|example|output)>", re.IGNORECASE)


def clean(answer: str, *, truncated: bool = False, layout: Layout = _ONE_PARAGRAPH) -> str:
    """Return the bare text of an answer, or an empty string.

    Removes code fences, chat control tokens, role prefixes, "Here is a review:" and the like, list
    marks, markdown emphasis and surrounding quotes; unifies white space and, unless gold texts have
    them, typographic quote marks (NFC). Of several paragraphs it keeps those of the layout. A truncated
    answer is cut back to its last complete sentence. The time is linear in the answer's length,
    whatever its content.

    Args:
        answer: the teacher's answer; only the first 200,000 characters are used.
        truncated: whether it was cut off at the token limit.
        layout: the layout of the task's texts.
    """
    text, cut = answer[:_LONGEST], truncated or len(answer) > _LONGEST
    if not cut and _NOTHING_TO_DO.fullmatch(bare := text.strip(" \n")):
        return bare
    # Wrappers may be nested; the result is a text that cleaning no longer changes.
    for _ in range(_LAYERS):
        before = text
        text = _bare(text, cut=cut, layout=layout)
        if text == before:
            return text
        cut = False
    return ""


def _bare(answer: str, *, cut: bool, layout: Layout) -> str:
    """Remove one layer of each kind."""
    text = tidy(answer, layout.quotes)
    text = unicodedata.normalize("NFC", _CONTROL.sub(" ", text)).strip()
    text = _unfenced(text)
    for _ in range(4):
        before = text
        text = _unwrap(text, whole=layout.whole)
        if text == before:
            break
    text, to_the_end = whole_text(text) if layout.whole else one_paragraph(text, titles=layout.titles, fields=layout.fields)
    text = text if layout.whole else _unwrap(text)
    text = _spaced(text) if layout.lines else " ".join(text.split())
    if cut and to_the_end:
        text = _whole_sentences(text)
    return _balanced(text)


def normalize_for_match(text: str) -> str:
    """Return a text's form for comparison: letters and digits, casefolded; see `word_runs`."""
    return _remembered(text) if len(text) <= _SHORT else _comparable(text)


def _comparable(text: str) -> str:
    return " ".join(word_runs(text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()))


# All comparing rules need the form of the same few thousand texts.
_remembered = lru_cache(maxsize=4096)(_comparable)


def leading_sentences(text: str, max_words: int) -> str:
    """Return the leading complete sentences, up to ``max_words`` words in total.

    A text that fits is returned unchanged; if the first sentence is too long, the result is empty.
    """
    if count_words(text) <= max_words:
        return text
    fitting = start = words = 0
    for match in SENTENCE_END.finditer(text):
        words += count_words(text[start : match.end()])
        if words > max_words:
            break
        fitting = start = match.end()
    return _balanced(text[:fitting])


def _unfenced(text: str) -> str:
    """Remove a code fence and its language; one pattern for head and tail would backtrack over the spaces between them."""
    if len(text) < 2 * len(_FENCE) or not (text.startswith(_FENCE) and text.endswith(_FENCE)):
        return text
    head = _FENCE_HEAD.match(text)
    return text[head.end() if head else 0 : -len(_FENCE)].strip()


def _unwrap(text: str, *, whole: bool = False) -> str:
    text = text.strip()
    # With several lines, a list mark may be one of many, and emphasis at both ends may be two separate pieces.
    lines = "\n" in text
    marked = lines and (whole or begins_with_title(text))
    for pattern in (_ROLE, _OPENER, OTHER_OPENER, *(() if marked else (_BULLET,))):
        text = pattern.sub("", text, count=1).strip()
    for mark in ("**", "__"):
        ends = text.startswith(mark) and text.endswith(mark) and len(text) > 2 * len(mark)
        if ends and not (lines and whole and mark in text[len(mark) : -len(mark)]):
            text = text[len(mark) : -len(mark)].strip()
    while len(text) > 1 and _wrapped(text[0], text[1:-1], text[-1]):
        text = text[1:-1].strip()
    return text


def _wrapped(first: str, inside: str, last: str) -> bool:
    if last in inside:
        return False
    return _PLAIN_PAIRS.get(first) == last or (last in _TYPOGRAPHIC_PAIRS.get(first, ()) and first not in inside)


def _spaced(text: str) -> str:
    """Replace unusual blanks within lines by spaces; tabs and indentation stay."""
    return _BLANKS.sub(" ", text)


def _whole_sentences(text: str) -> str:
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else whole_lines(text)


def _balanced(text: str) -> str:
    """Drop a quote mark that lost its partner when the answer was cut."""
    if text.count('"') % 2 == 1:
        if text.startswith('"'):
            return text[1:].strip()
        if text.endswith('"'):
            return text[:-1].strip()
    return text
