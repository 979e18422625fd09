"""Which texts of the pool a person should label next: a student of the labels alone judges them all after the last decision.

That student has learned from none of them, so where the teacher gave a text another label, at least one of the two is wrong;
where the student is unsure, a label would tell it something.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from stepsynth.data.splits import fingerprint
from stepsynth.run.stage_titles import stage_title
from stepsynth.runtime.counting import counted
from stepsynth.runtime.shutdown import check_stop
from stepsynth.tasks.guarding import guard_own
from stepsynth.tasks.scoring import score_of
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.journal import Journal
    from stepsynth.runtime.progress import Progress
    from stepsynth.tasks import TaskFamily
    from stepsynth.training.runner import StudentRunner
    from stepsynth.types import Example, Prediction

__all__ = ["judge_texts"]

_STAGE = "pool/judged"
# More than a person labels at a time; the journal is read often.
_KEPT = 500
_DIGITS = 4
# In this order a person looks at them.
_DIFFERS, _UNASKED, _AGREES = range(3)


def judge_texts(
    students: StudentRunner, journal: Journal, family: TaskFamily, pool: Sequence[Example], progress: Progress
) -> None:
    """Have the student of the labels alone predict the pool's texts, and keep the first ones to label, in order.

    They alternate: a text to which the teacher gave another answer (where the student is surest first), the one of which the
    student is least sure, and the next of the draw, which is a random one. With few labels a student is often unsure of the same
    kind of texts (``benchmarks/labelling.py``), and a weak teacher differs where it is wrong. Texts on which both agree are last.
    A run without such a student, and a finished one, stays as it is.

    Args:
        students: has the kept students.
        journal: has the teacher's answers; the list is written to it.
        family: compares answers.
        pool: the drawn texts.
        progress: told how many there are.
    """
    number = next(
        (n for _, n, kind, info, _ in journal.stages() if kind == StageKind.TRAIN and info.get("student") == "labels"), None
    )
    if not pool or number is None or journal.stage_done(_STAGE) or journal.meta("finished") is not None:
        return
    check_stop()
    started = time.monotonic()
    progress.start(stage_title(_STAGE, StageKind.UNLABELLED), len(pool), "texts")
    said = {fingerprint(row.example): row.example for row in journal.dataset() if row.kind == StageKind.ANNOTATE}
    with guard_own(family, "what a student answered"):
        judged = [
            _Judged.of(family, text, found, said.get(fingerprint(text)))
            for text, found in zip(pool, students.ask(number, pool), strict=True)
        ]
    progress.advance(len(judged))
    differ, asked = sum(each.place == _DIFFERS for each in judged), sum(each.teacher is not None for each in judged)
    texts = [
        [each.text.id, each.text.text, each.text.context, each.student, each.sure, each.teacher]
        for each in _in_order(judged)[:_KEPT]
    ]
    info = {"judged": len(judged), "asked": asked, "differ": differ, "texts": texts}
    journal.finish_training(_STAGE, number, {}, info, time.monotonic() - started, kind=StageKind.UNLABELLED)
    others = f"; of {asked:,} that the teacher labelled, {differ:,} otherwise" if asked else ""
    progress.finish(f"a student of your labels judged {counted(len(judged), 'text')} of the pool{others}")


def _in_order(judged: Sequence[_Judged]) -> list[_Judged]:
    places: dict[int, list[_Judged]] = {_DIFFERS: [], _UNASKED: [], _AGREES: []}
    for each in judged:
        places[each.place].append(each)
    differ = sorted(places[_DIFFERS], key=lambda each: -each.sure)
    unsure, drawn = sorted(places[_UNASKED], key=lambda each: each.sure), places[_UNASKED]
    turns = [each for turn in zip_longest(differ, unsure, drawn) for each in turn if each is not None]
    once = {each.text.id: each for each in turns}
    return [*once.values(), *sorted(places[_AGREES], key=lambda each: each.sure)]


@dataclass(frozen=True, slots=True)
class _Judged:
    text: Example
    student: str
    sure: float
    teacher: str | None
    place: int

    @classmethod
    def of(cls, family: TaskFamily, text: Example, found: Prediction, labelled: Example | None) -> _Judged:
        place, teacher = _UNASKED, None
        if labelled is not None:
            place, teacher = (_AGREES if score_of(family, labelled, found) == 1.0 else _DIFFERS), family.gold(labelled)
        return cls(text, found.label, round(found.confidence, _DIGITS), teacher, place)
