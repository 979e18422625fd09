"""What stands above a text and is none: fields of a ticket, a title, whom a letter is for, in any language.

A head is told by its form, not by its words: short lines, none of them a sentence, above a
paragraph that has one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stepsynth.words import SENTENCE_END, count_words

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["below_head", "ends_like_sentence", "opens_list", "without_close"]

_MOST_WORDS = 12
_MOST_CHARACTERS = 100
_SENTENCE_WORDS = 3
_CLOSE_WORDS = 5
_FIELD = re.compile(
    r"[*_\s]{0,4}[^\W\d_][^\n:\uff1a.!?,]{0,30}[*_\s]{0,4}[:\uff1a](?!//)[*_]{0,4}"
    r"(?:\s+\S.*|[^\x00-\x7f].*|\s*)$"
)
_FULL_STOP = re.compile("[.\u3002\u06d4\u0964\u0589\u1362][\"')\u201d\u00bb*_]*$")
# What ends in a letter, a digit or a bracket may be a title; a smiley or a stop ends what somebody says.
_TITLE_END = re.compile(r"[^\W_][\"')\]\u201d\u00bb*_]{0,4}$|[,:\uff0c\uff1a\u3001\u060c][*_]{0,4}$")
_TAG = re.compile(r"(?:^|\s)[#@]\w")
_ITEM = re.compile(r"(?:[-*\u2022]|\d{1,2}[.)])\s+")


def below_head(blocks: Sequence[str], *, titles: bool) -> list[str]:
    """Return what follows the head of a text; the blocks as they are where there is no head.

    Args:
        blocks: the paragraphs.
        titles: whether a line that is no sentence may be a head, and not only ``Word: value`` and ``Support Team,``.
    """
    at = 0
    while at + 1 < len(blocks) and _is_head(blocks[at], titles=titles) and not _ITEM.match(blocks[at + 1]):
        at += 1
    # Where the text goes on with fields, as a dialogue does, they are the text.
    if at and (not any(map(_has_sentence, blocks[at:])) or _is_field(blocks[at].split("\n")[0])):
        return list(blocks)
    return list(blocks[at:])


def opens_list(blocks: Sequence[str]) -> list[str]:
    """Return the line that announces a list and the items without their marks; nothing where it is no such thing."""
    if len(blocks) < 3 or "\n" in blocks[0] or not blocks[0].endswith((":", "\uff1a")):
        return []
    end = next((at for at, block in enumerate(blocks) if at and not _ITEM.match(block)), len(blocks))
    return [blocks[0], *(_ITEM.sub("", block, count=1) for block in blocks[1:end])] if end > 2 else []


def without_close(lines: Sequence[str]) -> list[str]:
    """Return the lines of a text without a last paragraph of a few words that are no sentence, as greetings and names are."""
    kept = list(lines)
    while len(kept) > 1 and _is_close(kept[-1]):
        kept.pop()
    return kept


def ends_like_sentence(text: str) -> bool:
    """Whether a text ends with the stop of a sentence, of any script."""
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
