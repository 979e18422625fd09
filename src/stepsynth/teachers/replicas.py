"""A teacher made of several engines on a Ray cluster (``teacher.replicas``).

    teacher = ReplicasTeacher(config)
    response = await teacher.generate(request)

One ``generate`` is one attempt at one engine, chosen by `Fleet`: the caller keeps attempts, caps and the journal, as for a
server. A thread of this object alone changes the fleet; everything that happens reaches it as an event. If an engine is lost,
each of its requests fails: the first time as a `MovedError`, since nothing says that the request is to blame, later as a lost
connection, which counts as an attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import threading
import time
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any

from stepsynth.config.replicas import IN_FLIGHT
from stepsynth.errors import MovedError, PermanentError, TransientError
from stepsynth.runtime.shutdown import check_stop, stop_requested
from stepsynth.teachers.replica_cluster import RayEngines, short
from stepsynth.teachers.replica_fleet import Ask, Fail, Fleet, Start, Stop
from stepsynth.teachers.replica_worker import read_answer, read_error, write_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import StepsynthError
    from stepsynth.teachers import AsyncTeacher, EngineTeacher
    from stepsynth.teachers.replica_cluster import Engines
    from stepsynth.types import Request, Response

__all__ = ["ReplicasTeacher", "one_by_one"]

_TICK_S = 0.25
# How often a request that waits for an engine looks whether a stop was asked for.
_LOOK_S = 0.5
_SAY_AFTER_S = 10.0
_HINT = "Everything so far is kept; the same command goes on."


class _LostError(Exception):
    """A request ended with its engine (``asked``), or before one had it."""

    def __init__(self, why: str, *, asked: bool) -> None:
        super().__init__(why)
        self.why, self.asked = why, asked


class ReplicasTeacher:
    """Engines on a cluster; an `AsyncTeacher`.

    Args:
        config: ``replicas``, ``cluster`` and ``resources``; ``concurrency`` is the most sequences in one batch of an engine,
            ``timeout_s`` how long an engine may answer nothing, ``longest_pause_s`` how long one may load, and how long to wait
            while none is there.
        opens: connects to the cluster; a test replaces it.
        clock: seconds.
    """

    def __init__(
        self,
        config: TeacherConfig,
        *,
        opens: Callable[[TeacherConfig, Callable[[str], object]], Engines] = RayEngines,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._opens, self._clock = config, opens, clock
        self._identity = config.identity()
        self._engines: Engines | None = None
        self._numbers = itertools.count()
        # Never the same again, so that late news of an engine that was ended is known as such.
        self._lives = itertools.count(1)
        # How often a request has lost its engine, by its place in memory: the caller keeps it until the teacher is closed.
        self._losses: dict[int, int] = {}
        self._notes: list[str] = []
        self._counts = [0] * config.replicas
        self._thread: threading.Thread | None = None
        self._begin()

    def _begin(self) -> None:
        """Forget all engines."""
        config = self._config
        self._fleet = Fleet(
            config.replicas,
            IN_FLIGHT * config.concurrency,
            patience_s=config.timeout_s,
            load_s=config.longest_pause_s,
            lives=self._lives,
        )
        self._events: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._asked: dict[int, tuple[dict[str, Any], int, Future[Response]]] = {}
        self._error: BaseException | None = None

    # what the caller uses --------------------------------------------------------------

    def start(self, note: Callable[[str], object]) -> None:
        """Start the engines, unless they run, and wait for the first one.

        Args:
            note: called with a sentence about the cluster, and about a long wait.

        Raises:
            Interrupted: a stop was asked for.
            UserError: there is no cluster, or no engine can be used.
        """
        self._run(note)
        began, said = self._clock(), False
        while not (self._fleet.ready_engines or self._error or self._fleet.ended):
            check_stop()
            if not said and self._clock() - began > _SAY_AFTER_S:
                said = True
                note("Waiting for an engine: it needs a place in the cluster, and has to load its model.")
            time.sleep(_TICK_S / 5)
        if self._error is not None:
            raise self._error

    async def generate(self, request: Request) -> Response:
        """Answer one request with one attempt at one engine.

        Raises:
            MovedError: the engine was lost; the next attempt goes to another one, or to its successor.
            TransientError: engines were lost again and again with this request, or a stop was asked for while it waited.
            PermanentError: no engine is left.
        """
        self._run(self._notes.append)
        number, answer = next(self._numbers), Future[Any]()
        # The sampling seed comes from the key, so that an answer depends on nothing else.
        seed = int(request.key(self._identity)[:7], 16)
        values = write_request(request)
        self._events.put(lambda: self._take(number, values, seed, answer))
        waiting = asyncio.wrap_future(answer)
        try:
            while not (await asyncio.wait([waiting], timeout=_LOOK_S))[0]:
                if stop_requested():
                    self._events.put(lambda: self._withdraw(number))
                if self._thread is None or not self._thread.is_alive():
                    _settle(answer, _LostError("the engines were ended.", asked=False))
        except asyncio.CancelledError:
            waiting.cancel()
            raise
        lost = waiting.exception()
        if not isinstance(lost, _LostError):
            self._losses.pop(id(request), None)
            response: Response = waiting.result()
            return response
        raise self._failure(request, lost)

    async def close(self) -> None:
        """Forget what failed; the engines stay until `rest`."""
        self._losses.clear()

    def rest(self) -> None:
        """End the engines; the next request starts them again."""
        self._end()
        if self._engines is not None:
            self._engines.stop_all()

    def release(self) -> None:
        """End the engines and leave the cluster; the next request joins it again."""
        self._end()
        engines, self._engines = self._engines, None
        if engines is not None:
            engines.close()

    @property
    def most_in_flight(self) -> int:
        """The most requests in flight that the engines take now."""
        return self._fleet.most_in_flight

    @property
    def answered(self) -> list[int]:
        """How many requests each engine has answered."""
        return [before + now for before, now in zip(self._counts, self._fleet.answers, strict=True)]

    def answered_summary(self) -> str:
        """Return a sentence on how many requests each engine has answered."""
        return f"Answers by engine: {', '.join(f'{count:,}' for count in self.answered)}."

    @property
    def notes(self) -> list[str]:
        """Messages for the user; the caller that shows them removes them."""
        while self._fleet.notes:
            self._notes.append(self._fleet.notes.pop(0))
        return self._notes

    def _failure(self, request: Request, lost: _LostError) -> BaseException:
        """Return what the caller has to know of a request that lost its engine."""
        if self._error is not None:
            return self._error
        if self._fleet.ended:
            return PermanentError(self._fleet.ended, hint=_HINT, kind="connection", final=True)
        if not lost.asked:
            return TransientError(lost.why, kind="connection")
        losses = self._losses[id(request)] = self._losses.get(id(request), 0) + 1
        if losses == 1:
            return MovedError(lost.why, kind="connection", hint="Ask again; another engine answers.")
        return TransientError(lost.why, hint="If it persists, look at the memory of the nodes.", kind="connection")

    # the thread ------------------------------------------------------------------------

    def _run(self, note: Callable[[str], object]) -> None:
        if self._thread is None:
            self._engines = self._engines or self._opens(self._config, note)
            self._thread = threading.Thread(target=self._manage, args=(self._engines,), name="engines", daemon=True)
            self._thread.start()

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._events.put(None)
            thread.join()
            self._notes = self.notes
            self._counts = self.answered
            self._begin()

    def _manage(self, engines: Engines) -> None:
        """Take events until the end."""
        try:
            self._fleet.begin(self._clock())
            ticked = self._clock()
            while True:
                self._act(engines)
                with contextlib.suppress(queue.Empty):
                    event = self._events.get(timeout=_TICK_S)
                    if event is None:
                        return
                    event()
                if self._clock() - ticked >= _TICK_S:
                    ticked = self._clock()
                    self._fleet.tick(ticked)
        except Exception as error:  # a defect; nobody may wait for ever
            self._error = error
        finally:
            for _, _, answer in self._asked.values():
                _settle(answer, _LostError("the engines were ended.", asked=False))

    def _act(self, engines: Engines) -> None:
        """Carry out all actions due now."""
        while (action := self._fleet.next()) is not None:
            match action:
                case Start(engine, life):
                    engines.start(engine, life, self)
                case Stop(_, life):
                    engines.stop(life)
                case Ask(engine, life, number):
                    self._send(engines, engine, life, number)
                case Fail(number, why, asked):
                    _settle(self._asked.pop(number)[2], _LostError(why, asked=asked))

    def _send(self, engines: Engines, engine: int, life: int, number: int) -> None:
        request, seed, _ = self._asked[number]
        try:
            coming = engines.ask(life, request, seed)
        except Exception as error:  # Ray's own
            self._fleet.lost(engine, life, f"was lost ({short(error)})", self._clock())
            return
        events = self._events
        coming.add_done_callback(lambda done: events.put(lambda: self._came(engine, life, number, done)))

    # events, in the thread -------------------------------------------------------------

    def _take(self, number: int, values: dict[str, Any], seed: int, answer: Future[Response]) -> None:
        self._asked[number] = values, seed, answer
        self._fleet.asked(number, self._clock())

    def _withdraw(self, number: int) -> None:
        if self._fleet.withdrawn(number):
            _settle(self._asked.pop(number)[2], _LostError("a stop was asked for.", asked=False))

    def _came(self, engine: int, life: int, number: int, done: Future[Any]) -> None:
        """Take an answer, or find out that the engine is lost."""
        fleet, now = self._fleet, self._clock()
        if not fleet.holds(engine, life, number):
            return
        if (error := done.exception()) is not None:
            fleet.lost(engine, life, f"was lost ({short(error)})", now)
            return
        said = done.result()
        if isinstance(said, dict) and "broken" in said:
            fleet.lost(engine, life, f"failed ({said['broken']})", now)
        elif isinstance(said, dict) and "error" in said:
            fleet.dropped(engine, life, number, now)
            _settle(self._asked.pop(number)[2], read_error(said))
        elif (response := read_answer(said)) is None:
            fleet.lost(engine, life, "returned something that is no answer", now)
        else:
            fleet.answered(engine, life, number, now)
            answer = self._asked.pop(number)[2]
            with contextlib.suppress(InvalidStateError):
                answer.set_result(response)

    # events of engines that are started, from threads of theirs --------------------------

    def placed(self, engine: int, life: int, host: str) -> None:
        """See `Heard`."""
        self._events.put(lambda: self._fleet.placed(engine, life, host, self._clock()))

    def ready(self, engine: int, life: int) -> None:
        """See `Heard`."""
        self._events.put(lambda: self._fleet.ready(engine, life, self._clock()))

    def lost(self, engine: int, life: int, why: str) -> None:
        """See `Heard`."""
        self._events.put(lambda: self._fleet.lost(engine, life, why, self._clock()))

    def refused(self, engine: int, life: int, error: StepsynthError) -> None:
        """See `Heard`; the first engine's refusal ends everything, a later one's only that engine."""

        def take() -> None:
            if self._fleet.ever_ready:
                self._fleet.lost(engine, life, f"cannot be used: {error.message.removesuffix('.')}", self._clock())
            else:
                self._error = self._error or error
                self._fleet.end(error.message)

        self._events.put(take)


@contextlib.contextmanager
def one_by_one(teacher: AsyncTeacher | EngineTeacher, config: TeacherConfig) -> Iterator[Callable[[Request], Response]]:
    """Yield a function that answers a request outside any run; engines on a cluster end with the block."""
    from stepsynth.teachers import EngineTeacher, StartedTeacher, answer_of

    if isinstance(teacher, EngineTeacher):
        identity = config.identity()
        yield lambda request: dict(teacher.generate_batch([request], [int(request.key(identity)[:7], 16)]))[0]
        return
    try:
        yield lambda request: asyncio.run(answer_of(teacher, request))
    finally:
        if isinstance(teacher, StartedTeacher):
            teacher.release()


def _settle(answer: Future[Any], error: BaseException) -> None:
    """End a request without an answer, unless nobody waits for it any longer."""
    with contextlib.suppress(InvalidStateError):
        answer.set_exception(error)
