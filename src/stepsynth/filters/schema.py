"""Drops answers that cannot be rows: refusals, empty ones, talk about the task, forms to fill in, absurd lengths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.filters.normalise import leading_sentences
from stepsynth.filters.phrases import OTHER_META, OTHER_REFUSAL, THOUGHT_ALOUD
from stepsynth.filters.row_filters import RowFilterBase
from stepsynth.types import DropReason, Verdict
from stepsynth.words import count_words, pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.types import Candidate

__all__ = ["Schema", "ends_with_question_mark", "has_gap"]

_REFUSAL = re.compile(
    r"^(?:i(?:'m| am) (?:really |so |very )?sorry\b.{0,80}\b(?:can't|cannot|unable|not able|but)"
    r"|i (?:can't|cannot|can not|am unable to|won't|will not) "
    r"(?:help|assist|provide|write|create|generate|fulfil|comply|do that)"
    r"|(?:(?:i )?apologi[sz]e|my apologies|apologies|sorry|unfortunately)\b.{0,60}"
    r"\b(?:can't|cannot|can not|unable to|not able to) "
    r"(?:help with|assist|provide|write|create|generate|fulfil|comply|do that|produce)"
    r"|(?:as|i(?:'m| am)(?: just)?) an? (?:ai|language model|assistant)\b|i am smollm|my name is smollm)"
    r"|\bas an ai (?:language )?model\b",
    re.IGNORECASE,
)
_META = re.compile(
    r"^(?:the|this) (?:sentence|text|statement|example|label|category|class|prompt|request|task)\b"
    r"|^(?:i'd|i would|i'll|i will) (?:be happy|love|like) to (?:help|write|provide|assist)"
    r"|^(?:sure|certainly|of course)[,!.]|\b(?:here(?:'s| is| are)|below is) (?:a|an|another|some|one|the|your)\b"
    r"|\b(?:this|the) (?:sentence|text|example) (?:is|would be|can be) (?:labell?ed|classified|categori[sz]ed|considered)\b"
    r"|\bin this (?:sentence|text|example)\b|\bwith the label\b|\bit (?:shows|could be about):|\bcategory:"
    r"|\b(?:the|this|your) (?:original|above|following|given) (?:sentence|text|question|message)\b"
    r"|\brewritten (?:version|sentence|response)\b|\bhugging face\b|\bsmollm\b|\bhelpful (?:ai )?assistant\b|[:\uff1a]$",
    re.IGNORECASE,
)
# Every text that `_META` matches has one of these in lower case; the search for its many phrases takes ten times as long.
_META_WORDS = (
    *(
        " sentence",
        " text",
        " statement",
        " example",
        " label",
        " categor",
        " class",
        " prompt",
        " request",
        " task",
        " question",
    ),
    *(" message", " to help", " to write", " to provide", " to assist", "sure", "certainly", "of course", "here", "below is"),
    *(":", "rewritten", "hugging", "smollm", "helpful"),
)
# A gap left for the reader to fill in: [Name], <product name>, {{order_number}}, (insert date here), XXX-XXXX.
_GAP = re.compile(
    r"\[(?!\s*(?:sic|laughs?|applause|music|inaudible|link|edit|citation needed)\s*\])"
    r"\s*(?:(?:your|insert|enter|add|specify|customer|company|recipient|sender)\b[^\]\n]{0,40}|"
    r"(?:[A-Z][\w'/-]{0,20}[ _]?){1,5})\]"
    r"|<\s*(?:your|insert|enter|customer|company|product|order|name)\b[^>\n]{0,40}>|\{\{?\s*[a-z]\w{2,30}\s*\}\}?"
    r"|[(\[](?:insert|enter|add|fill in) [^)\]\n]{1,40}[)\]]|\bX{4,}\b|\bX{3,}-X{2,}|_{4,}"
)
_SHORT = 3
# About a page.
_LONG = 400
_TOO_FEW_TO_REPEAT = 8
_WORD = re.compile(r"\w")
# Includes Chinese, Japanese, Arabic, Persian and Ethiopic question marks, and doubled ones.
_QUESTION_MARKS = ("?", "\uff1f", "\u061f", "\u1367", "\u2047", "\u2048", "\u2049", "\u203d")
_CLOSERS = "\"') \u2019\u201d\u201c\u00bb\u203a\u300d\u300f\uff09!\uff01"
_GREEK = re.compile("[\u0370-\u03ff]")


@dataclass(frozen=True)
class Schema(RowFilterBase):
    """Drops answers that cannot be rows.

    Attributes:
        min_words: shortest row, in words.
        max_words: longest row, in words.
        meta: whether to drop talk about the task.
        question: whether rows must be questions.
        gaps: whether rows may have gaps to fill in, such as ``[Name]``.
    """

    min_words: int = 1
    max_words: int = 10_000
    meta: bool = True
    question: bool = False
    gaps: bool = True

    @classmethod
    def like(cls, lengths: Sequence[int], *, question: bool = False, paragraphs: bool = False, gaps: bool = True) -> Schema:
        """Derive the limits from the lengths of real texts, in words.

        Rows may be as short as the 2nd percentile, or three words if that is less: a short row in a
        task of long texts is unusual, but not rubbish. They may be as long as the 95th percentile;
        longer ones are cut to the sentences that fit. If several paragraphs were requested and real
        texts have only one, their lengths say little, so 400 words are always allowed.
        """
        ordered = sorted(lengths)
        low = ordered[int(0.02 * (len(ordered) - 1))]
        high = ordered[round(0.95 * (len(ordered) - 1))]
        most = max(high, _LONG if paragraphs else 8)
        return cls(min_words=max(1, min(low, _SHORT)), max_words=most, question=question, gaps=gaps)

    def verdict(self, candidate: Candidate) -> Verdict:
        """See `RowFilterBase`."""
        text = leading_sentences(candidate.text, self.max_words)
        short = candidate if text == candidate.text else candidate.with_text(text, cut=True)
        reason = self._reason(short) if short.text or not candidate.text else DropReason.TOO_LONG
        return Verdict(short if not reason else candidate, reason)

    def _reason(self, candidate: Candidate) -> str:
        if candidate.finish_reason == "refusal" or _is_refusal(candidate.text):
            return DropReason.REFUSAL
        words = count_words(candidate.text)
        if not _WORD.search(candidate.text):
            return DropReason.TRUNCATED if candidate.finish_reason == "length" else DropReason.EMPTY
        if words < self.min_words:
            return DropReason.TOO_SHORT
        if self.meta and _is_meta(candidate.text):
            return DropReason.META
        if not self.gaps and has_gap(candidate.text):
            return DropReason.PLACEHOLDER
        if self.question and not ends_with_question_mark(candidate.text):
            return DropReason.NO_QUESTION
        if words <= _TOO_FEW_TO_REPEAT:
            return ""
        said = [piece.casefold() for piece in pieces(candidate.text)]
        return DropReason.REPETITIVE if len(set(said)) < len(said) / 2 else ""


def _is_refusal(text: str) -> bool:
    # In ASCII, ignoring case means no more than lower case. All phrases but the one with "as an ai" stand at the start.
    anywhere = not text.isascii() or "as an ai" in text.lower()
    return bool(_REFUSAL.search(text) if anywhere else _REFUSAL.match(text)) or OTHER_REFUSAL.match(text) is not None


def _is_meta(text: str) -> bool:
    return _has_meta(text) or OTHER_META.match(text) is not None or THOUGHT_ALOUD.match(text) is not None


def _has_meta(text: str) -> bool:
    if text.isascii():
        lowered = text.lower()
        if not any(map(lowered.__contains__, _META_WORDS)):
            return False
    return _META.search(text) is not None


def has_gap(text: str) -> bool:
    """Whether a text has a gap for its reader to fill in, such as ``[Your Name]``."""
    # Most texts have none of the characters that a gap begins with.
    return any(map(text.__contains__, ("[", "<", "{", "(", "XXX", "____"))) and _GAP.search(text) is not None


def ends_with_question_mark(text: str) -> bool:
    """Whether a text ends with a question mark, ignoring closing quotes and brackets."""
    bare = text.rstrip(_CLOSERS)
    # The Greek question mark looks like a semicolon.
    return bare.endswith(_QUESTION_MARKS) or (bare.endswith(";") and _GREEK.search(bare) is not None)
