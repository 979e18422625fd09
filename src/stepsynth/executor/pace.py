"""Requests per minute: evenly spaced, so that no window of a minute holds more of them than allowed.

What is allowed is a setting, or learned: a server that refuses in one minute after the other is asked
as often as it answered in the last one, and then a little more with every answer. There is no clock in here.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Pace"]

_MINUTE_S = 60.0
# Requests do not arrive as evenly as they leave.
_MARGIN = 1.01
# A loop that wakes up late may make up for so much.
_CATCH_UP_S = 0.25
# Two refusals within so many windows are a limit, one alone is an accident.
_AGAIN_WITHIN_S = 300.0
_GROWTH = 0.1


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
        self._answers: deque[float] = deque(maxlen=10_000)
        self._refused_at: float | None = None

    def wait(self, now: float) -> float:
        """Return seconds until the next request may be sent; 0 for at once."""
        return max(0.0, self._next - now) if self.per_minute and self._begun else 0.0

    def sent(self, now: float) -> None:
        """Count a request."""
        if self.per_minute:
            gap = _MINUTE_S * _MARGIN / self.per_minute
            self._next = (max(self._next, now - _CATCH_UP_S) if self._begun else now) + gap
            self._begun = True

    def answered(self, now: float) -> None:
        """Count an answer; what was learned grows by it."""
        self._answers.append(now)
        if self.per_minute is not None and self.per_minute != self._most:
            grown = self.per_minute + _GROWTH
            self.per_minute = min(grown, self._most) if self._most else grown

    def refused(self, now: float) -> None:
        """Take a refusal that asks for a wait, the first one of a pause; learn from the second."""
        before, self._refused_at = self._refused_at, now
        if before is None or now - before > _AGAIN_WITHIN_S:
            return
        answers = sum(now - at <= _MINUTE_S for at in self._answers)
        if answers:
            self.per_minute = min(float(answers), self._most) if self._most else float(answers)
