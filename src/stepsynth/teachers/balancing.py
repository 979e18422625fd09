"""Which of several servers of one model gets a request: a state machine without a clock or a network.

    server = balance.choose(now)
    ticket = balance.sent(server, now)
    balance.answered(ticket, now)            or replied, failed, dropped: how it ended

Times are arguments, in seconds of the caller's clock. A server is in one of these states:

    working   gets requests: the one with the least (requests in flight + 1) x recent seconds per answer is chosen
    paused    it asked for a wait: nothing is sent to it until then; it restarts with one request
    out       it failed: after a wait, which grows with every failure, one request tries it; an answer makes it work again

If no server works and none is paused, all of them are out: requests are then sent as to a single server that is down, so that
the caller's attempts decide when to give up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepsynth.teachers.adaptive_concurrency import AdaptiveConcurrency

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CERTAIN", "Balance", "Fault", "Ticket"]

# A server is out when the weights of its failures since its last answer reach this; a refused connection is certain by itself.
CERTAIN = 3
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0
# A server that comes back is idle for at most about half as long as it was down.
_GROWTH = 1.5
# A server that keeps asking for short waits is left alone for longer each time.
_FIRST_PAUSE_S = 0.5
_SMOOTHING = 0.2
# A measured latency loses its weight while nothing is sent, so that a server is not avoided forever for a bad minute.
_HALF_LIFE_S = 10.0
# Answers take unequally long; from this many times the usual on, the oldest one in flight tells more than those that came.
_OVERDUE = 4.0
# How long a request that tries a server may take, so that it does not hold up its stage: many times what others take.
_TRY_FACTOR = 10.0
_LEAST_TRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What a failure says about the server.

    Attributes:
        weight: 0 (it works), 1 (it may be chance) up to `CERTAIN` (it cannot be used now).
        overload: whether it had too many requests at once.
        wait: seconds that it asked for.
        lasting: whether waiting will not help: a wrong key, an unknown model.
        moves: whether another server may take the request; ``False``: the request itself may be the reason.
    """

    weight: int = 0
    overload: bool = False
    wait: float | None = None
    lasting: bool = False
    moves: bool = True


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request in flight.

    Attributes:
        server: its server.
        number: the limiter's number.
        at: when it was sent.
        tries: whether it finds out if a server that was out works again.
    """

    server: int
    number: int
    at: float
    tries: bool


@dataclass(slots=True)
class _Server:
    limiter: AdaptiveConcurrency
    latency: float = 0.0
    measured_at: float = 0.0
    replied_at: float = float("-inf")
    answered: int = 0
    pending: dict[int, float] = field(default_factory=dict)
    # Of failures since its last reply.
    weight: int = 0
    lasting: bool = False
    outs: int = 0
    failed_tries: int = 0
    next_try: float | None = None
    trying: bool = False
    pauses: int = 0
    paused_until: float = 0.0

    @property
    def out(self) -> bool:
        return self.next_try is not None

    def works(self, now: float) -> bool:
        return not self.out and now >= self.paused_until

    def due(self, now: float) -> bool:
        return self.next_try is not None and now >= self.next_try and now >= self.paused_until and not self.trying

    def seconds(self, now: float, default: float) -> float:
        """How long an answer takes now."""
        oldest = now - next(iter(self.pending.values())) if self.pending else 0.0
        usual = self.latency or default
        if self.latency and not self.pending:
            usual = self.remembered(now)
        return max(usual, oldest / _OVERDUE)

    def remembered(self, now: float) -> float:
        """The measured seconds per answer, as far as they still count after nothing was sent for a while."""
        return self.latency * float(0.5 ** (max(0.0, now - self.measured_at) / _HALF_LIFE_S))

    def load(self, now: float, default: float) -> tuple[float, int]:
        """What decides between servers that work; the smallest is chosen."""
        return (len(self.pending) + 1) * self.seconds(now, default), self.answered


class Balance:
    """Chooses servers, and knows which of them work.

    Args:
        count: how many servers there are.
        most: the most requests in flight at one server.
    """

    def __init__(self, count: int, most: int) -> None:
        self._servers = [_Server(AdaptiveConcurrency(most)) for _ in range(count)]
        self._most = most

    # what is known ---------------------------------------------------------------------

    def answered_by(self, server: int) -> int:
        """Return how many requests a server has answered."""
        return self._servers[server].answered

    def outs(self, server: int) -> int:
        """Return how often a server has been left out."""
        return self._servers[server].outs

    def is_out(self, server: int) -> bool:
        """Whether a server is left out now."""
        return self._servers[server].out

    @property
    def all_out(self) -> bool:
        """Whether all servers are out."""
        return all(server.out for server in self._servers)

    @property
    def lasting(self) -> bool:
        """Whether all servers are out, each for a reason that waiting does not change."""
        return all(server.out and server.lasting for server in self._servers)

    def others_work(self, server: int, now: float) -> bool:
        """Whether a server besides this one works."""
        return any(other.works(now) for index, other in enumerate(self._servers) if index != server)

    def resumes_in(self, now: float) -> float | None:
        """Return the seconds until a paused server resumes, if none works before."""
        waits = [server.paused_until - now for server in self._servers if not server.out]
        # A server may fail after it asked for a wait; one that is out and asked for none can be tried.
        waits = waits or [server.paused_until - now for server in self._servers]
        return min(waits) if min(waits) > 0 else None

    def silent(self, ticket: Ticket, now: float) -> bool:
        """Whether a server has said nothing for most of the time since a request was sent."""
        return now - self._servers[ticket.server].replied_at > (now - ticket.at) / 2

    def most_in_flight(self, now: float) -> int:
        """Return how many requests may be in flight, at all servers together; at least 1."""
        self._resume(now)
        servers = self._servers
        in_flight = sum(len(server.pending) for server in servers)
        if self.all_out:
            return in_flight + self._most
        more = sum(max(0, server.limiter.limit - len(server.pending)) for server in servers if server.works(now))
        return max(1, in_flight + more + sum(server.due(now) for server in servers))

    def patience(self, ticket: Ticket, now: float) -> float | None:
        """Return how many seconds a request that tries a server may take; ``None`` for any other request."""
        usual = [server.latency for server in self._servers if server.works(now) and server.latency]
        return max(_LEAST_TRY_S, _TRY_FACTOR * max(usual)) if ticket.tries and usual else None

    # choices ---------------------------------------------------------------------------

    def choose(self, now: float, avoid: Iterable[int] = ()) -> int:
        """Return the server for a request.

        Args:
            now: seconds.
            avoid: servers at which this request has failed; chosen only if no other works.
        """
        self._resume(now)
        servers, avoid = self._servers, frozenset(avoid)
        fresh = [index for index in range(len(servers)) if index not in avoid]
        if not self.all_out and (due := [index for index in fresh if servers[index].due(now)]):
            return min(due, key=lambda index: servers[index].next_try or 0.0)
        working = [index for index in range(len(servers)) if servers[index].works(now)]
        room = [index for index in working if servers[index].limiter.room]
        pools = ([i for i in room if i not in avoid], [i for i in working if i not in avoid], room, working)
        if pool := next(filter(None, pools), None):
            known = [servers[index].latency for index in working if servers[index].latency]
            default = min(known, default=1.0)
            return min(pool, key=lambda index: servers[index].load(now, default))
        # None works. One that is out may be tried before its time, one that asked for a wait may not, if there is another.
        return min(
            range(len(servers)),
            key=lambda i: (
                max(0.0, servers[i].paused_until - now),
                servers[i].lasting,
                i in avoid,
                len(servers[i].pending),
                servers[i].outs,
            ),
        )

    def _resume(self, now: float) -> None:
        for server in self._servers:
            if server.paused_until and now >= server.paused_until:
                server.paused_until = 0.0
                server.limiter.restart()

    def sent(self, server: int, now: float) -> Ticket:
        """Count a request as sent to a server."""
        chosen = self._servers[server]
        tries = chosen.due(now)
        chosen.trying = chosen.trying or tries
        ticket = Ticket(server, chosen.limiter.sent(), now, tries)
        chosen.pending[ticket.number] = now
        return ticket

    # events ----------------------------------------------------------------------------

    def answered(self, ticket: Ticket, now: float) -> None:
        """Record an answer: the server works."""
        server, seconds = self._ended(ticket), now - ticket.at
        server.limiter.answered(ticket.number, seconds)
        before = server.remembered(ticket.at)
        server.latency = before + (seconds - before) * (_SMOOTHING if before else 1.0)
        server.measured_at = now
        server.answered += 1
        server.pauses = 0
        self._works(server, now)

    def replied(self, ticket: Ticket, now: float) -> None:
        """Record that a server refused a request, as any other server of the model would: it works."""
        server = self._ended(ticket)
        server.limiter.ended()
        self._works(server, now)

    def dropped(self, ticket: Ticket) -> None:
        """Record that a request was cancelled."""
        self._ended(ticket).limiter.ended()

    def failed(self, ticket: Ticket, now: float, fault: Fault) -> None:
        """Record a failure."""
        server = self._ended(ticket)
        if fault.overload:
            server.limiter.refused(ticket.number)
        else:
            server.limiter.ended()
        if fault.wait:
            self._pause(server, now, fault.wait)
        elif fault.weight:
            server.weight += fault.weight
            server.lasting = fault.lasting
            if ticket.tries or server.weight >= CERTAIN:
                self._leave_out(server, now, again=ticket.tries)

    def _ended(self, ticket: Ticket) -> _Server:
        server = self._servers[ticket.server]
        del server.pending[ticket.number]
        if ticket.tries:
            server.trying = False
        return server

    def _works(self, server: _Server, now: float) -> None:
        server.replied_at = now
        server.weight = server.failed_tries = 0
        server.lasting = False
        if server.out:
            server.next_try = None
            server.limiter.restart()

    def _pause(self, server: _Server, now: float, wait: float) -> None:
        self._works(server, now)
        if now >= server.paused_until:
            # Of refusals that come together only the first one counts.
            server.pauses += 1
        least = min(_LONGEST_WAIT_S, _FIRST_PAUSE_S * 2.0 ** (server.pauses - 2)) if server.pauses > 1 else 0.0
        server.paused_until = max(server.paused_until, now + max(wait, least))

    def _leave_out(self, server: _Server, now: float, *, again: bool) -> None:
        """Leave a server out; of failures of requests sent before it was, none makes the wait longer."""
        if server.next_try is not None and not again and now < server.next_try:
            return
        server.outs += server.next_try is None
        server.next_try = now + min(_LONGEST_WAIT_S, _FIRST_WAIT_S * _GROWTH**server.failed_tries)
        server.failed_tries += 1
