"""How many requests may be in flight: additive increase, multiplicative decrease.

The limit starts at full width: most servers can take their configured load, and ramping up would
cost every run its first seconds. Only a refusal for overload shrinks it, by half. Requests sent
before the last halving tell nothing new, so it is halved once per round trip however many fail.
While answers come as fast as before, it grows by a fixed share of its full width per round trip
(Chiu and Jain 1989). After a pause that the server asked for, it restarts at one request and doubles
per round trip up to the halved width (slow start, RFC 5681), to avoid a burst.

There is no clock here: round trips are inferred from the order in which requests were sent.
"""

from __future__ import annotations

__all__ = ["AdaptiveConcurrency"]

# From half back to full width in eight round trips.
_STEPS = 16
# Latency varies by chance; twice the best means that requests queue at the server.
_SLOWER = 2.0
_SMOOTHING = 0.1
# The best latency decays at this rate per round trip, since later prompts may have longer answers.
_FORGET = 0.05
# Differences below this are noise.
_FASTEST_S = 0.001


class AdaptiveConcurrency:
    """Decides how many requests may be in flight.

    Args:
        most: never more than this.

    Attributes:
        in_flight: requests now in flight.
        cuts: how often the limit was halved.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._width = float(most)
        self._step = max(1.0, most / _STEPS)
        # Below this the width doubles per round trip; 0: not in slow start.
        self._threshold = 0.0
        self._sent = 0
        self._cut_at = 0
        self._latency = 0.0
        self._best = float("inf")
        self.in_flight = 0
        self.cuts = 0

    @property
    def limit(self) -> int:
        """Most requests in flight now, at least 1."""
        return max(1, int(self._width))

    @property
    def room(self) -> bool:
        """Whether another request may be sent."""
        return self.in_flight < self.limit

    def sent(self) -> int:
        """Count a request as in flight; return the number by which `answered` and `refused` tell round trips apart."""
        self.in_flight += 1
        self._sent += 1
        return self._sent

    def answered(self, number: int, seconds: float) -> None:
        """Record an answer; grow if answers come as fast as before.

        Args:
            number: from `sent`.
            seconds: from sending to the whole answer.
        """
        self.in_flight -= 1
        self._latency += (seconds - self._latency) * (_SMOOTHING if self._latency else 1.0)
        self._best = max(_FASTEST_S, min(self._best * (1.0 + _FORGET / self._width), self._latency))
        if number <= self._cut_at or self._width >= self._most or self._latency > _SLOWER * self._best:
            return
        if self._width < self._threshold:
            self._width = min(self._width + 1.0, self._threshold)
        else:
            self._threshold = 0.0
            self._width = min(self._width + self._step / self._width, float(self._most))

    def refused(self, number: int) -> None:
        """Record a refusal for overload; halve the width once per round trip."""
        self.in_flight -= 1
        if number > self._cut_at:
            self._width = max(1.0, self._width / 2)
            self._threshold = 0.0
            self._cut_at = self._sent
            self.cuts += 1

    def ended(self) -> None:
        """Record an end that says nothing about the server's load: refused content, a lost connection."""
        self.in_flight -= 1

    def restart(self) -> None:
        """Restart with one request after a pause that the server asked for."""
        self._threshold = max(self._threshold, self._width)
        self._width = 1.0
        self._cut_at = self._sent
