"""The provider: answers, faults, bills and batches. It outlives every process that asks it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepsynth.errors import PermanentError, RetryModifiedError, TransientError
from stepsynth.teachers.prices import price_of
from stepsynth.teachers.replies import Reply, refusal_error
from stepsynth.types import Response, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from stepsynth.errors import TeacherError
    from stepsynth.teachers import BatchJob
    from stepsynth.types import Request

    from .world import World

__all__ = ["LIVE_FAULTS", "OUTAGES", "BatchTeacher", "GroupTeacher", "HeldJob", "LiveTeacher", "Server"]

_URL = "http://sim.invalid/v1"
_TIMEOUT_S = 8.0
# Below what a request that tries a server again is given.
_SLOWEST_S = 4.5
# A server that reports no tokens takes some all the same.
_UNTOLD = Usage(19, 24)
# Fault -> whether it costs an attempt, and whether the request is billed although no answer comes.
LIVE_FAULTS: dict[str, tuple[bool, bool]] = {
    "429": (True, False),
    "429 with a wait": (False, False),
    "500": (True, False),
    "503": (True, False),
    "503 with a wait": (False, False),
    "connection refused": (True, False),
    "reset": (True, True),
    "half a body": (True, True),
    "hang": (True, True),
    "another form": (False, False),
    "slow": (False, False),
    "defect": (False, False),
}
# What requests meet at a server that has left, while another one is there.
OUTAGES = ("connection refused", "500", "hang", "wrong key")
_RARE = frozenset({"defect"})
_MOST_FORMS = 2


@dataclass
class HeldJob:
    """A batch as the provider holds it.

    Attributes:
        id: the provider's.
        name: ours.
        keys: of its requests.
        listed_at: when it can be found by name.
        ends_at: when its results are there.
        outcomes: answer or error by key; requests that expired have none.
        failed: whether it was refused after it was accepted; none of its requests ran.
        gone: whether the provider has lost it.
    """

    id: str
    name: str
    keys: tuple[str, ...]
    listed_at: float
    ends_at: float
    outcomes: dict[str, Response | TeacherError] = field(default_factory=dict)
    failed: bool = False
    gone: bool = False

    @property
    def running(self) -> int:
        """How many of its requests ran."""
        return 0 if self.failed or self.gone else len(self.outcomes)


class Server:
    """What the provider knows, and what it charges.

    Args:
        world: draws the faults.

    Attributes:
        received: requests that reached it, over all processes.
        tokens: billed, over all processes.
        usd: the same in dollars.
        in_flight: keys of live requests.
        calls: how many sends these are.
        hold_until: until when each of its addresses asked this process to wait.
        jobs: batches by id.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.received = 0
        self.tokens = 0
        self.usd = 0.0
        self.in_flight: set[str] = set()
        self.calls = 0
        self.hold_until: Counter[int] = Counter()
        self.jobs: dict[str, HeldJob] = {}
        self._charged: Counter[str] = Counter()
        self._timeouts: Counter[str] = Counter()
        self._forms: Counter[str] = Counter()

    def new_process(self) -> None:
        """Forget what belongs to one process: its connections, and the attempts that it may count on."""
        self.in_flight.clear()
        self.calls = 0
        for counts in (self.hold_until, self._charged, self._timeouts, self._forms):
            counts.clear()

    def owes(self, key: str) -> bool:
        """Whether a batch has or will have an answer to a request."""
        return any(
            not (job.failed or job.gone)
            and isinstance(job.outcomes.get(key), Response)
            and key not in self._world.checks.committed
            for job in self.jobs.values()
        )

    def bill(self, responses: Sequence[Response]) -> None:
        """Charge for answers, whether or not they arrive."""
        price = price_of(self._world.life.config)
        for response in responses:
            usage = response.usage if response.usage.completion_tokens else _UNTOLD
            self.tokens += usage.prompt_tokens + usage.completion_tokens
            self.usd += (price.cost(usage) or 0.0) if price is not None else 0.0

    # live requests ---------------------------------------------------------------------

    def draw_fault(self, keys: Sequence[str], address: int) -> str:
        """Draw what happens to a request; never more than its attempts allow, so that every row can be had."""
        life, draw = self._world.life, self._world.draw
        fault = life.outage(address, self._world.now)
        if not fault:
            if draw.random() >= life.fault_rate:
                return ""
            fault = draw.choice(life.faults)
        if fault in _RARE and draw.random() < 0.95:
            return ""
        if fault == "wrong key" or LIVE_FAULTS[fault][0]:
            if any(self._charged[key] >= life.attempts - 1 for key in keys) or (
                fault == "hang" and any(self._timeouts[key] for key in keys)
            ):
                return ""
            self._charged.update(keys)
            if fault == "hang":
                self._timeouts.update(keys)
        if fault == "another form":
            if any(self._forms[key] >= _MOST_FORMS for key in keys):
                return ""
            self._forms.update(keys)
        return fault

    def failure(self, fault: str, address: int = 0) -> Exception:
        """Return the error that a teacher of ours raises for a fault."""
        config = self._world.life.config
        match fault.removesuffix(" with a wait"):
            case "429" | "500" | "503" as status:
                headers = {}
                if fault.endswith("wait"):
                    seconds = self._world.draw.choice((1, 2, 4, 7, 7200 if self._world.draw.random() < 0.05 else 1))
                    headers["retry-after"] = str(seconds)
                    self.hold_until[address] = max(self.hold_until[address], self._world.now + seconds)  # type: ignore[assignment]
                return refusal_error(Reply(int(status), '{"error": {"message": "not now"}}', headers), config, _URL)
            case "connection refused":
                return TransientError("cannot connect.", kind="connection")
            case "reset":
                return TransientError("dropped the connection.", kind="connection", maybe_billed=True)
            case "half a body":
                return TransientError("broke off in the middle of an answer.", kind="damaged", maybe_billed=True)
            case "hang":
                return TransientError("sent no complete answer.", kind="timeout", maybe_billed=True)
            case "another form":
                return RetryModifiedError("the form was refused.")
            case "wrong key":
                return refusal_error(Reply(401, '{"error": {"message": "no such key"}}'), config, _URL)
            case "refused":
                return refusal_error(Reply(400, '{"error": {"message": "no"}}'), config, _URL)
            case _:
                return ZeroDivisionError("a defect of the teacher")


class LiveTeacher:
    """A teacher behind a network, in simulated time.

    Args:
        world: draws and watches.
        address: which of several servers it asks.
    """

    def __init__(self, world: World, address: int = 0) -> None:
        self._world = world
        self._address = address

    async def generate(self, request: Request) -> Response:
        return (await self._exchange([request]))[0]

    async def _exchange(self, requests: Sequence[Request]) -> list[Response]:
        world, server = self._world, self._world.server
        world.step("sends")
        world.life.asked_live = True
        keys = [request.key(world.life.identity) for request in requests]
        refused = any(world.shape.refused(key) for key in keys)
        fault = "refused" if refused else server.draw_fault(keys, self._address)
        answers = [world.shape.answer(key) for key in keys]
        if len(answers) > 1 and not fault and world.draw.random() < 0.2:
            fault = world.draw.choice(("short list", "long list"))
            answers = answers[: world.draw.randint(1, len(answers))] if fault == "short list" else answers + answers[:1]
        server.received += 1
        came = not fault or fault in ("short list", "long list", "slow")
        if came or (fault in LIVE_FAULTS and LIVE_FAULTS[fault][1]):
            server.bill(answers)
        at = f" to server {self._address}" if world.life.addresses > 1 else ""
        world.log(f"send {' '.join(key[:8] for key in keys)}{at}{': ' if fault else ''}{fault}")
        if fault:
            world.faults[fault] += 1
        world.checks.sends(keys, address=self._address)
        server.in_flight.update(keys)
        server.calls += 1
        try:
            await world.sleep(_TIMEOUT_S if fault == "hang" else min(_SLOWEST_S, world.latency() * (8 if fault == "slow" else 1)))
        finally:
            if not world.dead:
                server.in_flight.difference_update(keys)
                server.calls -= 1
        world.step("answers")
        if not came:
            world.log(f"fails {keys[0][:8]}: {fault}")
            raise server.failure(fault, self._address)
        for key in keys[: len(answers)]:
            world.log(f"answer {key[:8]}")
            world.checks.came(key)
        return answers

    async def close(self) -> None:
        self._world.step("closes")


class GroupTeacher(LiveTeacher):
    """The same, with several answers to one prompt."""

    @property
    def rows_limit(self) -> int:
        return self._world.life.config.rows_per_request

    async def generate_many(self, requests: Sequence[Request]) -> list[Response]:
        return await self._exchange(requests)


class BatchTeacher:
    """A provider's batch API, in simulated time.

    Args:
        world: draws and watches.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    async def submit(self, name: str, requests: Sequence[tuple[str, Request]]) -> BatchJob:
        from stepsynth.teachers import BatchJob

        world = self._world
        world.step("submits")
        fault = world.batch_fault(
            "submit: 429", "submit: refused connection", "submit: answer lost", "submit: 503", "never arrives"
        )
        await world.sleep(world.latency())
        if fault in ("submit: 429", "submit: refused connection"):
            raise world.server.failure("429" if fault == "submit: 429" else "connection refused")
        arrives = not (fault == "never arrives" or (fault == "submit: 503" and world.draw.random() < 0.5))
        job = world.accept(name, [key for key, _ in requests]) if arrives else None
        world.log(f"submit {name} of {len(requests)}{': ' if fault else ''}{fault}")
        await world.sleep(world.latency())
        world.step("submitted")
        if job is None or fault:
            error = world.server.failure("503" if fault == "submit: 503" else "reset")
            assert isinstance(error, TransientError)
            error.maybe_billed = True
            raise error
        return BatchJob(job.id, "running", 0, len(job.keys))

    async def find(self, name: str) -> BatchJob | None:
        from stepsynth.teachers import BatchJob

        world = self._world
        world.step("looks for a batch")
        await self._trouble()
        for job in world.server.jobs.values():
            if job.name == name and not job.gone and world.now >= job.listed_at:
                world.log(f"found {name}")
                vague = world.nameless and world.now < job.ends_at
                return BatchJob("" if vague else job.id, "running", 0, len(job.keys))
        world.log(f"not found {name}")
        return None

    async def poll(self, job_id: str) -> BatchJob:
        from stepsynth.teachers import BatchJob

        world = self._world
        world.step("polls")
        await self._trouble()
        job = world.server.jobs[job_id]
        if job.gone:
            raise PermanentError(f"{job_id}: not found.", kind="refused")
        if world.now < job.ends_at:
            return BatchJob(job_id, "running", 0, len(job.keys))
        if job.failed:
            return BatchJob(job_id, "failed", message="the queue is full")
        return BatchJob(job_id, "ended", len(job.outcomes), len(job.keys))

    async def answers(self, job_id: str) -> AsyncIterator[tuple[str, Response | TeacherError]]:
        world = self._world
        world.step("fetches")
        await self._trouble()
        job = world.server.jobs[job_id]
        order = list(job.outcomes)
        world.draw.shuffle(order)
        if world.batch_fault("results twice"):
            order += order[: world.draw.randint(1, len(order))] if order else []
        cut = world.draw.randrange(len(order) + 1) if order and world.batch_fault("results break off") else -1
        for place, key in enumerate(order):
            if place == cut:
                raise world.server.failure("half a body")
            if world.draw.random() < 0.2:
                await world.sleep(world.latency())
            world.step("result")
            outcome = job.outcomes[key]
            if isinstance(outcome, Response):
                world.log(f"result {key[:8]}")
            yield key[:40] if world.nameless else key, outcome

    async def cancel(self, job_id: str) -> None:
        """Nothing in a run cancels."""

    async def close(self) -> None:
        self._world.step("closes")

    async def _trouble(self) -> None:
        """Take a while, and fail at times."""
        world = self._world
        fault = world.batch_fault("poll: 503", "poll: reset")
        await world.sleep(world.latency())
        world.step("hears")
        if fault:
            raise world.server.failure("503" if fault == "poll: 503" else "connection refused")
