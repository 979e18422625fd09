"""Who judges a round: a student scored on both halves of the gold rows, or one student per fold (`CrossFit`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.training.runner import StudentRunner

__all__ = ["Halves", "RoundJudge"]


class RoundJudge(Protocol):
    """Trains on what was written so far and finds what is still wrong.

    Attributes:
        no_gain: what to say when two rounds in a row gained nothing.
        no_mistakes: what to say when nothing is wrong any more.
    """

    no_gain: str
    no_mistakes: str

    def scores(self, before: int) -> Sequence[Sequence[float]]:
        """Return what each round before one scored, row by row."""
        ...

    def judge(self, number: int) -> None:
        """Train from scratch on the rows of all rounds up to this one, and write down what the student gets wrong."""
        ...

    def settle(self, last: int) -> None:
        """Train what is kept beside the students of the rounds; ``last`` is the last one that was judged."""
        ...


class Halves:
    """Mistakes come from the harvest half, the score of a round from the select half.

    Args:
        student_runner: trains and grades.
        learns_from: what the students learn from, see `stepsynth.methods.Method.student`.
    """

    no_gain = "Two rounds in a row did not gain on the select half: the loop ends here."
    no_mistakes = "No mistakes left on the harvest half: the loop ends here."

    def __init__(self, student_runner: StudentRunner, learns_from: str) -> None:
        self._student_runner = student_runner
        self._learns_from = learns_from

    def scores(self, before: int) -> list[list[float]]:
        """See `RoundJudge`."""
        return self._student_runner.scores(before)

    def judge(self, number: int) -> None:
        """See `RoundJudge`."""
        self._student_runner.train(number, gold=self._learns_from == "gold")

    def settle(self, last: int) -> None:
        """Train one more student, on written and gold rows, where the method wants one."""
        if self._learns_from == "both":
            self._student_runner.train(last + 1, gold=True)
