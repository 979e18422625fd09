"""Whether a teacher works at all, from what became of its requests, in whatever order they ended.

A refused request is its row's affair as long as others are answered. Only when so many in a row were
refused, and everything that was on its way has come back without an answer, is the teacher given up.
An error that is ``final`` (wrong key, unknown model, no money) ends the run by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.errors import PermanentError
from stepsynth.teachers.error_body import server_message

if TYPE_CHECKING:
    from stepsynth.errors import TeacherError
    from stepsynth.types import Response

__all__ = ["Outcomes"]

# A server that fails this often in a row, with no answer between, is down and not just busy.
_FAILURES_IN_A_ROW = 10
_REFUSALS_IN_A_ROW = 10
# The same where nothing was ever answered.
_FIRST_REFUSALS = 5


class Outcomes:
    """Counts of one process.

    Args:
        answered_before: whether the teacher has answered an earlier process of the run.

    Attributes:
        answered: requests with an answer.
        refused: requests that were refused for good, or whose answer was withheld.
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
        """Note that an answer of this teacher is known already."""
        self._before = True

    def came(self, response: Response) -> None:
        """Count an answer, or one that a provider withheld."""
        self._failed_in_a_row = 0
        if response.finish_reason == "refusal" and not response.text:
            self._withheld(response)
            return
        self.answered += 1
        self._refused_in_a_row = 0

    def _withheld(self, response: Response) -> None:
        self.refused += 1
        # Where others are answered it tells of its prompt alone, however often it comes.
        if not self.ever:
            said = server_message(response.raw)
            self._refused_in_a_row += 1
            self._last = PermanentError(
                f"the provider withheld them: {said!r}.",
                hint="Change the task's wording, or ask another teacher.",
                kind="withheld",
            )

    def gave_up(self, error: TeacherError) -> TeacherError | None:
        """Count a request that will not be answered; return the error to end the run with, if that is plain already."""
        self._failed_in_a_row += 1
        if not isinstance(error, PermanentError):
            return error if self._failed_in_a_row >= _FAILURES_IN_A_ROW else None
        self.refused += 1
        self._refused_in_a_row += 1
        self._last = error
        return error if error.final and not (error.unless_answered and self.answered) else None

    @property
    def doubtful(self) -> bool:
        """Whether nothing more should be sent before what is on its way has come back."""
        if self._last is None:
            return False
        if self.ever or self._last.kind == "withheld":
            return self._refused_in_a_row >= _REFUSALS_IN_A_ROW
        # A plug-in that does not say what was refused has mostly failed as a whole.
        return self._refused_in_a_row >= (1 if self._last.kind == "other" else _FIRST_REFUSALS)

    @property
    def hopeless(self) -> bool:
        """Whether requests were refused and none was ever answered, now that all have ended."""
        return self._refused_in_a_row > 0 and not self.ever and self._last is not None and self._last.kind != "withheld"

    def verdict(self) -> PermanentError:
        """Return the error that gives the teacher up; the count begins anew, for a caller that goes on all the same."""
        last, row = self._last or PermanentError("nothing was answered."), self._refused_in_a_row
        self._refused_in_a_row = 0
        if row == self.refused == 1:
            return last
        what = f"{self.refused:,} of {self.refused + self.answered:,} requests were refused"
        what += f", the last {row:,} in a row" if row < self.refused else ""
        return PermanentError(f"{what}: {last.message}", hint=last.hint, kind=last.kind)
