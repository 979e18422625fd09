"""Requests per minute: evenly spaced, so that no window of a minute holds more of them than allowed.

What is allowed is a setting, or learned: a server that refuses in one minute after the other is asked
as often as it answered between two pauses, and then a little more with every answer. There is no clock in here.
"""

from __future__ import annotations

__all__ = ["Pace"]

_MINUTE_S = 60.0
# Requests do not arrive as evenly as they leave.
_MARGIN = 1.01
# A loop that wakes up late may make up for so much.
_CATCH_UP_S = 0.25
# Two refusals within this time are a limit, one alone is an accident; so is a server that is back in a moment.
_AGAIN_WITHIN_S = 300.0
_LEAST_WAIT_S = 10.0
# What was learned grows by so much with an answer, and shrinks to this share with a pause.
_GROWTH = 0.1
_SHRINK = 0.85


class Pace:
    """When the next request may be sent.

    Args:
        per_minute: requests per minute at most, ``None`` for no limit of ours.

    Attributes:
        per_minute: as is kept to now; ``None`` where nothing is.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._most = float(per_minute) if per_minute else None
        self.per_minute = self._most
        self._next = 0.0
        self._begun = False
        self._answers = 0
        self._resumed_at: float | None = None

    def wait(self, now: float) -> float:
        """Return seconds until the next request may be sent; 0 for at once."""
        return max(0.0, self._next - now) if self.per_minute and self._begun else 0.0

    def sent(self, now: float) -> None:
        """Count a request."""
        if self.per_minute:
            gap = _MINUTE_S * _MARGIN / self.per_minute
            self._next = (max(self._next, now - _CATCH_UP_S) if self._begun else now) + gap
            self._begun = True

    def answered(self) -> None:
        """Count an answer; what was learned grows by it."""
        self._answers += 1
        if self.per_minute is not None and self.per_minute != self._most:
            grown = self.per_minute + _GROWTH
            self.per_minute = min(grown, self._most) if self._most else grown

    def refused(self, now: float, wait: float) -> None:
        """Take a refusal that begins a pause; learn from the second one.

        Args:
            now: seconds, by the clock of `wait`.
            wait: seconds that the server asks for; its window is over then.
        """
        if self.per_minute is not None and self.per_minute != self._most:
            self.per_minute *= _SHRINK
        if wait < _LEAST_WAIT_S:
            return
        before, answers = self._resumed_at, self._answers
        self._resumed_at, self._answers = now + wait, 0
        if before is None or not answers or now - before > _AGAIN_WITHIN_S:
            return
        learned = _MINUTE_S * answers / (max(0.0, now - before) + wait)
        self.per_minute = min(learned, self._most) if self._most else learned
