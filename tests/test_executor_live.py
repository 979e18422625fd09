"""Asking a server: retries with one owner, pauses for all, rows by the group, a ledger that is ahead of the wire."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stepsynth.config import BudgetConfig, PriceConfig, TeacherConfig
from stepsynth.errors import BudgetError, TeacherError, TransientError
from stepsynth.generation import TeacherClient
from stepsynth.journal import AnswerStore, Cost, Journal
from stepsynth.runtime import failpoints
from stepsynth.types import Message, Request, Response, Sampling, Usage

FREE = {"input": 0, "output": 0}
Script = Callable[["Server", Request, int], Response | Exception]


def numbered(_: object, request: Request, attempt: int) -> Response:
    return Response(f"Text {request.replicate}.", usage=Usage(3, 6))


@dataclass
class Server:
    """A teacher whose time is counted in turns of the event loop: a request takes ``turns`` of them."""

    script: Script = numbered
    turns: int = 5
    most: int = 10**9
    sent: list[int] = field(default_factory=list)
    in_flight: int = 0
    peak: int = 0
    log: list[int] = field(default_factory=list)

    async def generate(self, request: Request) -> Response:
        self.sent.append(request.replicate)
        attempt = self.sent.count(request.replicate)
        self.in_flight += 1
        self.log.append(self.in_flight)
        self.peak = max(self.peak, self.in_flight)
        try:
            full = self.in_flight > self.most
            for _ in range(self.turns):
                await asyncio.sleep(0)
            answer = TransientError("full", kind="overload") if full else self.script(self, request, attempt)
        finally:
            self.in_flight -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None: ...


@dataclass
class Time:
    """A clock that only pauses move; each pause lasts some turns of the loop, too, so that others could go on in it."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)
    during: Callable[[], object] = lambda: None
    moves: bool = True
    turn: float = 0.0

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        for _ in range(40):
            await asyncio.sleep(self.turn)
            self.during()
        self.now += seconds * self.moves


def requests(count: int, prompt: str = "Write.", first: int = 0) -> list[Request]:
    numbers = range(first, first + count)
    return [Request((Message("user", prompt),), Sampling(), n, "round-0/seed", n, "kalm") for n in numbers]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    yield journal
    journal.close()


def executor(
    server: object,
    journal: Journal,
    clock: Time | None = None,
    *,
    budget: BudgetConfig | None = None,
    note: Any = None,
    **config: Any,
) -> TeacherClient:
    server_settings = {"backend": "openai", "base_url": "http://127.0.0.1:9/v1", "price": FREE}
    settings = {**server_settings, "concurrency": 8, "attempts": 5, **config}
    clock = clock or Time()
    how: dict[str, Any] = {
        "teacher": server,
        "pause": clock.pause,
        "clock": lambda: clock.now,
        **({"note": note} if note else {}),
    }
    return TeacherClient(TeacherConfig(**settings), journal, budget or BudgetConfig(), **how)


# how many at once ------------------------------------------------------------------------------


def test_full_width_is_used_from_the_first_moment(journal: Journal) -> None:
    server = Server()
    executor(server, journal, concurrency=64).run(requests(200))
    assert server.log[:64] == list(range(1, 65))
    assert server.peak == 64


def test_a_server_with_room_for_ten_gets_about_ten_and_answers_all(journal: Journal) -> None:
    server = Server(most=10)
    answers = executor(server, journal, Time(moves=False), concurrency=64, attempts=20).run(requests(600))
    assert sum(isinstance(answer, Response) for answer in answers.values()) == 600
    settled = server.log[-300:]
    assert max(settled) <= 20
    assert sum(settled) / len(settled) >= 5
    assert journal.totals().failures["overload"] == len(server.sent) - 600 < 300


def test_a_server_that_is_down_is_not_shown_the_whole_plan(journal: Journal) -> None:
    server = Server(lambda *_: TransientError("down", kind="connection"))
    with pytest.raises(TransientError, match="down"):
        executor(server, journal, concurrency=8, attempts=3).run(requests(500))
    assert len(set(server.sent)) <= 10 + 12
    assert max(Counter(server.sent).values()) == 3


# pauses ----------------------------------------------------------------------------------------


def test_a_retry_after_on_any_request_holds_all_and_no_storm_follows(journal: Journal) -> None:
    """R8: by a clock of our own; nothing is sent in the pause, then one request, two, four."""
    asked = {5}

    def busy(server: Server, request: Request, attempt: int) -> Response | Exception:
        if request.replicate in asked and attempt == 1:
            return TransientError("busy", kind="overload", retry_after=30)
        return numbered(server, request, attempt)

    server, seen = Server(busy), []
    # Long enough for the journal to reserve what others would send.
    clock = Time(during=lambda: seen.append(len(server.sent)), turn=0.003)
    answers = executor(server, journal, clock, concurrency=32).run(requests(300))
    assert all(isinstance(answer, Response) for answer in answers.values())
    assert len(clock.pauses) == 1
    assert 30 <= clock.pauses[0] <= 37.5
    # What others asked for before the refusal came was out already.
    assert set(seen) == {seen[0]}
    after = server.log[seen[0] :]
    assert after[:6] == [1, 1, 2, 1, 2, 2] or after[0] == 1
    assert max(after[:15]) <= 8
    assert max(after) >= 20, "and it recovers"


def test_a_pause_holds_the_next_requests_of_the_run_too(journal: Journal) -> None:
    clock = Time()
    busy = Server(lambda *_: TransientError("busy", retry_after=100))
    asker = executor(busy, journal, clock, attempts=1)

    async def no_time_passes(seconds: float) -> None:
        await asyncio.sleep(0)

    asker.pause = no_time_passes
    asker.run(requests(1))
    asker.pause, busy.script = clock.pause, numbered
    asker.paused_until = clock.now + 60
    held: list[int] = []
    clock.during = lambda: held.append(len(busy.sent))
    asker.run(requests(2, first=1))
    assert clock.pauses == [60]
    assert set(held) == {1}
    assert len(busy.sent) == 3


# attempts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_every_request_gets_exactly_its_attempts_and_failures_are_counted_by_kind(journal: Journal, attempts: int) -> None:
    kinds = ("overload", "unavailable", "connection", "damaged")

    def broken(server: Server, request: Request, attempt: int) -> Response | Exception:
        if request.replicate % 3:
            return numbered(server, request, attempt)
        return TransientError("broken", kind=kinds[request.replicate % 4])

    server = Server(broken)
    asker = executor(server, journal, attempts=attempts)
    answers = asker.run(requests(24))
    counts = Counter(server.sent)
    assert all(counts[number] == (1 if number % 3 else attempts) for number in range(24))
    assert sum(isinstance(answer, TeacherError) for answer in answers.values()) == 8
    totals = journal.totals()
    assert totals.failures == dict.fromkeys(kinds, 2 * attempts)
    assert totals.attempts == len(server.sent)
    assert totals.unsettled == 0
    assert asker.retries == {kind: 2 * (attempts - 1) for kind in kinds if attempts > 1}


def test_a_request_that_may_be_billed_after_a_time_out_is_sent_again_once_only(journal: Journal) -> None:
    """R7."""
    server = Server(
        lambda server, request, attempt: (
            TransientError("no answer", kind="timeout", maybe_billed=True)
            if request.replicate < 3
            else numbered(server, request, attempt)
        )
    )
    answers = executor(server, journal, attempts=9).run(requests(20))
    counts = Counter(server.sent)
    assert [counts[number] for number in range(4)] == [2, 2, 2, 1]
    assert sum(isinstance(answer, TeacherError) for answer in answers.values()) == 3
    assert journal.totals().maybe_billed_twice == 3
    assert journal.ledger.doubtful.sends == 6


def test_connections_that_could_not_be_made_use_all_attempts(journal: Journal) -> None:
    server = Server(lambda *_: TransientError("no connection", kind="timeout"))
    executor(server, journal, attempts=6).run(requests(1))
    assert len(server.sent) == 6
    assert journal.totals().maybe_billed_twice == 0


def test_what_may_be_billed_counts_towards_the_caps_at_its_worst(journal: Journal) -> None:
    worst = len("Write.") + 8 + 16 + 64
    server = Server(lambda *_: TransientError("no answer", kind="timeout", maybe_billed=True))
    with pytest.raises(BudgetError, match=f"{3 * worst} of {4 * worst - 1} tokens"):
        executor(server, journal, concurrency=1, budget=BudgetConfig(tokens=4 * worst - 1)).run(requests(4))
    assert len(server.sent) == 3


def test_a_defect_in_a_teacher_costs_no_answer_of_others(journal: Journal) -> None:
    def defect(server: Server, request: Request, attempt: int) -> Response | Exception:
        return ZeroDivisionError("a defect") if request.replicate == 20 else numbered(server, request, attempt)

    server = Server(defect)
    with pytest.raises(ZeroDivisionError):
        executor(server, journal).run(requests(100))
    assert journal.totals().requests == len(server.sent) - 1 < 40
    assert journal.totals().attempts == len(server.sent)


def test_a_defect_in_who_is_told_of_pauses_ends_the_run_and_costs_no_answer(journal: Journal) -> None:
    def busy(server: Server, request: Request, attempt: int) -> Response | Exception:
        wait = request.replicate == 20 and attempt == 1
        return TransientError("busy", kind="overload", retry_after=3) if wait else numbered(server, request, attempt)

    def broken(_: object) -> None:
        raise ZeroDivisionError("a defect")

    server, clock = Server(busy), Time()
    settings = TeacherConfig(backend="openai", base_url="http://127.0.0.1:9/v1", price=PriceConfig(input=0, output=0))
    asker = TeacherClient(
        settings, journal, BudgetConfig(), teacher=server, pause=clock.pause, clock=lambda: clock.now, paused=broken
    )
    with pytest.raises(ZeroDivisionError):
        asker.run(requests(60))
    assert journal.totals().requests == len(server.sent) - 1
    assert journal.totals().unsettled == 0


def test_an_answer_that_cannot_be_counted_ends_the_run_and_not_its_loop(journal: Journal) -> None:
    def odd(server: Server, request: Request, attempt: int) -> Response | Exception:
        usage: Any = Usage(None, None)  # type: ignore[arg-type]
        return Response("Text.", usage=usage) if request.replicate == 20 else numbered(server, request, attempt)

    server = Server(odd)
    with pytest.raises(TypeError):
        executor(server, journal).run(requests(60))
    assert journal.totals().requests == len(server.sent) - 1


# several rows by one request ----------------------------------------------------------------------


@dataclass
class Many(Server):
    """A server that gives several answers to one prompt, at most ``gives``."""

    gives: int = 10**9
    groups: list[list[int]] = field(default_factory=list)
    rows_limit: int = 10**9
    group_script: Callable[[int], Exception | None] = lambda _: None

    async def generate_many(self, requests: Sequence[Request]) -> list[Response]:
        assert len({(request.messages, request.sampling) for request in requests}) == 1
        self.groups.append([request.replicate for request in requests])
        await asyncio.sleep(0)
        if error := self.group_script(len(self.groups)):
            raise error
        if self.gives < len(requests):
            self.rows_limit = 1
        return [numbered(self, request, 1) for request in requests[: self.gives]]


def mixed() -> list[Request]:
    """Two prompts in turn, ten of each."""
    pairs = zip(requests(10, "Write of cats."), requests(10, "Write of dogs.", first=10), strict=True)
    return [request for pair in pairs for request in pair]


def test_equal_prompts_share_a_send_and_each_answer_keeps_its_key(journal: Journal) -> None:
    server = Many()
    asker = executor(server, journal, rows_per_request=4, concurrency=1)
    answers = asker.run(mixed())
    assert server.groups == [[0, 1, 2, 3], [10, 11, 12, 13], [4, 5, 6, 7], [14, 15, 16, 17], [8, 9], [18, 19]]
    assert server.sent == []
    assert [answers[asker.key(request)].text for request in mixed()] == [  # type: ignore[union-attr]
        f"Text {request.replicate}." for request in mixed()
    ]
    totals = journal.totals()
    assert (totals.requests, totals.attempts, totals.bought_tokens) == (20, 6, 180)


def test_a_group_fails_and_is_tried_again_as_one(journal: Journal) -> None:
    server = Many(group_script=lambda number: TransientError("busy", kind="overload") if number == 1 else None)
    answers = executor(server, journal, rows_per_request=10, concurrency=1).run(requests(10))
    assert server.groups == [list(range(10))] * 2
    assert all(isinstance(answer, Response) for answer in answers.values())
    assert journal.totals().attempts == 2
    assert journal.totals().failures == {"overload": 1}


def test_of_a_short_list_nothing_is_lost_and_the_rest_is_asked_for_one_by_one(journal: Journal) -> None:
    server = Many(gives=1)
    answers = executor(server, journal, rows_per_request=4, concurrency=1).run(requests(10))
    assert server.groups == [[0, 1, 2, 3]]
    assert sorted(server.sent) == list(range(1, 10))
    assert all(isinstance(answer, Response) for answer in answers.values())
    assert journal.totals().attempts == 10


def test_an_empty_list_is_a_failure_and_not_a_loop(journal: Journal) -> None:
    server = Many(gives=0, rows_limit=4)
    answers = executor(server, journal, rows_per_request=4, concurrency=1, attempts=3).run(requests(4))
    assert len(server.groups) + len(server.sent) <= 1 + 4 * 3
    assert len(answers) == 4


def test_a_teacher_without_groups_is_asked_one_by_one(journal: Journal) -> None:
    server = Server()
    executor(server, journal, rows_per_request=4).run(requests(10))
    assert sorted(server.sent) == list(range(10))


def test_a_cap_that_no_group_fits_is_used_up_by_single_requests(journal: Journal) -> None:
    worst = len("Write.") + 8 + 16 + 64
    server = Many()
    with pytest.raises(BudgetError):
        executor(server, journal, rows_per_request=8, budget=BudgetConfig(tokens=2 * worst)).run(requests(20))
    assert server.groups == []
    assert len(server.sent) == (2 * worst - worst) // 9 + 1


# the ledger ---------------------------------------------------------------------------------------


def in_file(path: Path) -> Cost:
    """What a process that starts now would count as sent, were this one killed."""
    connection = sqlite3.connect(path)
    ((sends, tokens),) = connection.execute(
        "SELECT sent + lost_sends + open_sends, prompt_tokens + completion_tokens + doubtful_tokens + lost_tokens + open_tokens"
        " FROM ledger"
    )
    connection.close()
    return Cost(sends, tokens)


@pytest.mark.parametrize("concurrency", [1, 8, 32])
def test_whatever_was_sent_at_any_moment_is_in_the_file_already(tmp_path: Path, journal: Journal, concurrency: int) -> None:
    """R9 over kills: sends and tokens that a killed process may owe are reserved before they are sent, and few more."""
    ahead = []
    answered = []

    def look(server: Server, request: Request, attempt: int) -> Response | Exception:
        reserved = in_file(tmp_path / "journal.db")
        assert reserved.sends >= len(server.sent)
        ahead.append(reserved.sends - len(server.sent))
        if request.replicate % 5 == 0 and attempt == 1:
            return TransientError("busy", kind="unavailable")
        answered.append(request)
        assert reserved.tokens >= 9 * len(answered)
        return numbered(server, request, attempt)

    server = Server(look)
    executor(server, journal, concurrency=concurrency).run(requests(150))
    assert len(ahead) == 180
    assert max(ahead) <= concurrency
    assert in_file(tmp_path / "journal.db") == Cost(180, 150 * 9)


def test_a_reservation_that_was_left_open_counts_as_sent_and_against_the_cap(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    executor(Server(), journal).run(requests(10))
    journal.ledger.open = Cost(6, 600, 0.5)
    journal.commit_ledger()
    journal.close()
    again, server = Journal(path), Server()
    assert (again.totals().attempts, again.totals().unsettled) == (16, 6)
    with pytest.raises(BudgetError, match=r"20 of 20 requests sent.*6 of the requests were in flight"):
        executor(server, again, budget=BudgetConfig(requests=20)).run(requests(30))
    assert len(server.sent) == 4
    assert (again.totals().attempts, again.totals().unsettled, again.totals().requests) == (20, 6, 14)
    again.close()


def test_looking_at_a_journal_settles_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for _ in range(2):
        journal = Journal(path)
        journal.ledger.open = Cost(6, 600, 0.5)
        journal.commit_ledger()
        assert Journal(path).totals().unsettled == 6
        journal.close()


def test_a_journal_from_before_the_ledger_counts_its_answers_as_sent(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path, AnswerStore.shared(tmp_path / "shared.db"))
    executor(Server(), journal).run(requests(10))
    for table in ("ledger", "jobs"):
        journal._connection.execute(f"DROP TABLE {table}")
    journal._connection.execute("PRAGMA user_version=1")
    journal.close()
    again = Journal(path)
    totals = again.totals()
    assert (totals.attempts, totals.requests, totals.bought_tokens, totals.cost_usd) == (10, 10, 90, 0.0)
    assert again.ledger.spent == Cost(10, 90, 0.0)
    again.close()


def test_commits_are_few(tmp_path: Path, journal: Journal) -> None:
    """No commit per request: a thousand answers at 64 in flight take a few dozen transactions, reservations included."""
    failpoints.arm(-1)
    try:
        executor(Server(), journal, concurrency=64).run(requests(1000))
        commits = Counter(name for name in failpoints.passed() if name.startswith("before commit"))
    finally:
        failpoints.arm(0)
    assert sum(commits.values()) <= 35
    assert commits["before commit: ledger"] <= 3


def test_traffic_tells_what_goes_on(journal: Journal) -> None:
    seen = []

    def busy(server: Server, request: Request, attempt: int) -> Response | Exception:
        if request.replicate == 3 and attempt == 1:
            return TransientError("busy", kind="overload")
        if request.replicate == 40:
            seen.append(asker.traffic())
        return numbered(server, request, attempt)

    asker = executor(Server(busy), journal, Time(), concurrency=4)
    asker.run(requests(50))
    (during,), after = seen, asker.traffic()
    assert 1 <= during.in_flight <= during.limit <= 4
    assert 30 <= during.answers < during.sent <= 51
    assert (after.in_flight, after.sent, after.answers, after.tokens, after.usd) == (0, 51, 50, 450, 0.0)
    assert after.retries == during.retries == {"overload": 1}


def test_an_unknown_price_is_unknown_in_traffic_too(journal: Journal) -> None:
    asker = executor(Server(), journal, price=None, model="nobody-knows")
    assert asker.traffic().usd is None
    asker.run(requests(3))
    assert asker.traffic().usd is None
    assert journal.totals().cost_usd is None


@pytest.mark.slow
def test_fifty_thousand_known_keys_are_found_in_two_seconds(tmp_path: Path) -> None:
    asked = requests(50_000)
    shared = AnswerStore.shared(tmp_path / "shared.db")
    journal = Journal(tmp_path / "a.db", shared)
    keyed = [(request.key({}), request) for request in asked]
    journal.commit_answers([(key, request, Response("text " * 20, raw="x" * 500)) for key, request in keyed], {})
    started = time.process_time()
    assert len(journal.find_answers(keyed, {})) == 50_000
    assert time.process_time() - started < 2
    journal.close()
    other = Journal(tmp_path / "b.db", AnswerStore.shared(tmp_path / "shared.db"))
    started = time.process_time()
    assert len(other.find_answers(keyed, {})) == 50_000
    assert time.process_time() - started < 5, "of another run: found and copied"
    other.close()


class Slow(Journal):
    """A journal whose first commit of answers takes a while."""

    first = True

    def commit_answers(self, *args: Any, **kwargs: Any) -> None:
        if self.first:
            self.first = False
            time.sleep(0.6)
        super().commit_answers(*args, **kwargs)


def test_r02_a_second_interrupt_while_the_last_commit_is_awaited_costs_no_answer(tmp_path: Path) -> None:
    """Found by the simulation: an answer that came during a commit was lost if the wait for that commit was interrupted."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    class Teacher:
        async def generate(self, request: Request) -> Response:
            # The second answer comes while the first one is committed, and then everything has come.
            await asyncio.sleep(0.5 * request.replicate)
            if request.replicate:
                asyncio.get_running_loop().call_later(0.1, interrupt)
            return Response(f"Text {request.replicate}.", usage=Usage(3, 6))

        async def close(self) -> None: ...

    config = TeacherConfig(backend="openai", base_url="http://127.0.0.1:9/v1", concurrency=2)
    requests = [Request((Message("user", "Write."),), Sampling(), n, "round-0/seed", n, "kalm") for n in range(2)]
    journal = Slow(tmp_path / "journal.db")
    try:
        with pytest.raises(KeyboardInterrupt):
            TeacherClient(config, journal, BudgetConfig(), teacher=Teacher()).run(requests)
        assert journal.totals().requests == 2
    finally:
        journal.close()
