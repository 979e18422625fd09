"""R1, R2, R4, R6 to R9, R16, R17: nothing is paid for twice, no cap is passed, over a real server and real kills.

As a program, this file is the client that gets killed: ``python test_executor.py '{"path": ..., "base_url": ...}'``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from loopback import Fault, LoopbackServer, Seen
from stepsynth.cli.signals import handle_signals
from stepsynth.config import BudgetConfig, TeacherConfig, parse_config
from stepsynth.errors import BudgetError, Interrupted, PermanentError, TransientError
from stepsynth.filters import FilterPipeline
from stepsynth.generation import StageGenerator, TeacherClient
from stepsynth.journal import Journal, Row, Totals
from stepsynth.runtime.progress import SilentProgress
from stepsynth.teachers.fake import FakeTeacher, gold_text
from stepsynth.types import Example, Message, Request, Response, Sampling

LABELS = ("kalm", "rund", "spitz")
BUDGET_EXIT, STOPPED_EXIT = 3, 4
# Dollars per million tokens, dear enough for caps of some dollars.
PRICE = {"input": 10_000.0, "output": 20_000.0}


def requests(count: int) -> list[Request]:
    """Requests that a server can tell apart."""
    return [Request((Message("user", f"Write number {n}."),), Sampling(), n, "round-0/seed", n, "kalm") for n in range(count)]


def teacher_config(address: str, **settings: Any) -> TeacherConfig:
    return TeacherConfig(**{"backend": "openai", "model": "loopback", "base_url": address, "price": PRICE, **settings})


@dataclass
class Site:
    """A server that counts, a journal, and clients in this process or in their own."""

    server: LoopbackServer
    path: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def client(self, count: int, budget: dict[str, Any] | None = None, **settings: Any) -> subprocess.Popen[str]:
        """Start a client of its own process."""
        order = {"path": str(self.path), "base_url": self.server.base_url, "count": count}
        order |= {"budget": budget or {}, "settings": settings}
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, __file__, json.dumps(order)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.processes.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> int:
        """Wait for a client; return its exit status."""
        _, errors = process.communicate(timeout=120)
        assert process.returncode in (0, BUDGET_EXIT, STOPPED_EXIT, -signal.SIGKILL), errors[-2000:]
        return process.returncode

    def signal_at(self, seen: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal the client that is started next when the server has seen so many more requests."""
        at = len(self.server.completions) + seen

        def faults(request: Seen) -> Fault | None:
            if request.number == at:
                self.processes[-1].send_signal(number)
            return None

        self.server.faults = faults

    def run(self, count: int, budget: BudgetConfig | None = None, **settings: Any) -> dict[str, Any]:
        """Run in this process."""
        journal = Journal(self.path)
        try:
            config = teacher_config(self.server.base_url, **settings)
            client = TeacherClient(config, journal, budget or BudgetConfig(), pause=at_once)
            return dict(client.run(requests(count)))
        finally:
            journal.close()

    def seen(self) -> list[int]:
        """Return the numbers of the requests that came, in order."""
        return [number_of(seen) for seen in self.server.completions]

    def committed(self) -> set[int]:
        if not self.path.exists():
            return set()
        connection = sqlite3.connect(self.path)
        found = connection.execute("SELECT request FROM answers").fetchall()
        connection.close()
        return {int(json.loads(request)["replicate"]) for (request,) in found}

    def totals(self) -> Totals:
        journal = Journal(self.path)
        totals = journal.totals()
        journal.close()
        return totals


def number_of(seen: Seen) -> int:
    return int(re.findall(r"\d+", json.dumps(seen.json["messages"]))[-1])


async def at_once(_: float) -> None:
    """Pauses are not what these tests wait for."""
    await asyncio.sleep(0)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with LoopbackServer(lambda body: f"Text for {body['messages'][-1]['content']}") as server:
        site = Site(server, tmp_path / "journal.db")
        yield site
        for process in site.processes:
            process.kill()
            process.communicate()


# kills and stops -----------------------------------------------------------------------------------


def test_r01_an_answer_that_is_committed_is_never_asked_for_again_and_r02_a_kill_wastes_what_was_out(site: Site) -> None:
    """R1 and R2: three kill -9 at concurrency 8; what was in flight or waited for its commit may be asked again."""
    count, concurrency = 160, 8
    site.server.latency = 0.005
    for kill_at in (30, 37, 41):
        before, known = len(site.seen()), site.committed()
        site.signal_at(kill_at)
        assert site.end(site.client(count, concurrency=concurrency)) == -signal.SIGKILL
        assert not known & set(site.seen()[before:])
        assert site.committed() >= known
    before, known = len(site.seen()), site.committed()
    assert known, "nothing was committed before the kills"
    site.server.faults = None
    assert site.end(site.client(count, concurrency=concurrency)) == 0
    assert sorted(site.seen()[before:]) == sorted(set(range(count)) - known)
    assert site.committed() == set(range(count))
    assert len(site.seen()) - count <= 3 * 2 * concurrency


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_r02_a_stopped_client_wastes_nothing(site: Site, number: signal.Signals) -> None:
    site.server.latency = 0.02
    site.signal_at(20, number)
    assert site.end(site.client(60, concurrency=8)) == STOPPED_EXIT
    assert 20 <= len(site.seen()) < 60
    assert sorted(site.seen()) == sorted(site.committed())
    assert site.totals().attempts == len(site.seen())
    assert site.totals().unsettled == 0
    site.server.faults, site.server.latency = None, 0.0
    site.run(60, concurrency=8)
    assert sorted(site.seen()) == list(range(60))


def test_r02_a_second_signal_ends_at_once_and_what_was_answered_is_kept(site: Site) -> None:
    """The ledger counts what was left in flight as sent, for nobody can tell any more."""
    stuck = threading.Event()

    def faults(seen: Seen) -> Fault | None:
        if seen.number == 24:
            stuck.set()
        return Fault("hang") if seen.number > 16 else None

    site.server.faults = faults
    process = site.client(60, concurrency=8)
    assert stuck.wait(60)
    while len(site.committed()) < 16:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    errors = ""
    for _ in range(20):
        # Two signals that arrive together count as one.
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, errors = process.communicate(timeout=3)
            break
    assert process.returncode == STOPPED_EXIT, errors
    assert "never awaited" not in errors
    assert len(site.committed()) == 16
    assert (site.totals().attempts, site.totals().unsettled) == (24, 8)


# faults ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    targets: Mapping[str, int]
    stage: str = "round-0/seed"
    kind: str = "seed"

    def request(self, label: str, number: int, index: int) -> Request:
        return Request((Message("user", f"The text is {label}."),), Sampling(), number, self.stage, index, label)


def rules(plan: Plan) -> FilterPipeline:
    harvest = [Example(f"h{label}{i}", gold_text(label, i), label) for label in LABELS for i in range(10)]
    task = {"name": "t", "instruction": "Decide.", "labels": list(LABELS)}
    config = parse_config({"task": task, "data": {"validation": {"path": "v.csv"}}})
    return FilterPipeline.for_rows(config.task, harvest, harvest, plan.targets)


def stage(path: Path, teacher: object, plan: Plan, config: TeacherConfig) -> list[Row]:
    journal = Journal(path)
    try:
        client = TeacherClient(config, journal, BudgetConfig(), teacher=teacher, pause=at_once)  # type: ignore[arg-type]
        generator = StageGenerator(client, journal, max_overgeneration=6.0, progress=SilentProgress())
        generator.run(plan, 0, rules(plan), [])
        return journal.rows()
    finally:
        journal.close()


class Mixed:
    """Three of ten attempts fail, each in its own way; two requests are left without any answer at first."""

    WAYS = (
        Fault.status(429),
        Fault.status(429, {"Retry-After": "1"}),
        Fault.status(500),
        Fault.status(503),
        Fault("reset"),
        Fault("close"),
        Fault("truncated"),
        Fault("malformed"),
        Fault("status", 200, {}, ""),
    )
    REFUSAL = Fault.status(400, None, {"error": {"message": "withheld", "type": "content_filter", "code": "content_filter"}})

    def __init__(self, faults: bool) -> None:
        self.faults = faults
        self.attempts: Counter[int] = Counter()
        self.kinds: Counter[str] = Counter()

    def __call__(self, seen: Seen) -> Fault | None:
        seed = int(seen.json["seed"])
        self.attempts[seed] += 1
        draw = random.Random(f"{seed} {self.attempts[seed]}")
        if seed % 20 == 0:
            return self.REFUSAL
        if not self.faults:
            return None
        if self.attempts[seed] == 1 and self.kinds["hang"] < 2:
            self.kinds["hang"] += 1
            return Fault("hang")
        if draw.random() >= 0.3:
            return None
        fault = draw.choice(self.WAYS)
        self.kinds[f"{fault.kind} {fault.code}"] += 1
        return fault


def test_r04_a_mix_of_thirty_per_cent_faults_ends_with_the_same_rows(tmp_path: Path) -> None:
    plan = Plan(dict.fromkeys(LABELS, 40))
    outcomes: list[list[Row]] = []
    with LoopbackServer(labels=LABELS) as server:
        config = teacher_config(server.base_url, concurrency=16, attempts=20, timeout_s=2.0)
        for faults in (Mixed(False), Mixed(True)):
            server.faults = faults
            outcomes.append(stage(tmp_path / f"{faults.faults}.db", None, plan, config))
    assert outcomes[0] == outcomes[1]
    assert {row.reason for row in outcomes[0]} >= {"", "refusal"}
    assert "failed" not in {row.reason for row in outcomes[0]}
    assert Counter(row.label for row in outcomes[0] if not row.reason) == plan.targets
    assert sum(faults.kinds.values()) > 0.2 * sum(faults.attempts.values())
    assert len(faults.kinds) >= 7


@pytest.mark.parametrize("backend", ["openai", "anthropic"])
def test_r06_a_server_that_always_fails_sees_exactly_the_attempts(site: Site, backend: str) -> None:
    site.server.faults = lambda seen: Fault.status(500) if number_of(seen) in (3, 5) else None
    address = site.server.base_url if backend == "openai" else site.server.base_url.removesuffix("/v1")
    answers = site.run(20, concurrency=4, attempts=4, backend=backend, base_url=address)
    counts = Counter(site.seen())
    assert [counts[n] for n in (2, 3, 4, 5, 6)] == [1, 4, 1, 4, 1]
    assert sum(isinstance(answer, TransientError) for answer in answers.values()) == 2
    assert site.totals().failures == {"unavailable": 8}


def test_r07_after_a_read_time_out_a_request_is_sent_again_once_and_reported(site: Site) -> None:
    site.server.faults = lambda seen: Fault("hang") if number_of(seen) in (3, 5) else None
    answers = site.run(20, concurrency=20, attempts=6, timeout_s=1.0)
    counts = Counter(site.seen())
    assert (counts[3], counts[5]) == (2, 2)
    assert sum(isinstance(answer, Response) for answer in answers.values()) == 18
    totals = site.totals()
    assert totals.maybe_billed_twice == 2
    assert totals.failures == {"timeout": 4}


def test_r08_no_request_comes_during_the_pause_that_the_server_asked_for_and_no_storm_after_it(site: Site) -> None:
    pause, latency = 0.6, 0.03
    site.server.latency = latency
    arrived: list[float] = []

    def faults(seen: Seen) -> Fault | None:
        arrived.append(time.monotonic())
        return Fault.status(429, {"Retry-After": str(pause)}) if seen.number == 40 else None

    site.server.faults = faults
    journal = Journal(site.path)
    client = TeacherClient(teacher_config(site.server.base_url, concurrency=16), journal, BudgetConfig())
    answers = client.run(requests(120))
    journal.close()
    assert all(isinstance(answer, Response) for answer in answers.values())
    gaps = [later - earlier for earlier, later in pairwise(arrived)]
    longest = max(range(len(gaps)), key=gaps.__getitem__)
    # Those that were sent before the refusal was read may still arrive; then nothing does.
    assert longest - 39 <= 2 * 16
    assert gaps[longest] >= pause
    assert gaps[longest + 1] >= latency, "more than one request right after the pause"
    assert client.limiter.cuts == 1
    assert client.limiter.limit >= 12, "it recovers"


# caps -----------------------------------------------------------------------------------------


def test_r09_the_cap_on_requests_holds_over_kills_at_concurrency_32_and_a_larger_one_goes_on(site: Site) -> None:
    site.server.latency = 0.005
    # A kill leaves what was in flight and what was reserved in doubt; the server answers nobody before it kills.
    for kill_at in (34, 29):
        site.signal_at(kill_at)
        assert site.end(site.client(300, {"requests": 200}, concurrency=32)) == -signal.SIGKILL
    site.server.faults = None
    assert site.end(site.client(300, {"requests": 200}, concurrency=32)) == BUDGET_EXIT
    assert 200 - 2 * (32 + 32) <= len(site.seen()) <= 200
    totals = site.totals()
    assert totals.attempts == 200
    assert totals.attempts - totals.unsettled <= len(site.seen())
    site.run(300, BudgetConfig(requests=1_000), concurrency=32)
    assert site.committed() == set(range(300))


@pytest.mark.parametrize("cap", ["requests", "tokens", "usd"])
def test_r09_no_cap_is_passed_whatever_fails(site: Site, cap: str) -> None:
    site.server.faults = lambda seen: Fault.status(503) if random.Random(seen.number).random() < 0.2 else None
    caps = {"requests": 100, "tokens": 1_500, "usd": 25.0}

    def spent() -> dict[str, float]:
        read, written = site.server.prompt_tokens, site.server.completion_tokens
        usd = (read * PRICE["input"] + written * PRICE["output"]) / 1e6
        return {"requests": len(site.server.completions), "tokens": read + written, "usd": usd}

    with pytest.raises(BudgetError, match=f"raise budget.{cap}"):
        site.run(400, BudgetConfig(**{cap: caps[cap]}), concurrency=32, attempts=20)  # type: ignore[arg-type]
    # The last requests of a cap on tokens or dollars go out one by one, while the worst case still fits.
    assert 0.8 * caps[cap] <= spent()[cap] <= caps[cap]
    with pytest.raises(BudgetError):
        site.run(400, BudgetConfig(**{cap: 2 * caps[cap]}), concurrency=32, attempts=20)  # type: ignore[arg-type]
    assert 1.6 * caps[cap] <= spent()[cap] <= 2 * caps[cap]


@pytest.mark.parametrize("rows", [1, 4])
def test_r09_what_a_server_refuses_until_it_is_asked_in_its_way_counts_too(site: Site, rows: int) -> None:
    """16 requests in flight meet three refusals one after the other; each of them was a request."""
    site.server.refuse_max_tokens, site.server.refuse, site.server.most_choices = True, ("seed", "n"), 1
    settings = {"concurrency": 16, "attempts": 1, "rows_per_request": rows}
    with pytest.raises(BudgetError, match=r"raise budget\.requests"):
        site.run(200, BudgetConfig(requests=60), **settings)
    assert len(site.server.completions) == site.totals().attempts == 60
    site.run(200, BudgetConfig(requests=1_000), **settings)
    assert site.committed() == set(range(200))
    totals = site.totals()
    assert totals.attempts == len(site.server.completions)
    assert totals.failures == {"refused": totals.attempts - 200}


def test_r09_a_server_that_refuses_every_form_is_given_up(site: Site) -> None:
    site.server.faults = lambda seen: Fault.status(400, body={"error": {"message": "max_completion_tokens, seed: no"}})
    with pytest.raises(PermanentError):
        site.run(50, concurrency=4)
    assert len(site.server.completions) == site.totals().attempts <= 4 * 4


def test_r16_totals_equal_what_the_server_counted(site: Site) -> None:
    ways = {1: Fault.status(429), 2: Fault.status(500), 3: Fault("reset"), 4: Fault("truncated"), 5: Fault("malformed")}
    site.server.faults = lambda seen: ways.get(random.Random(seen.number).randrange(20))
    for count in (40, 100):
        site.run(count, concurrency=16, attempts=20)
    totals = site.totals()
    assert totals.requests == 100
    assert totals.attempts == len(site.server.completions) > 100
    assert sum(totals.failures.values()) == totals.attempts - 100
    assert set(totals.failures) >= {"overload", "unavailable", "damaged"}
    assert totals.prompt_tokens == site.server.prompt_tokens
    assert totals.completion_tokens == site.server.completion_tokens
    usd = (totals.prompt_tokens * PRICE["input"] + totals.completion_tokens * PRICE["output"]) / 1e6
    assert totals.cost_usd == pytest.approx(usd)


def test_r16_after_a_kill_the_server_counted_no_more_than_the_totals_and_no_less_than_what_is_settled(site: Site) -> None:
    site.server.latency = 0.005
    site.signal_at(45)
    assert site.end(site.client(100, concurrency=8)) == -signal.SIGKILL
    site.server.faults = None
    assert site.end(site.client(100, concurrency=8)) == 0
    totals = site.totals()
    assert totals.attempts - totals.unsettled <= len(site.server.completions) <= totals.attempts
    assert totals.unsettled <= 8 + 8
    assert totals.bought_tokens <= site.server.prompt_tokens + site.server.completion_tokens


# order ----------------------------------------------------------------------------------------


class Shuffled(FakeTeacher):
    """Answers after a drawn number of turns of the event loop."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._draw = random.Random(seed)
        self.order: list[str] = []

    async def generate(self, request: Request) -> Response:
        for _ in range(self._draw.randrange(12)):
            await asyncio.sleep(0)
        self.order.append(f"{request.label}{request.replicate}")
        return self.answer(request)


def test_r17_fifty_orders_of_answers_give_one_data_set(tmp_path: Path) -> None:
    plan, config = Plan(dict.fromkeys(LABELS, 5)), TeacherConfig(backend="fake", concurrency=8)
    outcomes, orders = [], set()
    for seed in range(50):
        teacher = Shuffled(seed)
        outcomes.append(stage(tmp_path / f"{seed}.db", teacher, plan, config))
        orders.add(tuple(teacher.order))
    assert len(orders) > 45, "the shuffles did not shuffle"
    assert all(rows == outcomes[0] for rows in outcomes)


# the client ------------------------------------------------------------------------------------


def main() -> int:
    order = json.loads(sys.argv[1])
    journal = Journal(Path(order["path"]))
    config = teacher_config(order["base_url"], **order["settings"])
    try:
        with handle_signals():
            TeacherClient(config, journal, BudgetConfig(**order["budget"]), pause=at_once).run(requests(order["count"]))
    except BudgetError:
        return BUDGET_EXIT
    except Interrupted:
        return STOPPED_EXIT
    finally:
        journal.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
