"""Decides which paragraphs of an answer are the text, and how they are laid out.

If gold texts have several lines and paragraphs, a written text keeps its own. If they have one line
each, only the first paragraph is used, since small models keep talking after it; of a letter (subject,
greeting, body and closing), the body is used, since its first paragraph says nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stepsynth.filters.heads import begins_with_field, below_fields, below_head, ends_like_sentence, opens_list, without_close
from stepsynth.filters.phrases import ALTERNATIVE, ASSENT, EXPLANATION, GREETING, HEADER, LEAVE, SIGN_OFF

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Layout", "begins_with_title", "cut_note", "left_out_note", "one_paragraph", "whole_lines", "whole_text"]

# Below this share of gold texts, line breaks are accidental, such as a break in a cell.
_BROKEN = 0.1
_HEADING = re.compile(r"#{1,6}\s[^\n]{1,200}|\*\*[^\n*]{1,200}\*\*|__[^\n_]{1,200}__")
_RULE = re.compile(r"^[ \t]*(?:-[ \t]?){3,}$|^[ \t]*(?:\*[ \t]?){3,}$|^[ \t]*(?:_[ \t]?){3,}$", re.MULTILINE)
_NAME = re.compile(r"[*_\[]{0,3}(?:[^\W\d_][\w.'\u2019-]{0,20} ?){1,3}[*_\]]{0,3}")
_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*\u2022#]|\d{1,2}[.)]))")
_BLANK = re.compile(r"\n(?:[ \t]*\n)+")


@dataclass(frozen=True)
class Layout:
    """The layout of a task's texts.

    Attributes:
        whole: all paragraphs belong to a text, not only the first.
        lines: line breaks are kept; otherwise they become spaces.
        quotes: typographic quote marks that texts have.
        titles: a first paragraph that is not a sentence is a head; false if real texts are often not sentences either.
        fields: real texts are forms themselves (``Title: ...``, ``Description: ...``), so written ones keep their fields.
    """

    whole: bool = False
    lines: bool = False
    quotes: frozenset[str] = frozenset()
    titles: bool = True
    fields: bool = False

    @classmethod
    def like(cls, texts: Sequence[str], paragraphs: Literal["auto", "first", "all"] = "auto") -> Layout:
        """Take the layout from real texts.

        Args:
            texts: the harvest half's.
            paragraphs: ``auto`` takes the whole text if one real text in ten has a line break.
        """
        broken = sum(len(text.strip().splitlines()) > 1 for text in texts) >= max(1.0, _BROKEN * len(texts))
        whole = paragraphs == "all" or (paragraphs == "auto" and broken)
        kept: set[str] = set()
        for plain, marks in (('"', "\u201c\u201d\u201e\u00ab\u00bb"), ("'", "\u2018\u2019")):
            typographic = sum(any(mark in text for mark in marks) for text in texts)
            if typographic > sum(plain in text for text in texts):
                kept |= {mark for mark in marks if any(mark in text for text in texts)}
        sentences = 2 * sum(map(ends_like_sentence, texts)) > len(texts)
        forms = sum(map(begins_with_field, texts)) >= max(1.0, _BROKEN * len(texts))
        return cls(whole, whole and broken, frozenset(kept), sentences, forms)


def left_out_note(count: int) -> str:
    """Return a note on rows that are a small part of an answer.

    Args:
        count: the number of such rows, at least one.
    """
    rows = "1 row is" if count == 1 else f"{count:,} rows are"
    return f"{rows} only the first paragraph of a longer answer (task.paragraphs: all keeps the whole answer)"


def cut_note(count: int) -> str:
    """Return a note on rows that lost their last sentences, see `Schema.like`.

    Args:
        count: the number of such rows, at least one.
    """
    rows = "1 row is" if count == 1 else f"{count:,} rows are"
    why = "no row is longer than 95 in 100 validation texts; task.instruction can ask for shorter ones"
    return f"{rows} only the first sentences of a longer answer ({why})"


def one_paragraph(text: str, *, titles: bool = True, fields: bool = False) -> tuple[str, bool]:
    """Return the text of an answer for a one-paragraph layout, and whether it reaches the answer's end.

    An answer of one paragraph is returned unchanged, except that a field name before it is removed.

    Args:
        text: the answer.
        titles: see `Layout`.
        fields: see `Layout`.
    """
    sections = _sections(text)
    blocks = _first_alternative(_without_assent(_paragraphs(sections[0]))) if sections else []
    if not fields and (said := below_fields("\n".join(blocks), titles=titles)):
        row, end = _of_letter(_without_head(said.split("\n")) or [said], headed=True, last=len(sections) == 1)
        return row, end and text.endswith(said.rpartition("\n")[2])
    if len(_paragraphs(text)) < 2:
        return text, True
    quoted = next((at for at, block in enumerate(blocks) if not block.startswith(">")), 0)
    blocks = blocks[quoted:]
    body = _without_head(blocks)
    letter = body != blocks
    if not letter and len(blocks) > 1 and _is_title(blocks[0]) and not _takes_leave(blocks[1]):
        blocks = blocks[1:]
    if listed := opens_list(blocks):
        return " ".join(listed), len(sections) == 1 and len(listed) == len(blocks)
    below = below_head(body if letter else blocks, titles=titles and not letter)
    headed = len(below) < len(body if letter else blocks) and not _takes_leave(below[0])
    if letter or headed:
        return _of_letter(below if headed else body, headed=headed, last=len(sections) == 1)
    return (blocks[0] if blocks else ""), len(sections) == len(blocks) == 1


def _of_letter(body: list[str], *, headed: bool, last: bool) -> tuple[str, bool]:
    """Return the body of a letter in one line, without its closing, and whether it reaches the answer's end."""
    lines = "\n".join(body).split("\n") if body else []
    end = next((at for at, line in enumerate(lines) if at and SIGN_OFF.match(line)), None)
    kept = _without_name(_without_leave(lines[:end]))
    kept = without_close(kept) if headed else kept
    return " ".join(kept), last and len(kept) == len(lines)


def whole_text(text: str) -> tuple[str, bool]:
    """Return an answer without the model's remarks to the user, and whether it reaches the answer's end.

    A horizontal rule, the second of several numbered texts, or an explanation ends a text. A letter
    that ends before its body gives an empty text.
    """
    text = _BLANK.sub("\n\n", "\n".join(line.rstrip() for line in text.split("\n"))).strip("\n")
    sections = _sections(text)
    blocks = _first_alternative(_without_assent(sections[0].split("\n\n"))) if sections else []
    kept = _without_leave("\n\n".join(blocks).split("\n")) if blocks else []
    found = "\n".join(kept).strip("\n")
    if "\n" in found and not _without_head(found.split("\n\n")):
        return "", True
    return found, len(sections) == 1 and text.endswith(found)


def whole_lines(text: str) -> str:
    """Return the complete lines of a text that was cut off, for verse, code or lists without sentences.

    Empty if that would leave a subject, a greeting or a title without its text.
    """
    lines = text.split("\n")[:-1]
    said = [line for line in lines if line.strip()]
    if len(said) < 2 or any(_is_head(line) or _is_title(line) for line in said):
        return ""
    return "\n".join(lines).rstrip()


def _is_title(line: str) -> bool:
    """Whether a line is a markdown heading and not a sentence."""
    return _HEADING.fullmatch(line) is not None and not line.rstrip("*_ \"'").endswith((".", "!", "?", "\u2026"))


def begins_with_title(text: str) -> bool:
    """Whether the first line is a heading or a horizontal rule, and not a list item."""
    line = text.partition("\n")[0].strip()
    return _is_title(line) or _RULE.fullmatch(line) is not None


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in _PARAGRAPH.split(text) if part.strip()]


def _sections(text: str) -> list[str]:
    """Return the parts between horizontal rules; a heading belongs to the part after it."""
    sections = [part.strip("\n") for part in _RULE.split(text) if part.strip()]
    while len(sections) > 1 and _only_head(sections[0]):
        sections[:2] = ["\n\n".join(sections[:2])]
    return sections


def _only_head(section: str) -> bool:
    blocks = section.split("\n\n")
    return all(ASSENT.fullmatch(block) or _is_title(block) or _is_head(block) for block in blocks)


def _is_head(line: str) -> bool:
    """Whether a line is the subject or the greeting of a letter."""
    return bool(HEADER.match(line) or GREETING.match(line))


def _without_assent(blocks: list[str]) -> list[str]:
    at = 0
    while at + 1 < len(blocks) and ASSENT.fullmatch(blocks[at]):
        at += 1
    return blocks[at:]


def _first_alternative(blocks: list[str]) -> list[str]:
    """Return the first of several numbered texts; all blocks if there is only one text."""
    marks = [(at, match.end()) for at, block in enumerate(blocks) if (match := ALTERNATIVE.match(block))]
    if len(marks) < 2:
        return blocks
    (first, end), (second, _) = marks[:2]
    kept = [blocks[first][end:].strip("\n "), *blocks[first + 1 : second]]
    return [block for block in kept if block.strip()]


def _without_head(blocks: list[str]) -> list[str]:
    """Return the blocks below a letter's subject and greeting."""
    for at, block in enumerate(blocks):
        lines = block.split("\n")
        start = next((number for number, line in enumerate(lines) if not _is_head(line)), len(lines))
        if start < len(lines):
            return ["\n".join(lines[start:]), *blocks[at + 1 :]] if start or at else blocks
    return []


def _without_leave(lines: list[str]) -> list[str]:
    """Cut off an explanation and everything after it, and closing remarks to the user."""
    end = next((at for at, line in enumerate(lines) if at and EXPLANATION.match(line)), len(lines))
    while end > 1 and (not lines[end - 1].strip() or _takes_leave(lines[end - 1])):
        end -= 1
    return lines[:end]


def _without_name(lines: list[str]) -> list[str]:
    """Cut off a letter's signature."""
    return lines[:-1] if len(lines) > 1 and _NAME.fullmatch(lines[-1]) else lines


def _takes_leave(line: str) -> bool:
    return bool(LEAVE.match(line) or EXPLANATION.match(line))
