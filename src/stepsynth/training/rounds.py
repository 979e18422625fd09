"""How a round is judged: by one student on both halves of the gold rows, or by one student per fold (`CrossFit`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.training.runner import StudentRunner

__all__ = ["Halves", "RoundJudge"]


class RoundJudge(Protocol):
    """Trains on the rows written so far and finds the remaining mistakes.

    Attributes:
        no_gain: message when two rounds in a row gained nothing.
        no_mistakes: message when no mistakes are left.
    """

    no_gain: str
    no_mistakes: str

    def scores(self, before: int) -> Sequence[Sequence[float]]:
        """Return the scores of each earlier round, one per row."""
        ...

    def judge(self, number: int) -> None:
        """Train from scratch on the rows of all rounds up to this one, and store the student's predictions."""
        ...

    def settle(self, last: int) -> None:
        """Train the final students; ``last`` is the last round that was judged."""
        ...


class Halves:
    """Mistakes come from the harvest half, the score of a round from the select half.

    Args:
        student_runner: trains and grades.
        learns_from: the students' training data, see `stepsynth.methods.Method.student`.
    """

    no_gain = "No gain on the select half for two rounds in a row: the loop ends here."
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
        """Train one more student on written and gold rows, if the method has one."""
        if self._learns_from == "both":
            self._student_runner.train(last + 1, gold=True)
