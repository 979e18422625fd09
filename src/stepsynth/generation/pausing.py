"""Pauses that a server asks for: how long they may be, how often they may come, and who is told of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stepsynth.errors import TransientError
from stepsynth.progress import Pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepsynth.config import TeacherConfig

__all__ = ["Pauses"]

# Many clients that were told the same do not come back at the same moment.
_SPREAD = 0.25
_MOST_SPREAD_S = 5.0
# A pause that ends this much later than the one that was told of is told of, too.
_TELL_AGAIN_S = 5.0
# Nobody means so long a wait; such a number is taken for the longest that is allowed.
_NONSENSE_S = 400 * 86400.0
# Where one pause follows the other without an answer, each is at least twice as long as the one before,
# and the server is given up after so long.
_FIRST_S = 0.5
_IN_VAIN_S = 120.0


class Pauses:
    """What one teacher asked for so far.

    Args:
        config: ``longest_pause_s``; ``attempts`` is how many pauses may follow each other without an answer between.
        tell: told of a pause when it begins, and ``None`` when it is over.
        wall: seconds since 1970; only what is told of a pause goes by it.

    Attributes:
        now: the pause that is on, if any.
        resume_at: when it ends, by the clock of those who wait; it outlives the call that it began in.
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
        """Note that there was an answer: the next pause is a first one again."""
        self._in_a_row, self._waited = 0, 0.0

    def too_long(self, error: TransientError, *, new: bool) -> TransientError | None:
        """Take the wait that a refusal asks for; return the error that ends the run where it is too long or in vain.

        Args:
            error: with a wait.
            new: whether no pause is on at this moment.
        """
        seconds, who = self._asked(error), self._who()
        why = error.why or error.message
        kept = "Everything obtained is kept; run the same command again then."
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
        what = f"{who} still refuses after {times}, with no answer between: {why}."
        return TransientError(what, hint="Everything obtained is kept; run the same command again later.", kind=error.kind)

    def length(self, error: TransientError, uniform: Callable[[float, float], float]) -> float:
        """Return how long to pause: what was asked for, and a little more by chance."""
        least = _FIRST_S * 2 ** (self._in_a_row - 2) if self._in_a_row > 1 else 0.0
        seconds = max(self._asked(error), min(least, 60.0))
        return seconds + uniform(0.0, min(seconds * _SPREAD, _MOST_SPREAD_S))

    def _asked(self, error: TransientError) -> float:
        seconds = error.retry_after or 0.0
        return seconds if seconds < _NONSENSE_S else self._longest

    def begin(self, seconds: float, error: TransientError) -> None:
        """Tell of a pause, unless it ends no later than the one that is on."""
        until = self._wall() + seconds
        if self.now is None or until > self.now.until + _TELL_AGAIN_S:
            self._waited += seconds
            self.now = Pause(seconds, until, self._who(), error.why or error.message)
            self._say(self.now)

    def hold(self, until: float) -> None:
        """Note when requests may be sent again; the longest of several pauses counts."""
        self.resume_at = max(self.resume_at, until)

    def end(self) -> None:
        """Tell that the pause is over."""
        if self.now is not None:
            self.now = None
            self._say(None)

    def _who(self) -> str:
        return self._config.base_url or self._config.backend

    def _say(self, pause: Pause | None) -> None:
        if self._tell is not None:
            self._tell(pause)
