"""Decides whether a teacher works at all, from the outcomes of its requests in any order.

A refused request costs only its row as long as others are answered. The teacher is given up only
after many refusals in a row, once all requests in flight have ended without an answer.
A ``final`` error (wrong key, unknown model, no money) ends the run by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.errors import PermanentError
from stepsynth.teachers.error_body import server_message

if TYPE_CHECKING:
    from stepsynth.errors import TeacherError
    from stepsynth.types import Response

__all__ = ["Outcomes"]

# After this many failures in a row without an answer, a server is down, not just busy.
_FAILURES_IN_A_ROW = 10
_REFUSALS_IN_A_ROW = 10
# The same if nothing was ever answered.
_FIRST_REFUSALS = 5


class Outcomes:
    """Counts of one process.

    Args:
        answered_before: whether the teacher answered in an earlier process of the run.

    Attributes:
        answered: requests with an answer.
        refused: requests refused for good, or whose answer was withheld.
    """

    def __init__(self, *, answered_before: bool) -> None:
        self.answered = self.refused = 0
        self._before = answered_before
        self._refused_in_a_row = self._failed_in_a_row = 0
        self._last: PermanentError | None = None

    @property
    def ever(self) -> bool:
        """Whether the teacher has ever answered."""
        return self._before or self.answered > 0

    def known(self) -> None:
        """Record that an answer of this teacher is already known."""
        self._before = True

    def came(self, response: Response) -> None:
        """Count an answer; one that the provider withheld counts as a refusal."""
        self._failed_in_a_row = 0
        if response.finish_reason == "refusal" and not response.text:
            self._withheld(response)
            return
        self.answered += 1
        self._refused_in_a_row = 0

    def _withheld(self, response: Response) -> None:
        self.refused += 1
        # Once others were answered, the cause is the prompt, not the teacher.
        if not self.ever:
            said = server_message(response.raw)
            self._refused_in_a_row += 1
            self._last = PermanentError(
                f"the provider withheld them: {said!r}.",
                hint="Change the task's wording, or use another teacher.",
                kind="withheld",
            )

    def gave_up(self, error: TeacherError) -> TeacherError | None:
        """Count a request that will not be answered; return the error that ends the run, if it must end now."""
        self._failed_in_a_row += 1
        if not isinstance(error, PermanentError):
            return error if self._failed_in_a_row >= _FAILURES_IN_A_ROW else None
        self.refused += 1
        self._refused_in_a_row += 1
        self._last = error
        return error if error.final and not (error.unless_answered and self.answered) else None

    @property
    def doubtful(self) -> bool:
        """Whether to send nothing more until all requests in flight have ended."""
        if self._last is None:
            return False
        if self.ever or self._last.kind == "withheld":
            return self._refused_in_a_row >= _REFUSALS_IN_A_ROW
        # A plug-in's error without a kind usually means that the plug-in does not work at all.
        return self._refused_in_a_row >= (1 if self._last.kind == "other" else _FIRST_REFUSALS)

    @property
    def hopeless(self) -> bool:
        """Whether requests were refused and none was ever answered; asked after all have ended."""
        return self._refused_in_a_row > 0 and not self.ever and self._last is not None and self._last.kind != "withheld"

    def verdict(self) -> PermanentError:
        """Return the error that gives the teacher up; resets the count for a caller that continues."""
        last, row = self._last or PermanentError("nothing was answered."), self._refused_in_a_row
        self._refused_in_a_row = 0
        if row == self.refused == 1:
            return last
        what = f"{self.refused:,} of {self.refused + self.answered:,} requests were refused"
        what += f", the last {row:,} in a row" if row < self.refused else ""
        return PermanentError(f"{what}: {last.message}", hint=last.hint, kind=last.kind)
