"""A student that remembers what it has seen, and a teacher whose rows show which gold rows were in their prompt.

A gold row holds a mark (``zqmark7x``). A written row repeats the marks of its prompt, so that
whoever learns from it has seen those gold rows, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stepsynth.teachers.fake import FakeTeacher
from stepsynth.types import Example, Prediction, Request, Response

__all__ = ["STEPS", "MarkingTeacher", "SpyingStudent", "marks_of"]

# That a call of `fit` says it made.
STEPS = 7

_MARK = re.compile(r"zqmark(\d+)x")


def marks_of(text: str) -> set[int]:
    """Return the numbers of the gold rows that a text shows."""
    return {int(number) for number in _MARK.findall(text)}


class MarkingTeacher(FakeTeacher):
    """Writes what the fake teacher writes, with the marks of the prompt."""

    def __init__(self) -> None:
        super().__init__(blemishes={})

    def answer(self, request: Request) -> Response:
        found = sorted(marks_of("\n".join(message.content for message in request.messages)))
        answer = super().answer(request)
        end = "?" if answer.text.endswith("?") else ""
        return replace(answer, text=" ".join([answer.text.removesuffix("?"), *(f"zqmark{n}x" for n in found)]) + end)


class SpyingStudent:
    """Knows nothing, but remembers every mark that it was shown.

    Args:
        right: tells whether a student that has learned from written rows (first) and gold rows (second) gets
            a row right, by the row's number (third).
        stop: raises what it returns, if anything, at the n-th training.

    Attributes:
        fits: rows of every call of `fit`, with the folder that it went on from; two stages are two calls.
        outs: the folder that each of them wrote into.
        leaks: ids of judged rows whose mark the judge had seen.
        labellers: the marks that each student that labelled a pool had seen; its labels tell its number.
        weighers: the marks that each student that weighed written rows had seen; the place of the lightest row tells its number.
        judged: number of rows that were predicted.
    """

    def __init__(
        self, right: Callable[[bool, bool, int], bool] | None = None, stop: Callable[[int], Exception | None] = lambda _: None
    ) -> None:
        self.right = right or (lambda written, gold, number: number % 3 == 0)
        self.stop = stop
        self.fits: list[tuple[list[Example], Path | None]] = []
        self.outs: list[Path] = []
        self.leaks: list[str] = []
        # A span of no characters would be no answer.
        self.labellers: list[set[int]] = [set()]
        self.weighers: list[set[int]] = []
        self.judged = 0

    @property
    def trainings(self) -> int:
        """How many students were trained: one that goes on from another is the same one."""
        return sum(start is None for _, start in self.fits)

    def fit(
        self,
        train: Sequence[Example],
        select: Sequence[Example],
        *,
        seed: int,
        out: Path,
        start: Path | None = None,
        progress: Any = None,
    ) -> SpyingModel:
        assert not select, "gold rows that pick a checkpoint have been seen as well"
        if error := self.stop(len(self.fits)):
            raise error
        self.fits.append((list(train), start))
        self.outs.append(out)
        before: dict[str, Any] = (
            json.loads((start / "seen.json").read_text()) if start else {"marks": [], "written": False, "gold": False, "steps": 0}
        )
        marks = {mark for row in train for mark in marks_of(f"{row.text} {row.context}")} | set(before["marks"])
        # Whoever learns from a label has seen, at second hand, what its author learned from.
        for row in train:
            if row.id.startswith("pool-"):
                marks |= self.labellers[len(row.answers[0].text) if row.answers else int(row.label.partition("-")[2])]
        weights = [row.weight for row in train]
        if set(weights) != {1.0}:
            marks |= self.weighers[weights.index(min(weights))]
        seen = {
            "marks": sorted(marks),
            "written": before["written"] or any(row.id.startswith("round-") for row in train),
            "gold": before["gold"] or any(not row.id.startswith("round-") for row in train),
            "steps": before["steps"] + STEPS,
        }
        (out / "seen.json").write_text(json.dumps(seen))
        return self.load(out)

    def load(self, folder: Path) -> SpyingModel:
        return SpyingModel(self, **json.loads((folder / "seen.json").read_text()))


class SpyingModel:
    """A trained `SpyingStudent`."""

    def __init__(self, student: SpyingStudent, marks: list[int], written: bool, gold: bool, steps: int) -> None:
        self._student = student
        self._marks = set(marks)
        self._written = written
        self._gold = gold
        self.steps = steps

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        if any(row.id.startswith("pool-") for row in examples):
            self._student.labellers.append(self._marks)
        if all(row.id.startswith("round-") for row in examples):
            self._student.weighers.append(self._marks)
            lightest = len(self._student.weighers) - 1
            return [self._weighed(row, 0.5 if place == lightest else 1.0) for place, row in enumerate(examples)]
        found = []
        for row in examples:
            if row.id.startswith("pool-"):
                found.append(self._labelled(row))
                continue
            self._student.judged += 1
            if self._marks & marks_of(f"{row.text} {row.context}"):
                self._student.leaks.append(row.id)
            right = self._student.right(self._written, self._gold, int(row.id.rpartition("-")[2]))
            if row.answers:
                answer = row.answers[0]
                found.append(Prediction(row.id, answer.text if right else "", {answer.text if right else "": 1.0}, answer.start))
                continue
            label = row.label if right else _other(row.label)
            found.append(Prediction(row.id, label, {label: 1.0} if label else {"hot": 0.1}))
        return found

    def _weighed(self, row: Example, sure: float) -> Prediction:
        """Return the probability of a row's labels; of one without labels, that it has none."""
        shares = dict.fromkeys(row.label.split("|"), sure) if row.label else {"hot": 1.0 - sure}
        return Prediction(row.id, row.label, shares)

    def _labelled(self, row: Example) -> Prediction:
        """Return an answer that tells who gave it: a label with a number, or a span of so many characters."""
        number = len(self._student.labellers) - 1
        if row.context and row.text.endswith("?"):
            said = row.context[:number]
            return Prediction(row.id, said, {said: 1.0}, 0)
        return Prediction(row.id, f"by-{number}", {f"by-{number}": 1.0})


def _other(label: str) -> str:
    return {"kalm": "spitz", "spitz": "kalm", "follows": "other", "other": "follows", "": "hot"}.get(label, "")
