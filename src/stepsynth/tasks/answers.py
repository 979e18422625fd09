"""What the teacher decided: labels, or a piece of the passage, read from its words."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from stepsynth.tasks.labels import join_labels, keeps_signs, label_names, label_phrase
from stepsynth.words import SPACELESS, read_form

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["read_label", "read_labels", "read_span"]

_QUOTES = "\"'` \u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"
# What a label needs by far; bounds the work on what a server may send.
_LONGEST = 20_000
_LISTED = re.compile(r"[,;\n\u060c\u3001\uff0c]|\band\b")
_NONE = re.compile(r"\W*(?:none|no label)\b")
_PAIRS = {'"': '"', "'": "'", "*": "*", "_": "_", "(": ")", "[": "]", "{": "}", "<": ">", "\u300c": "\u300d", "\u00ab": "\u00bb"}
_LEAD = re.compile(
    r"(?:(?:the|my|final|correct|right|best) )*(?:answer|label|category|class|grade|rating|score|sentiment)"
    r"(?: (?:is|would be|should be))?(?: ?[:=]| (?=\S))|it is |it's |i would say |i'd say |[-*#\u2022](?= )"
)
# Letters that are words of many languages, too, and what may follow one that is meant as a label.
_WORDS_OF_ONE_LETTER = frozenset("aeiouy")
_GOES_ON = re.compile(r"'\w|\s+(?!(?:because|since|as|and|or|but|is)\b)[^\W\d_]")
# Longest grade, in letters.
_SHORT = 3
# Where labels have a minus, it may be a word or stand apart, and "1/1" is no number of the scale. At the beginning "- 1"
# may be a minus, or a line of the list that the prompt shows: it decides nothing.
_MINUS = re.compile(r"(?:\b(?:minus|negative)|(?<=[:=(\"'*])\s?-) (?=\d)|(?<=\bis )- (?=\d)", re.IGNORECASE)
_LISTED_NUMBER = re.compile(r"\s*- \d")
_APART = r"(?<!- )(?<!\d/)"
_SEPARATORS = r"[\s_\-/]+"
_LETTER = rf"[^\W_{SPACELESS}]"


def read_label(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that an answer decides for, or ``None`` when it decides nothing.

    An answer that is a label and nothing else is that label. Otherwise the label that is named first counts. Of
    labels that begin at the same place the longest counts, and signs belong to a label: ``-1`` is
    not named by ``1``, nor ``A`` by ``A-``.

    Args:
        text: the teacher's words.
        labels: the task's.
    """
    reader = _reader(tuple(labels), False)
    whole = reader.whole(text)
    return whole if whole is not None else next(reader.named(text), None)


def read_labels(text: str, labels: Sequence[str]) -> str | None:
    """Return all labels that an answer names, joined; "none" is a decision, too. See `read_label`."""
    reader = _reader(tuple(labels), True)
    whole = reader.whole(text)
    if whole is not None:
        return whole
    found = reader.listed(text) or list(reader.named(text))
    none = _NONE.match(read_form(text[:_LONGEST]))
    return join_labels(found, labels) if found or none else None


def read_span(text: str, context: str) -> tuple[str, int] | None:
    """Return an answer in the words of a passage, and where it begins there (-1 where it does not stand in it).

    Args:
        text: the teacher's words.
        context: the passage.
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    # The full stop may stand before or behind the closing quote.
    answer = line.strip(_QUOTES).rstrip(".").strip(_QUOTES)
    return (answer, context.find(answer)) if answer else None


class _Reader:
    """Finds the labels of one task in answers."""

    def __init__(self, labels: tuple[str, ...], several: bool) -> None:
        names = label_names(labels, several=several)
        words = {label: read_form(label_phrase(label)) for label in labels}
        times = Counter(words.values())
        # In other words than its own only where these have lost no sign and are no other label.
        free = {label: bool(words[label]) and keeps_signs(label) and times[words[label]] == 1 for label in labels}
        self._forms = {read_form(label): label for label in labels}
        for label in labels:
            self._forms.setdefault(read_form(names[label]), label)
            if free[label]:
                self._forms.setdefault(words[label], label)
        forms = {(words[label] if free[label] else read_form(label)): label for label in labels}
        for form, label in list(self._forms.items()):
            for other in _same_number(form):
                if other not in self._forms:
                    self._forms[other] = forms[other] = label
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._labels = [forms[form] for form in ordered]
        spelled = [_pattern(form, spaced=free[forms[form]]) for form in ordered]
        self._signed = any(re.fullmatch(r"-\d+(?:\.\d+)?", form) for form in forms)
        apart = [(_APART, r"(?!/\d)") if self._signed and form[0].isdigit() else ("", "") for form in ordered]
        strict = [f"{_left(form)}{pattern}{_right(form)}" for form, pattern in zip(ordered, spelled, strict=True)]
        strict = [f"{before}{pattern}{behind}" for (before, behind), pattern in zip(apart, strict, strict=True)]
        # Many languages hang endings on to a word: where no label stands alone, the beginning of a word will do.
        loose = ["(?!)" if form.isascii() else pattern for form, pattern in zip(ordered, spelled, strict=True)]
        self._patterns = [re.compile("|".join(f"({pattern})" for pattern in patterns)) for patterns in (strict, loose)]

    def whole(self, text: str) -> str | None:
        """Return the label that an answer is and nothing else, wrappers and "The answer is" aside."""
        text = self._form(text[:_LONGEST])
        if self._signed and _LISTED_NUMBER.match(text):
            return None
        for _ in range(8):
            if text in self._forms:
                return self._forms[text]
            before = text
            if len(text) > 2 and _PAIRS.get(text[0]) == text[-1]:
                text = text[1:-1].strip()
            elif lead := _LEAD.match(text):
                text = text[lead.end() :].strip()
            else:
                text = text.rstrip(".!,;:\u3002 ")
            if text == before:
                return None
        return None

    def _form(self, text: str, *, fold: bool = True) -> str:
        form = read_form(text, fold=fold)
        return _MINUS.sub("-", form) if self._signed else form

    def listed(self, text: str) -> list[str]:
        """Return the labels of a list of them; none when anything else is in it."""
        found = [self.whole(part) for part in _LISTED.split(text[:_LONGEST]) if part.strip()]
        return [label for label in found if label is not None] if None not in found else []

    def named(self, text: str) -> Iterator[str]:
        """Yield the labels that are named, in the order of the text."""
        text = text[:_LONGEST]
        small, cased = self._form(text), self._form(text, fold=False)
        for pattern in self._patterns:
            some = False
            for match in pattern.finditer(small):
                # Case tells a label from an article; where folding moved characters, nothing does.
                if match[0] not in _WORDS_OF_ONE_LETTER or (len(cased) == len(small) and _stands_alone(match, cased)):
                    some = True
                    yield self._labels[(match.lastindex or 1) - 1]
            if some:
                return


_reader = lru_cache(maxsize=8)(_Reader)


def _stands_alone(match: re.Match[str], cased: str) -> bool:
    """Whether one letter is meant as a label: in quotes or brackets, or a capital that no sentence goes on from."""
    start, end = match.span()
    if start and cased[start - 1] in "\"'([*" and cased[end : end + 1] in tuple("\"')]*"):
        return True
    return cased[start].isupper() and not _GOES_ON.match(cased, end)


def _pattern(form: str, *, spaced: bool) -> str:
    return _SEPARATORS.join(map(re.escape, form.split())) if spaced else re.escape(form)


def _left(form: str) -> str:
    """Return what must not stand before a label: more of its word or number."""
    first = form[0]
    guard = rf"(?<!{_LETTER})" if re.match(_LETTER, first) or first in "+-" else ""
    if first.isdigit():
        guard += rf"(?<![<>\u2264\u2265~])(?<![<>!]=)(?<!(?<!{_LETTER})-)(?<!\d[.,])(?<!\d-)"
    return guard


def _right(form: str) -> str:
    last = form[-1]
    guard = rf"(?!{_LETTER})" if re.match(_LETTER, last) or last == "-" else ""
    if last.isdigit():
        return rf"{guard}(?![.,]\d|\+|-\d)"
    if last in "+-#*<>=":
        return rf"{guard}(?!{re.escape(last)})"
    # Grades and languages: A is not A-, C neither C++ nor C#.
    return rf"{guard}(?![+#]|-(?:[\s.,;:!?)\]\"']|$))" if len(form) <= _SHORT and last.isalpha() else guard


def _same_number(form: str) -> tuple[str, ...]:
    """Return other spellings of a whole number: ``+1`` and ``1.0`` are ``1`` where the task has no such label of its own."""
    number = re.fullmatch(r"(\+?)(-?\d{1,18})(\.0+)?", form)
    if number is None or (number[1] and number[2].startswith("-")):
        return ()
    return tuple(other for other in (number[2], f"{number[2]}.0", f"+{number[2]}") if "+-" not in other and other != form)
