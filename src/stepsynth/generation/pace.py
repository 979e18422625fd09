"""Requests per minute, evenly spaced, so that no one-minute window exceeds the limit.

The limit is configured or learned: if a server keeps refusing, requests are sent at the rate at which it
answered between two pauses, then a little faster with every answer. There is no clock here.

States: without a limit -> (a second refusal soon after a first) learned, which grows with every answer up to
the configured limit and shrinks with every refusal. A configured limit is the starting state instead, if set.
"""

from __future__ import annotations

__all__ = ["Pace"]

_MINUTE_S = 60.0
# Requests do not arrive as evenly as they leave.
_MARGIN = 1.01
# How much delay a loop that wakes up late may make up for.
_CATCH_UP_S = 0.25
# Two refusals within this time mean a rate limit; one alone, or one with a short wait, does not.
_AGAIN_WITHIN_S = 300.0
_LEAST_WAIT_S = 10.0
# A learned limit grows by this much with an answer, and shrinks to this share with a refusal.
_GROWTH = 0.1
_SHRINK = 0.85


class Pace:
    """When the next request may be sent.

    Args:
        per_minute: the configured limit, ``None`` for none.

    Attributes:
        per_minute: the current limit; ``None`` for none.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._most = float(per_minute) if per_minute else None
        self.per_minute = self._most
        self._next = 0.0
        self._begun = False
        self._answers = 0
        self._resumed_at: float | None = None

    def wait(self, now: float) -> float:
        """Return the seconds until the next request may be sent."""
        return max(0.0, self._next - now) if self.per_minute and self._begun else 0.0

    def sent(self, now: float) -> None:
        """Count a request."""
        if self.per_minute:
            gap = _MINUTE_S * _MARGIN / self.per_minute
            self._next = (max(self._next, now - _CATCH_UP_S) if self._begun else now) + gap
            self._begun = True

    def answered(self) -> None:
        """Count an answer; a learned limit grows."""
        self._answers += 1
        if self.per_minute is not None and self.per_minute != self._most:
            grown = self.per_minute + _GROWTH
            self.per_minute = min(grown, self._most) if self._most else grown

    def refused(self, now: float, wait: float) -> None:
        """Record a refusal that begins a pause; from the second one on, learn the limit.

        Args:
            now: seconds, by the same clock as in `wait`.
            wait: seconds that the server asks for; then its window is over.
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
