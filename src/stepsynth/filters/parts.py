"""Splits an answer of several texts: a numbered list, a list with other marks, or one text per line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["split_parts", "unnumbered"]

# Far beyond any token limit; see `normalise.clean`.
_LONGEST = 200_000
_NUMBERED = re.compile(
    r"^[ \t>]{0,8}[*_#(\[ ]{0,6}(?:[^\W\d_]{2,12} )?#?(\d{1,3})[*_ ]{0,3}[.):\]\uff0e\u3001][*_)]{0,3}\s*", re.MULTILINE
)
# Not 1.5 kg.
_OWN_NUMBER = re.compile(r"(\d{1,3})[.):]\s+")
_MARKED = re.compile(r"^[ \t]{0,4}[-*\u2022\u2013][ \t]+", re.MULTILINE)
_INLINE = re.compile(r"(?:^|(?<=\s))(\d{1,3})[.)][ \t]+")
_BLANK = re.compile(r"\n[ \t]*\n")


def split_parts(answer: str, *, cut: bool, paragraphs: bool = False) -> list[str]:
    """Return the texts of an answer in order, without their list marks.

    Anything before the first mark is dropped as a remark, and so is anything after the last text and an empty
    line, unless texts have several paragraphs. An answer of one text is returned unchanged.

    Args:
        answer: the teacher's answer.
        cut: whether it was cut off at the token limit; then the last of several texts is left out.
        paragraphs: whether one text may have several paragraphs.
    """
    text = answer[:_LONGEST].replace("\r\n", "\n").strip()
    starts = _places(text)
    if len(starts) < 2:
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        if paragraphs or len(lines) < 2:
            return [text[starts[0][1] :].strip()] if starts and not starts[0][0] else [text]
        return lines[:-1] if cut else lines
    ends = [start for start, _ in starts[1:]] + [len(text)]
    parts = [text[begin:end].strip() for (_, begin), end in zip(starts, ends, strict=True)]
    if not paragraphs:
        parts = [_BLANK.split(part, maxsplit=1)[0].strip() for part in parts]
    if cut:
        parts.pop()
    return [part for part in parts if part]


def unnumbered(texts: Sequence[str]) -> list[str]:
    """Return the members of a list without blank ones, and without numbers if several begin with their own, 1, 2, 3 and so on."""
    kept = [text.strip() for text in texts if text.strip()]
    marks = [_OWN_NUMBER.match(text) for text in kept]
    if len(kept) > 1 and all(mark is not None and int(mark[1]) == place for place, mark in enumerate(marks, 1)):
        kept = [text[mark.end() :] for text, mark in zip(kept, marks, strict=True) if mark]
    return kept


def _places(text: str) -> list[tuple[int, int]]:
    """Return start and end of each mark: consecutive numbers, or else other list marks."""
    for pattern in (_NUMBERED, _INLINE):
        found = _counted(pattern, text)
        if len(found) > 1:
            return found
    marked = [(match.start(), match.end()) for match in _MARKED.finditer(text)]
    return marked if len(marked) > 1 else _counted(_NUMBERED, text)


def _counted(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    """Return the marks numbered 1, 2, 3 and so on, which excludes a year or a price at the start of a line."""
    found: list[tuple[int, int]] = []
    for match in pattern.finditer(text):
        if int(match[1]) == len(found) + 1:
            found.append((match.start(), match.end()))
    return found
