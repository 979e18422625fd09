"""What the teacher decided: labels, or a piece of the passage, read from its words."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from stepsynth.tasks.labels import join_labels, label_phrase

if TYPE_CHECKING:
    from stepsynth.config import TaskConfig
    from stepsynth.types import Example

__all__ = ["read_answer"]

_QUOTES = "\"'` \u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"


def read_answer(text: str, task: TaskConfig, row: Example) -> tuple[str, int] | None:
    """Return what an answer decides, or ``None`` when it decides nothing.

    For labels, the one that is named first counts; where several may hold, all that are named, and
    "none" is a decision, too. A label inside a longer label that stands at the same place does not
    count. For questions, the answer itself, and where it begins in the passage (-1 where it is not
    in it).

    Args:
        text: the teacher's words.
        task: gives the labels.
        row: gives the passage.
    """
    if task.family == "extractive_qa":
        line = next((line.strip() for line in text.splitlines() if line.strip()), "")
        # The full stop may stand before or behind the closing quote.
        answer = line.strip(_QUOTES).rstrip(".").strip(_QUOTES)
        return (answer, row.context.find(answer)) if answer else None
    found: dict[str, int] = {}
    words = _plain(text)
    taken: list[range] = []
    for label in sorted(task.labels, key=lambda name: (-len(name), name)):
        phrase = _plain(label_phrase(label))
        # Scripts without spaces have no word boundaries.
        pattern = rf"(?<!\w){re.escape(phrase)}(?!\w)" if phrase.isascii() else re.escape(phrase)
        for match in re.finditer(pattern, words):
            if all(match.start() not in place for place in taken):
                taken.append(range(match.start(), match.end()))
                found.setdefault(label, match.start())
                break
    if task.family == "multi_label":
        none = re.match(r"\W*(?:none|no label)\b", words)
        return (join_labels(found, list(task.labels)), -1) if found or none else None
    return (min(found, key=found.__getitem__), -1) if found else None


def _plain(text: str) -> str:
    return re.sub(r"[\s_\-/]+", " ", unicodedata.normalize("NFKC", text).casefold())
