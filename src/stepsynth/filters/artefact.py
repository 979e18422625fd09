"""Drops rows that give away their label by naming it, as small teachers do and real texts seldom do."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from stepsynth.filters.accepted_index import Growing
from stepsynth.filters.normalise import normalize_for_match
from stepsynth.tasks.labels import label_words
from stepsynth.types import DropReason, Verdict
from stepsynth.words import SPACELESS, is_spaceless

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.types import Candidate, Example, GeneratedRow

__all__ = ["AnswerLeakFilter", "LabelLeakFilter"]


@dataclass(frozen=True)
class LabelLeakFilter:
    """Lets rows name their label only as often as real rows of that label do.

    "Where is my delivery" is a natural text for the label *delivery*; a review that calls itself
    *positive* hardly exists. So the rate among the label's harvest rows is the limit, enforced at
    every point of the plan.

    Attributes:
        limits: label -> share of its real rows that name it.
        meanings: label -> its description; a row with three consecutive words of it also names the label.
    """

    limits: dict[str, float]
    meanings: Mapping[str, str]
    _growing: Growing = field(default_factory=Growing, init=False, repr=False, compare=False)
    _accepted: dict[str, tuple[int, int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def like(cls, harvest: Sequence[Example], meanings: Mapping[str, str]) -> LabelLeakFilter:
        """Measure the rate of each label on real rows."""
        limits = {}
        for label in dict.fromkeys(example.label for example in harvest):
            texts = [example.text for example in harvest if example.label == label]
            limits[label] = sum(_names(text, label, meanings.get(label, "")) for text in texts) / len(texts)
        return cls(limits, meanings)

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[GeneratedRow]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`."""
        new, void = self._growing.news(accepted)
        if void:
            self._accepted.clear()
        for row in new:
            count, naming = self._accepted.get(row.label, (0, 0))
            self._accepted[row.label] = count + 1, naming + self._named(row)
        rows = {label: count for label, (count, _) in self._accepted.items()}
        named = {label: naming for label, (_, naming) in self._accepted.items()}
        verdicts = []
        for candidate in candidates:
            label = candidate.label
            names = self._named(candidate.row)
            allowed = named.get(label, 0) + 1 <= self.limits.get(label, 0.0) * (rows.get(label, 0) + 1)
            keep = not names or allowed
            if keep:
                rows[label] = rows.get(label, 0) + 1
                named[label] = named.get(label, 0) + names
            verdicts.append(Verdict(candidate, "" if keep else DropReason.NAMES_LABEL))
        return verdicts

    def found(self, label: str, texts: Sequence[str]) -> tuple[list[str], bool]:
        """Return the label's words that occur in texts, most frequent first, and whether parts of its meaning do."""
        words, phrases = _signs(label, self.meanings.get(label, ""))
        counts = Counter(word for text in texts for word in set(words.findall(text.casefold()))) if words else Counter[str]()
        described = any(phrase in f" {normalize_for_match(text)} " for text in texts for phrase in phrases)
        return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))], described

    def _named(self, row: GeneratedRow) -> bool:
        return _names(row.text, row.label, self.meanings.get(row.label, ""))


@dataclass(frozen=True)
class AnswerLeakFilter:
    """Lets questions contain their own answer only as often as real questions do.

    Attributes:
        limit: share of real questions that contain it.
    """

    limit: float
    _growing: Growing = field(default_factory=Growing, init=False, repr=False, compare=False)
    _accepted: Counter[str] = field(default_factory=Counter, init=False, repr=False, compare=False)

    @classmethod
    def like(cls, harvest: Sequence[Example]) -> AnswerLeakFilter:
        """Measure the rate on real questions."""
        return cls(sum(_holds(e.text, [a.text for a in e.answers]) for e in harvest) / len(harvest))

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[GeneratedRow]) -> list[Verdict]:
        """See `stepsynth.filters.Filter`."""
        new, void = self._growing.news(accepted)
        if void:
            self._accepted.clear()
        self._accepted.update(named=sum(self._named(row) for row in new))
        rows, named = len(accepted), self._accepted["named"]
        verdicts = []
        for candidate in candidates:
            names = self._named(candidate.row)
            keep = not names or named + 1 <= self.limit * (rows + 1)
            rows, named = rows + keep, named + (keep and names)
            verdicts.append(Verdict(candidate, "" if keep else DropReason.NAMES_ANSWER))
        return verdicts

    def _named(self, row: GeneratedRow) -> bool:
        return _holds(row.text, [row.answer.text] if row.answer else [])


def _holds(question: str, answers: Sequence[str]) -> bool:
    spaced = f" {normalize_for_match(question)} "
    return any(f" {words} " in spaced for answer in answers if (words := normalize_for_match(answer)))


def _names(text: str, label: str, meaning: str) -> bool:
    """Whether a text has a word of the label (``negatively`` counts) or three consecutive words of its meaning."""
    words, phrases = _signs(label, meaning)
    if words is not None and words.search(text.casefold()):
        return True
    spaced = f" {normalize_for_match(text)} " if phrases else ""
    return any(phrase in spaced for phrase in phrases)


@lru_cache(maxsize=1024)
def _signs(label: str, meaning: str) -> tuple[re.Pattern[str] | None, tuple[str, ...]]:
    """Return a pattern for the label's words, and its meaning's runs of three words with spaces around each."""
    # In scripts without spaces, words have no boundaries in a text and rarely three letters.
    names = [rf"\b{re.escape(word)}" for word in label_words(label) if not is_spaceless(word)]
    names += [re.escape(word) for word in re.findall(rf"[{SPACELESS}]{{2,}}", label.casefold())]
    words = normalize_for_match(meaning).split()
    size = 6 if is_spaceless(meaning) else 3
    phrases = tuple(f" {' '.join(words[i : i + size])} " for i in range(len(words) - size + 1))
    return re.compile("|".join(names)) if names else None, phrases
