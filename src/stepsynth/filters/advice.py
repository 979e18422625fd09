"""Advice for a teacher whose answers a rule keeps dropping: a sentence for every avoidable reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.filters.artefact import LabelLeakFilter
from stepsynth.filters.schema import Schema
from stepsynth.types import DropReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.filters import Filter

__all__ = ["advice"]

_MOST_WORDS = 6
# Reasons without an entry (refusals, empty answers, labels in doubt) cannot be avoided, or it is unknown whether advice helps.
_SENTENCES: dict[str, str] = {
    DropReason.TRUNCATED: "Keep it short.",
    DropReason.META: "Write the text itself and nothing about it.",
    DropReason.PLACEHOLDER: "Leave no gaps such as [Name]: make names and numbers up.",
    DropReason.DUPLICATE: "The usual texts are written already: write about something else.",
    DropReason.NEAR_DUPLICATE: "The usual texts are written already: write about something else.",
    DropReason.COPY: "Do not repeat a text that you know: write one of your own.",
    DropReason.REPETITIVE: "Do not say the same words over and over.",
    DropReason.NAMES_ANSWER: "Do not use the words of the answer.",
    DropReason.NO_QUESTION: "End with a question mark.",
}
_NO_ADVICE = frozenset(
    {"", DropReason.SURPLUS, DropReason.FAILED, DropReason.REFUSAL, DropReason.EMPTY}
    | {DropReason.LABEL_IN_DOUBT, DropReason.READ_OTHERWISE}
)


def advice(rules: Sequence[Filter], label: str, reason: str, texts: Sequence[str]) -> str:
    """Return the sentence that tells a teacher how to avoid a reason; empty if there is none.

    Args:
        rules: the rules that dropped the texts.
        label: their requested label.
        reason: why they were dropped.
        texts: the dropped texts.
    """
    if reason in _NO_ADVICE:
        return ""
    for rule in rules:
        if isinstance(rule, LabelLeakFilter) and reason == DropReason.NAMES_LABEL:
            return _without_naming(rule, label, texts)
        if isinstance(rule, Schema) and reason in (DropReason.TOO_SHORT, DropReason.TOO_LONG):
            return (
                f"Write at least {rule.min_words:,} words."
                if reason == DropReason.TOO_SHORT
                else f"Keep it under {rule.max_words:,} words."
            )
    # Other reasons come from user filters and are written for readers.
    return _SENTENCES.get(reason, f"Texts are refused for this, so avoid it: {reason}.")


def _without_naming(rule: LabelLeakFilter, label: str, texts: Sequence[str]) -> str:
    words, described = rule.found(label, texts)
    said = []
    if words:
        quoted = [f'"{word}"' for word in words[:_MOST_WORDS]]
        said.append(f"Do not use the word{'s' if len(quoted) > 1 else ''} {' or '.join(quoted)}.")
    if described:
        said.append("Do not repeat the description of what is asked for.")
    return " ".join(said)
