"""Read the teacher's decision from its words: labels, or a span of the passage."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from stepsynth.tasks.labels import join_labels, keeps_signs, label_names, label_phrase
from stepsynth.words import SPACELESS, read_form

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["read_label", "read_labels", "read_span"]

_QUOTES = "\"'` \u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"
# Far more than a label needs; bounds the work on a server's output.
_LONGEST = 20_000
_LISTED = re.compile(r"[,;\n\u060c\u3001\uff0c]|\band\b")
_NONE = re.compile(r"\W*(?:none|no label)\b")
_PAIRS = {'"': '"', "'": "'", "*": "*", "_": "_", "(": ")", "[": "]", "{": "}", "<": ">", "\u300c": "\u300d", "\u00ab": "\u00bb"}
_LEAD = re.compile(
    r"(?:(?:the|my|final|correct|right|best) )*(?:answer|label|category|class|grade|rating|score|sentiment)"
    r"(?: (?:is|would be|should be))?(?: ?[:=]| (?=\S))|it is |it's |i would say |i'd say |[-*#\u2022](?= )"
)
_Beside = tuple[re.Pattern[str] | None, re.Pattern[str] | None, str | None]
# Letters that are also words in many languages, and text that shows that one is not meant as a label.
_WORDS_OF_ONE_LETTER = frozenset("aeiouy")
_GOES_ON = re.compile(r"'\w|\s+(?!(?:because|since|as|and|or|but|is)\b)[^\W\d_]")
# The longest grade, in letters.
_SHORT = 3
# If labels have a minus, it may be written as a word or apart, and "1/1" is not a number of the scale. "- 1" at the start
# may be a minus or a line of the list in the prompt, so it decides nothing.
_MINUS = re.compile(r"(?:\b(?:minus|negative)|(?<=[:=(\"'*])\s?-) (?=\d)|(?<=\bis )- (?=\d)", re.IGNORECASE)
_LISTED_NUMBER = re.compile(r"\s*- \d")
_APART = r"(?<!- )(?<!\d/)"
# "1. -1" is an item of a list, and "1. 0" may be one.
_NUMBERED = re.compile(r"\W*\d+[.)] ?-\d|\d+[.)] \d+\W*$")
# Words before a label that negate it: "not spam", "non-spam", "not an entailment".
_NEGATION = re.compile(r"(?<![^\W_])(no|not|non|un|never)(?: an?| the)?[\s_\-]+[\"'*(\[]*$")
_SPOKEN = {"-": "minus", "+": "plus", "#": "sharp", "*": "star"}
_ENDS = r"\s*(?:$|[.,;:!?)\]\"'*])|\s+(?:because|since|as|and|for|is)\b"
_SEPARATORS = r"[\s_\-/]+"
_LETTER = rf"[^\W_{SPACELESS}]"


def read_label(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that an answer decides for, or ``None`` if it decides nothing.

    An answer that is only a label is that label. Otherwise the first label named counts; of labels that
    begin at the same position, the longest. Signs belong to a label: ``1`` does not name ``-1``, nor
    ``A-`` the label ``A``.

    Args:
        text: the teacher's words.
        labels: the task's labels.
    """
    reader = _reader(tuple(labels), False)
    whole = reader.whole(text)
    return whole if whole is not None else next(reader.named(text), None)


def read_labels(text: str, labels: Sequence[str]) -> str | None:
    """Return all labels that an answer names, joined; "none" is also a decision. See `read_label`."""
    reader = _reader(tuple(labels), True)
    whole = reader.whole(text)
    if whole is not None:
        return whole
    found: list[str | None] = [*reader.listed(text)] or list(reader.named(text))
    none = _NONE.match(read_form(text[:_LONGEST]))
    clear = [label for label in found if label is not None]
    return join_labels(clear, labels) if (found or none) and len(clear) == len(found) else None


def read_span(text: str, context: str) -> tuple[str, int] | None:
    """Return an answer in the words of a passage, and its position there (-1 if it does not occur).

    Args:
        text: the teacher's words.
        context: the passage.
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    # The full stop may come before or after the closing quote.
    answer = line.strip(_QUOTES).rstrip(".").strip(_QUOTES)
    return (answer, context.find(answer)) if answer else None


class _Reader:
    """Finds the labels of one task in answers."""

    def __init__(self, labels: tuple[str, ...], several: bool) -> None:
        names = label_names(labels, several=several)
        words = {label: read_form(label_phrase(label)) for label in labels}
        times = Counter(words.values())
        # A label may be written as words only if these keep its signs and match no other label.
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
        self._numbers = all(re.fullmatch(r"[-+]?\d+(?:\.\d+)?", read_form(label)) for label in labels)
        apart = [(_APART, r"(?!/\d)") if self._signed and form[0].isdigit() else ("", "") for form in ordered]
        strict = [f"{_left(form)}{pattern}{_right(form)}" for form, pattern in zip(ordered, spelled, strict=True)]
        strict = [f"{before}{pattern}{behind}" for (before, behind), pattern in zip(apart, strict, strict=True)]
        # Many languages add endings to words: if no label stands alone, the beginning of a word is enough.
        loose = ["(?!)" if form.isascii() else pattern for form, pattern in zip(ordered, spelled, strict=True)]
        self._shared = [_pattern(words, spaced=True) for words, count in times.items() if count > 1 and " " in words]
        self._signs = {label: _signs_beside(label, self._forms) for label in labels}
        self._patterns = [re.compile("|".join(f"({pattern})" for pattern in patterns)) for patterns in (strict, loose)]

    def whole(self, text: str) -> str | None:
        """Return the label if an answer is only that, apart from wrappers and "The answer is"."""
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
        """Return the labels of a list; empty if it contains anything else."""
        found = [self.whole(part) for part in _LISTED.split(text[:_LONGEST]) if part.strip()]
        return [label for label in found if label is not None] if None not in found else []

    def named(self, text: str) -> Iterator[str | None]:
        """Yield the labels named, in the order of the text; ``None`` for one that may be another."""
        text = text[:_LONGEST]
        small, cased = self._form(text), self._form(text, fold=False)
        if self._numbers and _NUMBERED.match(small):
            yield None
            return
        shared = [match.span() for pattern in self._shared for match in re.finditer(pattern, small)]
        denied: set[str] = set()
        for pattern in self._patterns:
            some = False
            for match in pattern.finditer(small):
                # Case distinguishes a label from an article, unless case folding moved characters.
                if match[0] in _WORDS_OF_ONE_LETTER and not (len(cased) == len(small) and _stands_alone(match, cased)):
                    continue
                some, label = True, self._labels[(match.lastindex or 1) - 1]
                start, end = match.span()
                if any(first <= start and end <= last and end - start < last - first for first, last in shared):
                    yield None
                    return
                if self._is_denied(small, match):
                    denied.add(label)
                if label not in denied:
                    yield self._with_signs(small, match, label)
            if some:
                return

    def _is_denied(self, text: str, match: re.Match[str]) -> bool:
        before = _NEGATION.search(text, max(0, match.start() - 20), match.start())
        return before is not None and before[1] not in self._forms

    def _with_signs(self, text: str, match: re.Match[str], label: str) -> str | None:
        """Return the other label if signs apart from a label belong to it; ``None`` if that is unclear."""
        for before, behind, other in self._signs[label]:
            if before is not None and before.search(text, max(0, match.start() - 8), match.start()):
                return other
            if behind is not None and behind.match(text, match.end()):
                return other
        return label


_reader = lru_cache(maxsize=8)(_Reader)


def _stands_alone(match: re.Match[str], cased: str) -> bool:
    """Whether a single letter is meant as a label: in quotes or brackets, or a capital that does not start a phrase."""
    start, end = match.span()
    if start and cased[start - 1] in "\"'([*" and cased[end : end + 1] in tuple("\"')]*"):
        return True
    return cased[start].isupper() and not _GOES_ON.match(cased, end)


def _pattern(form: str, *, spaced: bool) -> str:
    return _SEPARATORS.join(map(re.escape, form.split())) if spaced else re.escape(form)


def _signs_beside(label: str, forms: Mapping[str, str]) -> list[_Beside]:
    """Return the signs apart from a label that make it another one: patterns before and after it, and the other if clear."""
    found: list[_Beside] = []
    base = read_form(label)
    for form, other in forms.items():
        signs = form.removeprefix(base) if form.startswith(base) else ""
        if signs and all(sign in _SPOKEN for sign in signs):
            spoken = r"[\s-]+".join(_SPOKEN[sign] for sign in signs)
            found.append((None, re.compile(rf"[\s-]*{spoken}(?={_ENDS})"), other))
            unclear = signs == "-"
            found.append((None, re.compile(rf"\s+{re.escape(signs)}(?={_ENDS})"), None if unclear else other))
        signs = form.removesuffix(base) if form.endswith(base) else ""
        if signs and re.fullmatch(r"[<>=~+]+", signs):
            found.append((re.compile(rf"{re.escape(signs)}\s+$"), None, other))
    return found


def _left(form: str) -> str:
    """Return a guard against more of the same word or number before a label."""
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
    # Grades and programming languages: A is not A-, and C is neither C++ nor C#.
    return rf"{guard}(?![+#]|-(?:[\s.,;:!?)\]\"']|$))" if len(form) <= _SHORT and last.isalpha() else guard


def _same_number(form: str) -> tuple[str, ...]:
    """Return other spellings of a whole number: ``+1`` and ``1.0`` mean ``1`` unless they are labels themselves."""
    number = re.fullmatch(r"(\+?)(-?\d{1,18})(\.0+)?", form)
    if number is None or (number[1] and number[2].startswith("-")):
        return ()
    return tuple(other for other in (number[2], f"{number[2]}.0", f"+{number[2]}") if "+-" not in other and other != form)
