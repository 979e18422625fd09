"""A teacher made of several servers of one model (a list in ``teacher.base_url``).

    teacher = EndpointsTeacher(config, {address: OpenAITeacher(config.at(address)), ...})
    response = await teacher.generate(request)

One ``generate`` is one attempt at one server, chosen by `Balance`. If the server failed and another one works, the failure is
a `MovedError`: the caller sends the request again at once, it goes elsewhere, and no attempt is counted. So every send is the
caller's, who counts it against its caps. A request is moved away from each server once; after that its failures count, as with a
single server. Failures are also the caller's if no server works.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from stepsynth.errors import MovedError, PermanentError, RetryModifiedError, TeacherError, TransientError
from stepsynth.teachers.balancing import CERTAIN, Balance, Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from stepsynth.config import TeacherConfig
    from stepsynth.teachers import AsyncTeacher
    from stepsynth.teachers.balancing import Ticket
    from stepsynth.types import Request, Response

__all__ = ["EndpointsTeacher", "fault_of"]

_Answer = TypeVar("_Answer")


def fault_of(error: TeacherError, *, silent: bool, proven: bool) -> Fault | None:
    """Return what a failed request says about its server; ``None`` if it says something about the request only.

    Args:
        error: the failure.
        silent: whether the server answered nothing else for most of the time since the request was sent.
        proven: whether the server has answered before.
    """
    if isinstance(error, RetryModifiedError):
        return None
    if isinstance(error, TransientError):
        busy = error.kind in {"overload", "unavailable", "timeout"}
        if error.retry_after:
            return Fault(overload=busy, wait=error.retry_after)
        if error.kind == "timeout" and error.maybe_billed:
            # If others were answered meanwhile, this answer may just take too long.
            return Fault(weight=int(silent), overload=True, moves=silent)
        if error.kind in {"connection", "timeout"} and not error.maybe_billed and not error.why:
            # Nobody took the connection; with a status (408) somebody did.
            return Fault(weight=CERTAIN)
        return Fault(weight=0 if error.kind == "overload" else 1, overload=busy)
    if not isinstance(error, PermanentError):
        return Fault(weight=1)
    if error.final and not (error.unless_answered and proven):
        return Fault(weight=CERTAIN, lasting=True)
    # A server that never answered may be another model's, or a wrong address.
    return None if proven else Fault(weight=1, lasting=True)


class EndpointsTeacher:
    """Several teachers with equal settings, one for each server.

    Args:
        config: the config with all addresses.
        teachers: by address, in the order of the config.
        clock: seconds.

    Attributes:
        teachers: as given.
    """

    def __init__(
        self, config: TeacherConfig, teachers: Mapping[str, AsyncTeacher], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._clock = clock
        self._addresses = list(teachers)
        self._balance = Balance(len(teachers), config.concurrency)
        # Where a request has failed, by its place in memory: the caller keeps it until the teacher is closed.
        self._left: dict[int, set[int]] = {}
        # The last refusal that asked for a wait.
        self._refusal: TransientError | None = None
        self._why: dict[int, str] = {}
        self._told_outs = [0] * len(teachers)
        self._told_out = [False] * len(teachers)
        self._notes: list[str] = []
        self.teachers = dict(teachers)

    async def generate(self, request: Request) -> Response:
        """Answer one request with one attempt at one server.

        Raises:
            MovedError: the server failed; the next attempt goes to another one.
            TeacherError: as the server's own teacher: the request failed, or no server works.
        """
        return await self._attempt(request, lambda teacher: teacher.generate(request))

    async def generate_many(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests that differ only in their replicate with one attempt at one server; see `generate`."""

        async def ask(teacher: Any) -> list[Response]:
            many = getattr(teacher, "generate_many", None)
            return list(await many(requests)) if many is not None else [await teacher.generate(requests[0])]

        return await self._attempt(requests[0], ask)

    @property
    def rows_limit(self) -> int:
        """The most rows that one request can give at every server."""
        return min(int(getattr(teacher, "rows_limit", 1)) for teacher in self.teachers.values())

    @property
    def most_in_flight(self) -> int:
        """The most requests in flight that the servers that work take now."""
        return self._balance.most_in_flight(self._clock())

    @property
    def answered(self) -> dict[str, int]:
        """How many requests each server has answered, by address."""
        return {address: self._balance.answered_by(index) for index, address in enumerate(self._addresses)}

    def answered_summary(self) -> str:
        """Return a sentence on how many requests each server has answered."""
        return f"Answers by server: {', '.join(f'{address} {count:,}' for address, count in self.answered.items())}."

    async def probe(self) -> str:
        """Check every server as a single one is checked; one that does not answer becomes a note.

        Returns:
            One sentence about each server that answers.

        Raises:
            PermanentError: an address cannot be right, or a proxy refuses.
            TransientError: no server can be reached.
        """

        async def ask(teacher: Any) -> str | TeacherError:
            try:
                return str(await teacher.probe())
            except TeacherError as error:
                return error

        found = await asyncio.gather(*map(ask, self.teachers.values()))
        failures = {address: said for address, said in zip(self._addresses, found, strict=True) if isinstance(said, TeacherError)}
        if wrong := next((error for error in failures.values() if isinstance(error, PermanentError)), None):
            raise wrong
        if len(failures) == len(found):
            raise self._of_all(next(iter(failures.values())))
        self._notes += [_left_out(address, error.message) for address, error in failures.items()]
        return " ".join(str(said) for said in found if not isinstance(said, TeacherError))

    async def close(self) -> None:
        """Release connections; a later ``generate`` opens new ones."""
        self._left.clear()
        for teacher in self.teachers.values():
            await teacher.close()

    def learned(self) -> dict[str, object]:
        """Return the findings about the first server that has any; each server's are kept by itself."""
        each: list[Any] = list(self.teachers.values())
        return next((found for teacher in each if (found := teacher.learned())), {})

    def start_with(self, learned: Mapping[str, Any]) -> None:
        """Start every server with the same findings."""
        each: list[Any] = list(self.teachers.values())
        for teacher in each:
            teacher.start_with(learned)

    @property
    def notes(self) -> list[str]:
        """Messages for the user; the caller that shows them removes them."""
        for teacher in self.teachers.values():
            own: list[str] = getattr(teacher, "notes", [])
            self._notes += own
            own.clear()
        if not self._balance.all_out:
            for index, address in enumerate(self._addresses):
                self._tell_of(index, address)
        return self._notes

    def _tell_of(self, index: int, address: str) -> None:
        """Note once that a server is left out, and once that it works again."""
        out, outs = self._balance.is_out(index), self._balance.outs(index)
        if out and outs > self._told_outs[index]:
            self._notes.append(_left_out(address, self._why.get(index, "it failed.")))
        elif not out and self._told_out[index]:
            self._notes.append(f"{address} answers again.")
        elif not out and outs > self._told_outs[index]:
            self._notes.append(f"{address} was left out for a while: {self._why.get(index, 'it failed.')}")
        self._told_out[index], self._told_outs[index] = out, outs

    # one attempt -----------------------------------------------------------------------

    async def _attempt(self, request: Request, ask: Callable[[AsyncTeacher], Awaitable[_Answer]]) -> _Answer:
        server = self._balance.choose(self._clock(), self._left.get(id(request), ()))
        ticket = self._balance.sent(server, self._clock())
        try:
            answer = await self._ask(ticket, ask)
        except TeacherError as error:
            failure = error
        except BaseException:
            # Cancelled, or a defect.
            self._balance.dropped(ticket)
            raise
        else:
            self._balance.answered(ticket, self._clock())
            self._left.pop(id(request), None)
            return answer
        # Raised outside the handler, so that it keeps no frame of another library.
        raise self._failed(request, ticket, failure)

    async def _ask(self, ticket: Ticket, ask: Callable[[AsyncTeacher], Awaitable[_Answer]]) -> _Answer:
        address = self._addresses[ticket.server]
        patience = self._balance.patience(ticket, self._clock())
        if patience is None:
            return await ask(self.teachers[address])
        try:
            async with asyncio.timeout(patience):
                return await ask(self.teachers[address])
        except TimeoutError:
            what = f"{address} sent no complete answer within {patience:.1f} s when it was tried again; it may still be billed."
        raise TransientError(what, kind="timeout", maybe_billed=True)

    def _failed(self, request: Request, ticket: Ticket, error: TeacherError) -> TeacherError:
        """Record a failure, and return what the caller has to know."""
        server, now, balance = ticket.server, self._clock(), self._balance
        fault = fault_of(error, silent=balance.silent(ticket, now), proven=balance.answered_by(server) > 0)
        if fault is None:
            balance.replied(ticket, now)
            return error
        balance.failed(ticket, now, fault)
        self._why[server] = error.message
        if isinstance(error, TransientError) and fault.wait:
            self._refusal = error
        left = self._left.setdefault(id(request), set())
        first = server not in left
        left.add(server)
        if balance.others_work(server, now) and fault.moves and (first or fault.wait or fault.lasting):
            billed = isinstance(error, TransientError) and error.maybe_billed
            return MovedError(error.message, kind=error.kind, maybe_billed=billed)
        if (wait := balance.resumes_in(now)) is not None and self._refusal is not None:
            return self._paused(error, self._refusal, wait)
        return self._of_all(error) if balance.all_out else error

    def _paused(self, error: TeacherError, refusal: TransientError, wait: float) -> TransientError:
        """Return the error that makes the caller wait until the first of the paused servers resumes."""
        billed = isinstance(error, TransientError) and error.maybe_billed
        # A lost connection stays one: as a refusal that may be billed, it would count as a timeout of this request.
        lost = isinstance(error, TransientError) and error.maybe_billed and error.cut_off
        return TransientError(
            refusal.message,
            hint=refusal.hint,
            kind=error.kind if lost else refusal.kind,
            retry_after=wait,
            maybe_billed=billed,
            why=refusal.why or refusal.message,
        )

    def _of_all(self, error: TeacherError) -> TeacherError:
        """Return a failure of the last server that worked, as that of a single server."""
        others = len(self._addresses) - 1
        named = (
            "the other server of teacher.base_url fails"
            if others == 1
            else f"the other {others} servers of teacher.base_url fail"
        )
        what = f"{error.message.removesuffix('.')}; {named}, too."
        if isinstance(error, PermanentError):
            if not error.final or self._balance.lasting:
                return PermanentError(
                    what, hint=error.hint, kind=error.kind, final=error.final, unless_answered=error.unless_answered
                )
            # Another one may only be down for a moment.
            return TransientError(what, hint=error.hint, kind=error.kind)
        if isinstance(error, TransientError):
            return TransientError(what, hint=error.hint, kind=error.kind, maybe_billed=error.maybe_billed, why=error.why)
        return error


def _left_out(address: str, why: str) -> str:
    return f"{address} is left out and tried again later: {why}"
