"""Pauses that a server asks for: how long and how frequent they may be, and reporting them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stepsynth.errors import TransientError
from stepsynth.runtime.progress import Pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepsynth.config import TeacherConfig

__all__ = ["Pauses"]

# Keeps clients that were given the same wait from returning at the same moment.
_SPREAD = 0.25
_MOST_SPREAD_S = 5.0
# A pause that ends this much later than the reported one is reported, too.
_TELL_AGAIN_S = 5.0
# No server means so long a wait; it is replaced by the longest allowed one.
_NONSENSE_S = 400 * 86400.0
# If pauses follow each other without an answer, each is at least twice as long as the one before,
# and the server is given up after this long.
_FIRST_S = 0.5
_IN_VAIN_S = 120.0


class Pauses:
    """The pauses of one teacher.

    Args:
        config: uses ``longest_pause_s``, and ``attempts`` as the most pauses in a row without an answer.
        tell: called with a pause when it begins, and with ``None`` when it is over.
        wall: seconds since 1970; used only in reports.

    Attributes:
        now: the current pause, if any.
        resume_at: when it ends, by the driver's clock; kept between calls of `TeacherClient.run`.
    """

    def __init__(
        self,
        config: TeacherConfig,
        tell: Callable[[Pause | None], object] | None,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._tell = tell
        self._wall = wall
        self._in_a_row = 0
        self._waited = 0.0
        self._longest = config.longest_pause_s
        self.now: Pause | None = None
        self.resume_at = 0.0

    def answered(self) -> None:
        """Reset the count of pauses in a row: an answer came."""
        self._in_a_row, self._waited = 0, 0.0

    def too_long(self, error: TransientError, *, new: bool) -> TransientError | None:
        """Check the wait that a refusal asks for; return the error that ends the run if it is too long or pointless.

        Args:
            error: a refusal with a wait.
            new: whether no pause is on now.
        """
        seconds, who = self._asked(error), self._who()
        why = error.why or error.message
        kept = "Everything obtained is kept; run it again after that."
        if seconds > self._longest:
            pause = Pause(seconds, self._wall() + seconds, who, why, ended=True)
            self._say(pause)
            return TransientError(
                f"{pause}.", hint=f"{kept[:-1]} (teacher.longest_pause_s is {self._longest:g}).", kind=error.kind
            )
        self._in_a_row += new
        if self._in_a_row <= self._config.attempts or self._waited < _IN_VAIN_S:
            return None
        times = f"{self._in_a_row - 1} pauses that it asked for" if self._in_a_row > 2 else "a pause that it asked for"
        what = f"{who} still refuses after {times}, with no answer in between: {why}."
        return TransientError(what, hint="Everything obtained is kept; run it again later.", kind=error.kind)

    def length(self, error: TransientError, uniform: Callable[[float, float], float]) -> float:
        """Return how long to pause: the wait asked for, plus a little at random."""
        least = _FIRST_S * 2 ** (self._in_a_row - 2) if self._in_a_row > 1 else 0.0
        seconds = max(self._asked(error), min(least, 60.0))
        return seconds + uniform(0.0, min(seconds * _SPREAD, _MOST_SPREAD_S))

    def _asked(self, error: TransientError) -> float:
        seconds = error.retry_after or 0.0
        return seconds if seconds < _NONSENSE_S else self._longest

    def begin(self, seconds: float, error: TransientError) -> None:
        """Report a pause, unless the current one lasts at least as long."""
        until = self._wall() + seconds
        if self.now is None or until > self.now.until + _TELL_AGAIN_S:
            self._waited += seconds
            self.now = Pause(seconds, until, self._who(), error.why or error.message)
            self._say(self.now)

    def hold(self, until: float) -> None:
        """Record when requests may be sent again; the longest of several pauses counts."""
        self.resume_at = max(self.resume_at, until)

    def end(self) -> None:
        """Report that the pause is over."""
        if self.now is not None:
            self.now = None
            self._say(None)

    def _who(self) -> str:
        return self._config.address or self._config.backend

    def _say(self, pause: Pause | None) -> None:
        if self._tell is not None:
            self._tell(pause)
