"""The scheduler alone: drawn servers, caps, pauses and stops in a time that is only a number."""

from __future__ import annotations

import ast
import heapq
import inspect
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepsynth.config import BudgetConfig, TeacherConfig
from stepsynth.errors import PermanentError, RetryModifiedError, RunError, TeacherError, TransientError
from stepsynth.generation import scheduler as module
from stepsynth.generation.actions import Call, Commit, GiveUp, Send, Wait
from stepsynth.generation.budget import BudgetGuard
from stepsynth.generation.outcomes import Outcomes
from stepsynth.generation.pace import Pace
from stepsynth.generation.pausing import Pauses
from stepsynth.generation.scheduler import Scheduler, TeacherState
from stepsynth.journal import Cost, Ledger
from stepsynth.teachers import MOST_FORMS
from stepsynth.teachers.adaptive_concurrency import AdaptiveConcurrency
from stepsynth.teachers.prices import Price
from stepsynth.types import Message, Request, Response, Sampling, Usage

PROMPT = "Write."
# What one request may take at most, as the budget guard counts.
WORST = len(PROMPT) + 8 + 16 + 64
PRICE = Price(1e6, 1e6)
MOST_EVENTS = 20_000


def items(number: int, first: int = 0) -> list[tuple[str, Request]]:
    """Keys and requests that differ in their replicate only."""
    numbers = range(first, first + number)
    return [(f"{n}", Request((Message("user", PROMPT),), Sampling(), n, "round-0/seed", n, "kalm")) for n in numbers]


def answer(tokens: int = 9) -> Response:
    return Response("Text.", usage=Usage(3, tokens - 3))


# Failure -> its error; what is no fault of the request costs it no attempt.
FAILURES: dict[str, Callable[[], TeacherError]] = {
    "full": lambda: TransientError("full", kind="overload"),
    "limit": lambda: TransientError("full", kind="overload", retry_after=7.0),
    "down": lambda: TransientError("down", kind="unavailable"),
    "back soon": lambda: TransientError("down", kind="unavailable", retry_after=3.0),
    "odd wait": lambda: TransientError("odd", kind="other", retry_after=2.0),
    "time-out": lambda: TransientError("no answer", kind="timeout", maybe_billed=True),
    "cut off": lambda: TransientError("gone", kind="connection", maybe_billed=True),
    "form": lambda: RetryModifiedError("another form"),
    "refused": lambda: PermanentError("no", kind="refused"),
}
NO_FAULT = ("limit", "back soon", "form")


@dataclass
class Case:
    """What is drawn."""

    requests: int = 20
    rows: int = 1
    concurrency: int = 4
    attempts: int = 3
    per_minute: int | None = None
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    failures: tuple[str, ...] = ()
    share: float = 0.0
    # The commit of this number fails.
    bad_commit: int = 0
    stop_at: float | None = None
    paused_for: float = 0.0
    seed: int = 0


CASES = st.builds(
    Case,
    requests=st.integers(1, 40),
    rows=st.sampled_from([1, 1, 3]),
    concurrency=st.integers(1, 12),
    attempts=st.integers(1, 4),
    per_minute=st.sampled_from([None, None, 3, 30]),
    budget=st.one_of(
        st.just(BudgetConfig()),
        st.builds(BudgetConfig, requests=st.integers(1, 60)),
        st.builds(BudgetConfig, tokens=st.integers(1, 20 * WORST)),
        st.builds(BudgetConfig, usd=st.floats(0.1, 20.0 * WORST)),
    ),
    failures=st.lists(st.sampled_from(sorted(FAILURES)), max_size=4).map(tuple),
    share=st.sampled_from([0.05, 0.3, 0.7, 1.0]),
    bad_commit=st.sampled_from([0, 0, 0, 0, 3]),
    stop_at=st.one_of(st.none(), st.none(), st.floats(0.0, 20.0)),
    paused_for=st.sampled_from([0.0, 0.0, 5.0]),
    seed=st.integers(0, 9999),
)


class World:
    """Drives a scheduler as its dispatcher does, and checks every action before it carries it out."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.random = random.Random(case.seed)
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        config = TeacherConfig(
            backend="openai", base_url="http://127.0.0.1:9/v1", concurrency=case.concurrency, attempts=case.attempts
        )
        self.limiter, self.pauses = AdaptiveConcurrency(case.concurrency), Pauses(config, None, wall=lambda: self.now)
        self.pauses.hold(case.paused_for)
        pace, self.outcomes = Pace(case.per_minute), Outcomes(answered_before=False)
        self.state = TeacherState(self.limiter, pace, self.pauses, self.outcomes, Counter())
        self.ledger = Ledger()
        self.durable = self.ledger.copy()
        self.budget = BudgetGuard(config, self.ledger, case.budget, PRICE)
        everything = items(case.requests)
        groups = [everything[start : start + case.rows] for start in range(0, case.requests, case.rows)]
        self.scheduler = Scheduler(
            groups,
            attempts=case.attempts,
            concurrency=case.concurrency,
            state=self.state,
            budget=self.budget,
            jitter=self.random,
        )
        self.keys = {key for key, _ in everything}
        self.ends: Counter[str] = Counter()
        self.given_up: dict[str, TeacherError] = {}
        self.sent_at: list[float] = []
        # Per key: sends that count as an attempt of it, and time-outs that may be billed.
        self.charged: Counter[str] = Counter()
        self.timeouts: Counter[str] = Counter()
        self.backing_off = self.holds = self.commits = 0
        self.writing = self.stopped = False
        self.tokens = 0
        self.out: set[Call] = set()

    # time ------------------------------------------------------------------------------

    def later(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.order), then))

    def run(self) -> World:
        if self.case.stop_at is not None:
            self.later(self.case.stop_at, self.stop)
        self.scheduler.begin(self.now)
        self.go_on()
        for _ in range(MOST_EVENTS):
            if not self.events or self.scheduler.ended:
                break
            self.now, _, then = heapq.heappop(self.events)
            then()
            self.go_on()
        assert self.scheduler.ended, "nothing will happen any more, and it has not ended"
        self.check_the_end()
        return self

    def go_on(self) -> None:
        for _ in range(MOST_EVENTS):
            action = self.scheduler.next(self.now)
            match action:
                case None:
                    return
                case Send(call):
                    self.send(call)
                case Wait():
                    self.wait(action)
                case Commit(least):
                    self.commit(least)
                case GiveUp(keys, error):
                    self.ends.update(keys)
                    self.given_up.update(dict.fromkeys(keys, error))
        raise AssertionError("it never runs out of things to do")

    # actions ---------------------------------------------------------------------------

    def send(self, call: Call) -> None:
        self.sent_at.append(self.now)
        assert not self.stopped, "sent after the stop"
        assert self.scheduler.error is None, "sent after an error"
        assert not self.holds, "sent in a pause"
        assert self.limiter.in_flight <= self.limiter.limit <= self.case.concurrency
        assert len(self.sent_at) <= self.durable.attempts + self.durable.open.sends, "sent without a durable reservation"
        assert self.tokens + call.cost.tokens <= self.durable.spent.tokens + self.durable.open.tokens
        if call.attempts == 1:
            assert self.limiter.in_flight + self.backing_off <= self.case.concurrency + self.case.concurrency // 2
        for key, _ in call.items:
            assert not self.ends[key], "sent although it has ended"
            self.charged[key] += 1
            assert self.charged[key] <= self.case.attempts, "one attempt too many"
            assert self.timeouts[key] <= 1, "sent again after two time-outs"
        self.out.add(call)
        self.check_caps()
        self.later(self.random.uniform(0.1, 3.0), lambda: self.end(call))

    def end(self, call: Call) -> None:
        self.out.remove(call)
        failure = self.random.choice(self.case.failures) if self.case.failures else ""
        if failure and self.random.random() < self.case.share:
            self.fail(call, failure)
            return
        given = self.random.randint(1, len(call.items))
        responses = [answer(self.random.randint(4, WORST)) for _ in range(given)]
        self.scheduler.answered(call, responses, 1.0)
        for (key, _), response in zip(call.items, responses, strict=False):
            self.ledger.count_answer(response.usage)
            self.tokens += response.usage.prompt_tokens + response.usage.completion_tokens
            self.ends[key] += 1
        for key, _ in call.items[given:]:
            # The rest of a short list begins anew.
            self.charged[key] = self.timeouts[key] = 0

    def fail(self, call: Call, failure: str) -> None:
        error = FAILURES[failure]()
        no_fault = failure in NO_FAULT and (failure != "form" or call.forms < MOST_FORMS)
        for key, _ in call.items:
            self.charged[key] -= no_fault
            self.timeouts[key] += failure == "time-out"
        self.scheduler.failed(call, error, self.now)

    def wait(self, wait: Wait) -> None:
        assert wait.seconds >= 0
        self.backing_off += wait.call is not None
        self.holds += wait.call is None and not wait.turn

        def over() -> None:
            self.backing_off -= wait.call is not None
            self.holds -= wait.call is None and not wait.turn
            self.scheduler.waited(wait)

        self.later(wait.seconds, over)

    def commit(self, least: Cost | None) -> None:
        assert not self.writing, "a second commit beside the first one"
        self.writing = True
        self.later(0.0, lambda: self.write(least))

    def write(self, least: Cost | None) -> None:
        self.budget.reserve(self.scheduler.upcoming, least)
        group = self.ledger.copy()
        self.commits += 1
        bad = self.commits == self.case.bad_commit

        def written() -> None:
            self.writing = False
            if bad:
                self.budget.forget()
                self.scheduler.broke(RunError("the disk is full."))
            else:
                self.durable = group
                self.budget.confirm()
            self.scheduler.committed()

        self.later(self.random.uniform(0.0, 0.5), written)

    def stop(self) -> None:
        self.stopped = True
        self.scheduler.stop()

    # what must hold --------------------------------------------------------------------

    def check_caps(self) -> None:
        caps, spent, out = self.case.budget, self.ledger.spent, sum((call.cost for call in self.out), Cost())
        assert caps.requests is None or len(self.sent_at) <= caps.requests
        assert caps.tokens is None or spent.tokens + out.tokens <= caps.tokens
        assert caps.usd is None or spent.usd + out.usd <= caps.usd * (1 + 1e-9)

    def check_the_end(self) -> None:
        scheduler = self.scheduler
        assert self.limiter.in_flight == self.budget.in_flight == 0
        assert self.ledger.sent == len(self.sent_at)
        assert sum(self.ledger.failures.values()) + self.ledger.answers >= len(self.sent_at)
        assert set(self.ends) <= self.keys
        assert all(ends <= 1 for ends in self.ends.values()), "ended twice"
        if not (scheduler.ending or scheduler.capped):
            assert {key for key, ends in self.ends.items() if ends} == self.keys, "some requests never ended"
        if scheduler.capped:
            assert self.case.budget != BudgetConfig()
        if self.stopped and scheduler.error is None:
            assert scheduler.conclusion() is None
        self.check_pace()

    def check_pace(self) -> None:
        if self.case.per_minute is not None:
            for start in self.sent_at:
                assert sum(start <= at < start + 60 for at in self.sent_at) <= self.case.per_minute


@settings(max_examples=250, deadline=None)
@given(CASES)
def test_whatever_happens_caps_pauses_attempts_and_stops_are_kept_and_it_ends(case: Case) -> None:
    World(case).run()


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_the_same_events_give_the_same_actions(case: Case) -> None:
    """There is nothing in it but its events: no clock, no chance of its own."""
    first, second = World(case).run(), World(case).run()
    assert (first.sent_at, first.ends, first.state.retries) == (second.sent_at, second.ends, second.state.retries)


@settings(max_examples=40, deadline=None)
@given(requests=st.integers(1, 200), concurrency=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_sound_server_is_used_to_its_full_width(requests: int, concurrency: int, seed: int) -> None:
    world = World(Case(requests=requests, concurrency=concurrency, seed=seed))
    widest = []
    send = world.send

    def watched(call: Call) -> None:
        widest.append(world.limiter.in_flight)
        send(call)

    world.send = watched  # type: ignore[method-assign]
    world.run()
    assert max(widest) == min(requests, concurrency)
    assert len(world.sent_at) == requests


@settings(max_examples=60, deadline=None)
@given(attempts=st.integers(1, 6), concurrency=st.integers(1, 12), kind=st.sampled_from(["full", "down", "cut off"]))
def test_a_server_that_never_answers_sees_exactly_the_attempts_of_few_requests(
    attempts: int, concurrency: int, kind: str
) -> None:
    world = World(Case(requests=200, concurrency=concurrency, attempts=attempts, failures=(kind,), share=1.0)).run()
    assert world.scheduler.error is not None
    assert set(Counter(world.charged.values())) <= set(range(attempts + 1))
    assert all(world.charged[key] == attempts for key in world.given_up)
    assert len(world.charged) <= 10 + concurrency + concurrency // 2


# one thing at a time -------------------------------------------------------------------------------


def actions(world: World) -> tuple[list[Call], list[Wait]]:
    """Return what is sent now and what is waited for; commits are carried out on the spot."""
    calls, waits = [], []
    while (action := world.scheduler.next(world.now)) is not None:
        if isinstance(action, Send):
            calls.append(action.call)
        elif isinstance(action, Wait):
            waits.append(action)
        elif isinstance(action, Commit):
            world.budget.reserve(world.scheduler.upcoming, action.least)
            world.budget.confirm()
            world.scheduler.committed()
    return calls, waits


def test_nothing_is_sent_before_it_is_reserved() -> None:
    world = World(Case(requests=3))
    assert isinstance(world.scheduler.next(0.0), Commit)
    assert world.scheduler.next(0.0) is None, "one commit at a time"
    assert world.limiter.in_flight == 0
    world.scheduler.committed()
    assert isinstance(world.scheduler.next(0.0), Commit), "it came to nothing"


def test_after_a_pause_one_request_goes_first() -> None:
    world = World(Case(requests=20, concurrency=4))
    (first, *others), _ = actions(world)
    assert len(others) == 3
    world.scheduler.failed(first, TransientError("full", kind="overload", retry_after=5.0), 0.0)
    none, (wait,) = actions(world)
    assert none == []
    assert 5.0 <= wait.seconds <= 6.25
    for call in others:
        world.scheduler.answered(call, [answer()], 1.0)
    assert actions(world) == ([], [])
    assert world.pauses.resume_at == wait.seconds
    world.scheduler.waited(wait)
    assert actions(world) == ([first], []), "and it has lost no attempt"
    assert first.attempts == 1
    assert world.pauses.resume_at == 0


def test_requests_per_minute_let_one_through_at_its_turn() -> None:
    world = World(Case(requests=5, concurrency=4, per_minute=6))
    first, (wait,) = actions(world)
    assert len(first) == 1
    assert wait.turn
    assert 10.0 <= wait.seconds <= 10.2
    assert actions(world) == ([], []), "it is waited for once"
    world.now = wait.seconds
    world.scheduler.waited(wait)
    second, (another,) = actions(world)
    assert len(second) == 1
    assert another.turn


def test_a_pause_of_an_earlier_run_is_kept_to() -> None:
    world = World(Case(requests=3, paused_for=60.0))
    world.scheduler.begin(50.0)
    assert world.scheduler.next(50.0) == Wait(10.0)
    assert world.scheduler.next(50.0) is None


@pytest.mark.parametrize("how", ["stop", "close", "broke"])
def test_after_the_end_is_asked_for_what_is_in_flight_is_waited_for_and_nothing_is_sent(how: str) -> None:
    world = World(Case(requests=20, concurrency=4))
    scheduler, (calls, _) = world.scheduler, actions(world)
    if how == "broke":
        scheduler.broke(RunError("x"))
    else:
        getattr(scheduler, how)()
    assert scheduler.upcoming == 0
    for call in calls:
        assert not scheduler.ended
        scheduler.failed(call, TransientError("full", kind="overload"), 1.0)
        assert actions(world)[0] == []
    assert scheduler.ended


def test_after_a_stop_no_pause_begins_and_none_that_is_too_long_takes_the_place_of_the_stop() -> None:
    world = World(Case(requests=20, concurrency=4))
    calls, _ = actions(world)
    world.scheduler.stop()
    for call, seconds in zip(calls, (5.0, 1e6, 5.0, 1e6), strict=True):
        world.scheduler.failed(call, TransientError("full", kind="overload", retry_after=seconds), 1.0)
    assert actions(world) == ([], [])
    assert world.pauses.now is None
    assert world.scheduler.conclusion() is None


def test_the_first_error_is_the_one_that_is_told() -> None:
    world = World(Case(requests=20, concurrency=4))
    calls, _ = actions(world)
    world.scheduler.failed(calls[0], PermanentError("wrong key", final=True), 0.0)
    world.scheduler.broke_down(calls[1], ZeroDivisionError())
    assert str(world.scheduler.conclusion()) == "wrong key"


@pytest.mark.parametrize("limit", [0, 1])
def test_a_group_that_is_too_large_by_now_is_split_in_order(limit: int) -> None:
    world = World(Case(requests=6, rows=3, concurrency=8))
    world.scheduler.rows_limit = limit
    assert [[key for key, _ in call.items] for call in actions(world)[0]] == [[f"{n}"] for n in range(6)]


def test_the_rest_of_a_short_list_comes_next_one_by_one() -> None:
    world = World(Case(requests=6, rows=3, concurrency=1))
    given, order = 1, []
    while calls := actions(world)[0]:
        (call,) = calls
        order.append([key for key, _ in call.items])
        world.scheduler.answered(call, [answer()] * given, 1.0)
        given = 3
    assert order == [["0", "1", "2"], ["1"], ["2"], ["3", "4", "5"]]


def test_a_group_that_fits_no_cap_is_tried_one_by_one_before_the_end() -> None:
    world = World(Case(requests=6, rows=3, budget=BudgetConfig(tokens=WORST + 8))).run()
    assert world.scheduler.capped
    assert sum(world.ends.values()) == len(world.sent_at) >= 1


def test_it_knows_no_clock_no_loop_and_no_journal() -> None:
    """Those it would be driven by; names for annotations are no matter."""
    tree = ast.parse(inspect.getsource(module))
    names = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert not {"asyncio", "time", "random", "sqlite3", "threading"} & {name.split(".")[0] for name in names}
    assert not [name for name in names if name.startswith(("stepsynth.journal", "stepsynth.runtime.shutdown"))]
