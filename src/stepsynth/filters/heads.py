"""Removes the head of a text, such as a ticket's fields, a title or a letter's addressee, in any language.

A head is recognised by its form, not by its words: short lines, none of them a sentence, above a
paragraph that has one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stepsynth.filters.phrases import BODY_FIELD, HEADER
from stepsynth.words import SENTENCE_END, count_words

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["begins_with_field", "below_fields", "below_head", "ends_like_sentence", "opens_list", "without_close"]

_MOST_WORDS = 12
_MOST_CHARACTERS = 100
_SENTENCE_WORDS = 3
_CLOSE_WORDS = 5
_FIELD = re.compile(
    r"[*_\s]{0,4}[^\W\d_][^\n:\uff1a.!?,]{0,30}[*_\s]{0,4}[:\uff1a](?!//)[*_]{0,4}"
    r"(?:\s+\S.*|[^\x00-\x7f].*|\s*)$"
)
# "**Subject:** Late tram", "Subject: Late tram"; with markup, a name alone is enough: "## Description".
_NAMED = re.compile(
    r"(?P<mark>#{1,6}\s+\**|\*\*|__)?(?P<name>[^\W\d_][^\n:\uff1a.!?,*#]{0,30}?)\s?[*_]{0,2}(?P<colon>[:\uff1a](?!//))?[*_]{0,2}"
    r"(?:(?<=[:\uff1a*_])\s*(?P<value>.*))?$"
)
# Heads are short: at most this many lines are examined.
_MOST_LINES = 20
_FULL_STOP = re.compile("[.\u3002\u06d4\u0964\u0589\u1362][\"')\u201d\u00bb*_]*$")
# A line that ends in a letter, digit or bracket may be a title; one that ends in a smiley or full stop is speech.
_TITLE_END = re.compile(r"[^\W_][\"')\]\u201d\u00bb*_]{0,4}$|[,:\uff0c\uff1a\u3001\u060c][*_]{0,4}$")
_TAG = re.compile(r"(?:^|\s)[#@]\w")
_ITEM = re.compile(r"(?:[-*\u2022]|\d{1,2}[.)])\s+")


def below_head(blocks: Sequence[str], *, titles: bool) -> list[str]:
    """Return the blocks below the head of a text; all of them if there is no head.

    Args:
        blocks: the paragraphs.
        titles: whether any line that is not a sentence may be a head, not only ``Word: value`` and ``Support Team,``.
    """
    at = 0
    while at + 1 < len(blocks) and _is_head(blocks[at], titles=titles) and not _ITEM.match(blocks[at + 1]):
        at += 1
    # If the text continues with fields, as a dialogue does, the fields are the text.
    if at and (not any(map(_has_sentence, blocks[at:])) or _is_field(blocks[at].split("\n")[0])):
        return list(blocks)
    return list(blocks[at:])


def below_fields(text: str, *, titles: bool) -> str | None:
    """Return the content of the form field that has the text, without its name; ``None`` if there is no such field.

    As in ``**Title:** Late tram`` and ``**Description:** The tram ...``, it is found by its name, or as the last of
    several in bold. A name that occurs twice is a speaker.

    Args:
        text: the answer.
        titles: whether a line that is not a sentence may be above it.
    """
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    fields = [_field(line) for line in lines[:_MOST_LINES]]
    above, opened = 0, False
    for at, (line, field) in enumerate(zip(lines, fields, strict=False)):
        if field and (said := _said(lines, fields, at, above)):
            return said
        if field is None and not (_is_short(line) and (line.startswith(("#", "**")) or titles or opened) and _is_title(line)):
            return None
        if field and not (_is_short(line) and (HEADER.match(line) or not _FULL_STOP.search(line))):
            return None
        above, opened = above + 1, field is not None and not field["value"]
    return None


def begins_with_field(text: str) -> bool:
    """Whether a text begins with a field of a form, such as ``Subject:`` or ``**Description:**``."""
    field = _field(text.strip().partition("\n")[0].strip())
    return field is not None and bool(BODY_FIELD.fullmatch(field["name"]) or HEADER.match(f"{field['name']}:") or field["mark"])


def _field(line: str) -> re.Match[str] | None:
    """Return the parts of a field line: one with a colon, or a known name in bold or as a heading."""
    found = _NAMED.match(line)
    if found is None or count_words(found["name"]) > 3:
        return None
    known = BODY_FIELD.fullmatch(found["name"]) or HEADER.match(f"{found['name']}:")
    return found if found["colon"] or (found["mark"] and known and not found["value"]) else None


def _said(lines: Sequence[str], fields: Sequence[re.Match[str] | None], at: int, above: int) -> str | None:
    """Return the content of a field up to the next one, if that is the text."""
    field = fields[at]
    if field is None or HEADER.match(f"{field['name']}:"):
        return None
    others = [
        (other, found)
        for other, found in enumerate(fields)
        if found and other != at and (found["mark"] or BODY_FIELD.fullmatch(found["name"]))
    ]
    end = next((other for other, _ in others if other > at), len(lines))
    value = field["value"] or ""
    value = value.removesuffix("**").rstrip() if value.count("**") % 2 else value
    said = "\n".join([*([value] if value else []), *lines[at + 1 : end]])
    if BODY_FIELD.fullmatch(field["name"]):
        later = any(other > at and BODY_FIELD.fullmatch(found["name"]) for other, found in others)
        long = count_words(said) >= _SENTENCE_WORDS and not later
        return said if (above or field["mark"]) and (_has_sentence(said) or long) else None
    # With an unknown name: the last of several in bold, with no sentences above it.
    quiet = all(HEADER.match(line) or not SENTENCE_END.search(line) for line in lines[:at])
    marked = [found["name"] for _, found in others]
    last = bool(marked) and end == len(lines) and field["name"] not in marked and field["mark"] is not None
    return said if last and quiet and _has_sentence(said) else None


def opens_list(blocks: Sequence[str]) -> list[str]:
    """Return the line that introduces a list and the items without their marks; empty if there is no such list."""
    if len(blocks) < 3 or "\n" in blocks[0] or not blocks[0].endswith((":", "\uff1a")):
        return []
    end = next((at for at, block in enumerate(blocks) if at and not _ITEM.match(block)), len(blocks))
    return [blocks[0], *(_ITEM.sub("", block, count=1) for block in blocks[1:end])] if end > 2 else []


def without_close(lines: Sequence[str]) -> list[str]:
    """Drop last lines of a few words that are not a sentence, such as closings and names."""
    kept = list(lines)
    while len(kept) > 1 and _is_close(kept[-1]):
        kept.pop()
    return kept


def ends_like_sentence(text: str) -> bool:
    """Whether a text ends with a full stop or the like, in any script."""
    end = text.rstrip()[-200:]
    return any(match.end() == len(end) for match in SENTENCE_END.finditer(end))


def _is_head(block: str, *, titles: bool) -> bool:
    lines = [line.strip() for line in block.split("\n") if line.strip()]
    if not all(_is_short(line) for line in lines):
        return False
    if all(_is_field(line) for line in lines):
        return len(lines) > 1 or not _FULL_STOP.search(lines[0])
    if not titles:
        return len(lines) == 1 and lines[0].endswith((",", "\uff0c", "\u060c")) and not SENTENCE_END.search(lines[0])
    return all(_is_field(line) or _is_title(line) for line in lines)


def _is_short(line: str) -> bool:
    return len(line) <= _MOST_CHARACTERS and count_words(line) <= _MOST_WORDS


def _is_field(line: str) -> bool:
    return _FIELD.match(line) is not None and count_words(re.split("[:\uff1a]", line, maxsplit=1)[0]) <= 3


def _is_title(line: str) -> bool:
    return not SENTENCE_END.search(line) and _TITLE_END.search(line) is not None and not _TAG.search(line)


def _has_sentence(block: str) -> bool:
    return count_words(block) >= _SENTENCE_WORDS and SENTENCE_END.search(block) is not None


def _is_close(line: str) -> bool:
    return count_words(line) <= _CLOSE_WORDS and _is_title(line) and not _ITEM.match(line)
