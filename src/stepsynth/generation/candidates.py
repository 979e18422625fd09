"""The rows in a teacher's answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stepsynth.filters.layout import Layout
from stepsynth.filters.normalise import clean
from stepsynth.filters.parts import split_parts, unnumbered
from stepsynth.teachers.reading import answer_text, answer_texts
from stepsynth.types import Candidate, StageKind
from stepsynth.words import count_words

if TYPE_CHECKING:
    from stepsynth.config import TeacherConfig
    from stepsynth.types import Request, Response

__all__ = ["candidates_of", "is_reason", "lost_words"]


def candidates_of(config: TeacherConfig, request: Request, key: str, answer: Response, layout: Layout) -> list[Candidate]:
    """Return the rows in an answer: at least one, at most as many as were requested.

    Args:
        config: the teacher's, which says how to read an answer.
        request: the request.
        key: its key.
        answer: the answer.
        layout: the layout of the task's texts.
    """
    # A reason is a few words, often without a full stop; if cut off, it is still usable.
    reason = is_reason(request)
    cut = answer.finish_reason == "length"
    layout = Layout(titles=False) if reason else layout
    said = answer_text(config, answer)
    if request.parts == 1:
        return [Candidate.of(request, key, clean(said, truncated=cut and not reason, layout=layout), answer.finish_reason)]
    listed = answer_texts(config, answer)
    # Of a list that was cut off in its first text, that text is all there is.
    parts = split_parts(said, cut=cut, paragraphs=layout.whole) if listed is None else unnumbered(listed) or [said] * cut
    # A list of empty items is one empty row, so that every request is accounted for.
    parts = parts[: request.parts] or [""]
    alone = cut and not reason and len(parts) == 1 and not listed
    # The part that was cut off has been left out; the others are whole.
    ended = "stop" if cut and not alone else answer.finish_reason
    found = [Candidate.of(request, key, clean(p, truncated=alone, layout=layout), ended, i) for i, p in enumerate(parts)]
    # What was shown are lists, too, and a row may be a copy of one of their texts.
    shown = tuple(text for turn in found[0].shown for text in split_parts(turn, cut=False, paragraphs=layout.whole))
    return [replace(candidate, shown=shown) for candidate in found]


def is_reason(request: Request) -> bool:
    """Whether a request asks for a reason, not for a row."""
    return request.stage.endswith(StageKind.RATIONALES)


def lost_words(text: str, said: str) -> bool:
    """Whether most of an answer is missing from its text; the model's remarks about the text do not count."""
    return 2 * count_words(text) < count_words(clean(said, layout=Layout(whole=True)))
