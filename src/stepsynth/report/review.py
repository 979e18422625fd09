"""What a person should look at first: labels that a student or the teacher doubts, and texts that should be labelled next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.evaluation.calibration import calibrated
from stepsynth.journal.results import best_round, find_choice
from stepsynth.methods import trains_on
from stepsynth.types import Example, StageKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Graded

__all__ = ["Doubt", "NextText", "labels_in_doubt", "texts_to_label"]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A gold row with another answer than the one it has.

    Attributes:
        row: the row.
        label: its answer in the file.
        student: the answer of a student that had not seen the row; ``None`` if it is the row's.
        confidence: that student's probability for its answer; ``None`` if it agrees with the row.
        teacher: the teacher's answer; ``None`` if it is the row's, or if it was not asked or gave none.
        teacher_confidence: the probability that such an answer of the teacher's is right, as far as the other gold rows tell;
            ``None`` if it gives no other answer or did not say how sure it is.
    """

    row: Example
    label: str
    student: str | None
    confidence: float | None
    teacher: str | None
    teacher_confidence: float | None = None

    @property
    def both(self) -> bool:
        """Whether student and teacher give the same other answer."""
        return self.student is not None and self.student == self.teacher


@dataclass(frozen=True, slots=True)
class NextText:
    """A text of the pool that a person may label.

    Attributes:
        row: the text.
        student: the answer of a student of the labels alone.
        confidence: its probability for that answer.
        teacher: the teacher's answer; ``None`` if it was not asked or gave none.
    """

    row: Example
    student: str
    confidence: float
    teacher: str | None


def texts_to_label(journal: Journal) -> list[NextText] | None:
    """Return the first texts of the pool in the order of `stepsynth.training.unlabelled.judge_texts`; ``None`` without such."""
    kept = next((info["texts"] for _, _, kind, info, _ in journal.stages() if kind == StageKind.UNLABELLED), None)
    if kept is None:
        return None
    return [
        NextText(Example(row_id, text, context=context), student, confidence, teacher)
        for row_id, text, context, student, confidence, teacher in kept
    ]


def labels_in_doubt(journal: Journal, config: RunConfig, family: TaskFamily) -> list[Doubt] | None:
    """Return the gold rows in doubt: first those where student and teacher agree, then by the surer one's confidence.

    Students are asked only about rows that they had not learned from. The order says where to look first, not what is wrong:
    with few labels most doubts are the student's own mistakes. ``None`` if neither a student that had not learned from the gold
    rows nor the teacher has judged them.

    Args:
        journal: the run's.
        config: the run's.
        family: names the rows' answers.
    """
    rows = [*journal.gold("harvest"), *journal.gold("select")]
    student = {g.prediction.example_id: g for g in _judged(journal, config)}
    read = next((info["second_reading"]["said"] for _, _, kind, info, _ in journal.stages() if kind == StageKind.READING), None)
    if not student and read is None:
        return None
    # Runs of earlier versions did not keep how sure the teacher was.
    said = {row: (answer, score, rest[0] if rest else None) for row, answer, score, *rest in read or ()}
    shares = reading_confidences(said.values()) or [None] * len(said)
    teacher = {row: (said[row][0], share) for row, share in zip(said, shares, strict=True) if said[row][1] < 1.0}
    found = []
    for row in rows:
        graded = student.get(row.id)
        wrong = graded.prediction if graded is not None and graded.score < 1.0 else None
        other, share = teacher.get(row.id, (None, None))
        if wrong is not None or other is not None:
            confidence = wrong.confidence if wrong else None
            found.append(Doubt(row, family.gold(row), wrong.label if wrong else None, confidence, other, share))
    return sorted(found, key=lambda doubt: (not doubt.both, -max(doubt.confidence or 0.0, doubt.teacher_confidence or 0.0)))


def reading_confidences(said: Iterable[tuple[str | None, float, float | None]]) -> list[float | None] | None:
    """Return for each reading of a gold row the probability that it is right, as readings of other gold rows tell.

    Args:
        said: the answer, its score and how sure the teacher was, see `stepsynth.generation.second_reading.read_gold`.

    Returns:
        ``None`` for a reading that decided nothing; no list if the teacher did not say how sure it was, or if too few of its
        answers were right or wrong to compare.
    """
    entries = list(said)
    known = [place for place, (answer, _, sure) in enumerate(entries) if answer is not None and sure is not None]
    if not known or len(known) < sum(answer is not None for answer, *_ in entries):
        return None
    shares = calibrated([entries[place][2] or 0.0 for place in known], [entries[place][1] == 1.0 for place in known])
    if shares is None:
        return None
    found: list[float | None] = [None] * len(entries)
    for place, share in zip(known, shares, strict=True):
        found[place] = share
    return found


def _judged(journal: Journal, config: RunConfig) -> Sequence[Graded]:
    """Return the predictions for gold rows of students that had not seen them; of the final student's kind, if there is one."""
    trains = trains_on(config, journal)
    if trains == "crossfit":
        choice = find_choice(journal)
        return journal.graded(choice["judged"][choice["chosen"]], "crossfit") if choice else ()
    if trains == "written" and journal.rounds():
        best = best_round(journal)
        return [*journal.graded(best, "harvest"), *journal.graded(best, "select")]
    return ()
