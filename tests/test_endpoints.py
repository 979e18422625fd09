"""Several servers of one model over real HTTP on this machine: who is asked, and what happens when one of them fails.

As a program, this file is the client that gets killed: ``python test_endpoints.py '{"path": ..., "base_url": [...]}'``.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loopback import Fault, LoopbackServer, Seen
from stepsynth.config import BudgetConfig, TeacherConfig
from stepsynth.errors import BudgetError, MovedError, PermanentError, TeacherError, TransientError
from stepsynth.generation import TeacherClient
from stepsynth.journal import Journal
from stepsynth.teachers import AsyncTeacher, create_teacher, probe_teacher
from stepsynth.teachers.balancing import CERTAIN
from stepsynth.teachers.balancing import Fault as Said
from stepsynth.teachers.endpoints import EndpointsTeacher, fault_of
from stepsynth.types import Message, Request, Response, Sampling

NOBODY = "http://127.0.0.1:9/v1"
PRICE = {"input": 1.0, "output": 1.0}


def answer(body: dict[str, Any]) -> str:
    return f"Text for {body['messages'][-1]['content']}"


def requests(count: int) -> list[Request]:
    return [Request((Message("user", f"Write number {n}."),), Sampling(), n, "round-0/seed", n, "kalm") for n in range(count)]


def settings(addresses: str | Sequence[str], **changes: Any) -> TeacherConfig:
    values = {"backend": "openai", "model": "loopback", "base_url": addresses, "concurrency": 16, "price": PRICE}
    return TeacherConfig(**{**values, "attempts": 3, **changes})


def number_of(seen: Seen) -> int:
    return int(re.findall(r"\d+", json.dumps(seen.json["messages"]))[-1])


@dataclass
class Site:
    """Servers, and a journal in which their answers come together."""

    path: Path
    servers: list[LoopbackServer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    client: TeacherClient | None = None

    def serve(self, **settings: Any) -> LoopbackServer:
        self.servers.append(LoopbackServer(answer, **{"latency": 0.01, **settings}).start())
        return self.servers[-1]

    def run(
        self,
        addresses: str | Sequence[str],
        count: int,
        *,
        budget: dict[str, Any] | None = None,
        path: Path | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        journal = Journal(path or self.path)
        try:
            config, caps = settings(addresses, **changes), BudgetConfig(**(budget or {}))
            self.client = TeacherClient(config, journal, caps, note=self.notes.append)
            return dict(self.client.run(requests(count)))
        finally:
            journal.close()

    def totals(self) -> Any:
        journal = Journal(self.path)
        totals = journal.totals()
        journal.close()
        return totals

    @property
    def sent(self) -> int:
        return sum(len(server.completions) for server in self.servers)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "journal.db")
    yield site
    for server in site.servers:
        server.stop()


def when(came: Callable[[], int], count: int, work: Callable[[], object]) -> None:
    """Do something in a thread when so many requests have come."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while came() < count and time.monotonic() < deadline:
            time.sleep(0.005)
        work()

    threading.Thread(target=wait, daemon=True).start()


def all_answered(found: dict[str, Any], count: int) -> bool:
    return len(found) == count and all(isinstance(answer, Response) for answer in found.values())


# balance ---------------------------------------------------------------------------------------


def test_a_fast_server_gets_more_than_a_slow_one_and_neither_is_idle(site: Site) -> None:
    fast, slow = site.serve(latency=0.02), site.serve(latency=0.2)
    assert all_answered(site.run([fast.base_url, slow.base_url], 300), 300)
    assert len(fast.completions) > 3 * len(slow.completions) > 0
    assert site.totals().attempts == 300


def test_each_server_finds_its_own_limit(site: Site) -> None:
    """Two servers with room for 4 and for 12, in front of 32 requests at once."""

    def room_for(most: int) -> LoopbackServer:
        server = site.serve(latency=0.03)
        server.faults = lambda _: Fault.status(429) if server._in_flight > most else None
        return server

    small, large = room_for(4), room_for(12)
    assert all_answered(site.run([small.base_url, large.base_url], 500, concurrency=32, attempts=20), 500)
    answered = site.client._teacher.answered  # type: ignore[union-attr]
    assert answered[large.base_url] > 1.5 * answered[small.base_url] > 30
    assert site.client is not None
    # At a moment when both are full, the width of all may shrink by a step; for every refusal of the small one it must not.
    assert site.client.limiter.limit > 16, "the overload of one server shrank the width of all"


def test_answers_keys_and_seeds_are_those_of_the_first_address_alone(site: Site, tmp_path: Path) -> None:
    first, second = site.serve(), site.serve()
    for server in site.servers:
        server.answer = server._fake_answer
    alone = site.run(first.base_url, 60, path=tmp_path / "alone.db")
    together = site.run([first.base_url, second.base_url], 60)
    assert {key: value.text for key, value in alone.items()} == {key: value.text for key, value in together.items()}
    assert second.completions


def test_rows_per_request_are_split_by_the_server_that_gives_one(site: Site) -> None:
    first, second = site.serve(), site.serve(most_choices=1)
    assert all_answered(site.run([first.base_url, second.base_url], 40, rows_per_request=4), 40)


def test_anthropic_takes_a_list_too(site: Site) -> None:
    first, second = site.serve(), site.serve()
    found = site.run([first.anthropic_url, second.anthropic_url], 40, backend="anthropic")
    assert all_answered(found, 40)
    assert first.completions
    assert second.completions


# one fails -------------------------------------------------------------------------------------


def test_one_dies_and_comes_back(site: Site) -> None:
    first, second = site.serve(latency=0.03), site.serve(latency=0.03)
    port = second._port
    when(lambda: len(second.completions), 50, second.stop)
    when(lambda: len(first.completions), 300, lambda: site.serve(latency=0.03, port=port))
    assert all_answered(site.run([first.base_url, second.base_url], 1200, attempts=1), 1200)
    assert len(site.servers) == 3
    assert len(site.servers[2].completions) > 100, "the server that came back is not used"
    assert any(f"{second.base_url} " in note for note in site.notes)
    totals = site.totals()
    assert totals.attempts == 1200 + sum(totals.failures.values())
    # What was in flight when the connections broke may be billed.
    assert totals.maybe_billed_twice <= 16


def test_retry_after_pauses_one_server_only(site: Site) -> None:
    limited = {30}
    first = site.serve()
    second = site.serve(faults=lambda seen: Fault.status(429, {"Retry-After": "2"}) if seen.number in limited else None)
    started = time.monotonic()
    assert all_answered(site.run([first.base_url, second.base_url], 200, attempts=1), 200)
    assert time.monotonic() - started < 4
    assert site.client is not None
    assert site.client.pauses.resume_at == 0.0, "all servers were paused"
    assert len(first.completions) > 2 * len(second.completions)
    assert site.totals().failures == {"overload": 1}


@pytest.mark.parametrize("wrong_one_first", [False, True])
def test_a_wrong_key_at_one_server_is_left_out_and_told(wrong_one_first: bool, site: Site) -> None:
    good, wrong = site.serve(), site.serve(api_key="another")
    addresses = [wrong.base_url, good.base_url] if wrong_one_first else [good.base_url, wrong.base_url]
    assert all_answered(site.run(addresses, 100, attempts=1), 100)
    (note,) = site.notes
    assert note == f"{wrong.base_url} is left out and tried again later: {wrong.base_url} requires a key (HTTP 401)."
    assert len(wrong.completions) <= 16 + 3


@pytest.mark.parametrize("typo", ["/v2", "", ":port"])
def test_a_typo_in_one_address_costs_nothing_but_that_server(typo: str, site: Site) -> None:
    good = site.serve()
    wrong = NOBODY if typo == ":port" else f"{good.root}{typo}"
    assert all_answered(site.run([good.base_url, wrong], 100, attempts=1), 100)
    (note,) = site.notes
    assert wrong in note


def test_another_model_at_one_server_is_left_out(site: Site) -> None:
    good, other = site.serve(), site.serve(models=["another"])
    assert all_answered(site.run([good.base_url, other.base_url], 100, attempts=1), 100)
    assert "has no model 'loopback'. " in f"{site.notes[0]} "


def test_a_server_that_hangs_keeps_no_request_for_good(site: Site) -> None:
    good, hanging = site.serve(), site.serve(faults=lambda seen: Fault("hang") if seen.number > 20 else None)
    started = time.monotonic()
    assert all_answered(site.run([good.base_url, hanging.base_url], 400, attempts=1, timeout_s=1.5), 400)
    assert time.monotonic() - started < 12
    totals = site.totals()
    # Each time-out may be billed, and counts.
    assert totals.failures["timeout"] == totals.maybe_billed_twice >= 1
    assert totals.attempts == 400 + totals.failures["timeout"]


def test_refusals_of_a_server_that_never_answered_cost_no_row(site: Site) -> None:
    good, refusing = site.serve(), site.serve(faults=lambda _: Fault.status(400))
    assert all_answered(site.run([good.base_url, refusing.base_url], 100, attempts=1), 100)


def test_a_request_that_every_server_refuses_costs_its_row_only(site: Site) -> None:
    def faults(seen: Seen) -> Fault | None:
        return Fault.status(400) if number_of(seen) == 50 else None

    first, second = site.serve(faults=faults), site.serve(faults=faults)
    found = site.run([first.base_url, second.base_url], 100, concurrency=4)
    assert sum(isinstance(answer, PermanentError) for answer in found.values()) == 1
    assert not site.notes


def test_a_request_that_every_server_fails_at_is_given_up_after_its_attempts(site: Site) -> None:
    def faults(seen: Seen) -> Fault | None:
        return Fault("reset") if number_of(seen) == 50 else None

    first, second = site.serve(faults=faults), site.serve(faults=faults)
    found = site.run([first.base_url, second.base_url], 100, concurrency=4, attempts=2)
    assert sum(isinstance(answer, TransientError) for answer in found.values()) == 1
    asked = [number_of(seen) for server in (first, second) for seen in server.completions].count(50)
    # Moved once from each, then two attempts.
    assert asked <= 2 + 2


def test_a_cap_on_requests_holds_while_a_server_dies(site: Site) -> None:
    first, second = site.serve(), site.serve(faults=lambda seen: Fault("reset") if seen.number % 3 == 0 else None)
    with pytest.raises(BudgetError, match=r"80 of 80 requests sent"):
        site.run([first.base_url, second.base_url], 500, budget={"requests": 80})
    assert site.sent <= 80


# all fail --------------------------------------------------------------------------------------


def test_all_down_ends_as_one_that_is_down(site: Site, tmp_path: Path) -> None:
    found: list[TransientError] = []
    for addresses in (NOBODY, [NOBODY, "http://127.0.0.1:7/v1", "http://127.0.0.1:11/v1"]):
        with pytest.raises(TransientError) as caught:
            site.run(addresses, 100, path=tmp_path / f"{len(found)}.db")
        found.append(caught.value)
    one, all_of_them = found
    assert one.message == f"cannot connect to {NOBODY} (Connection refused)."
    assert re.fullmatch(
        r"cannot connect to http://127.0.0.1:\d+/v1 \(Connection refused\); the other 2 servers of teacher.base_url fail, too\.",
        all_of_them.message,
    )
    assert (all_of_them.hint, all_of_them.kind) == (one.hint, one.kind)


def test_all_die_in_the_middle_and_what_was_answered_is_kept(site: Site) -> None:
    first, second = site.serve(latency=0.03), site.serve(latency=0.03)
    ports = [server._port for server in (first, second)]
    when(lambda: len(first.completions), 50, first.stop)
    when(lambda: len(second.completions), 100, second.stop)
    addresses = [first.base_url, second.base_url]
    with pytest.raises(TransientError, match=r"the other server of teacher\.base_url fails, too"):
        site.run(addresses, 1500)
    asked = {number_of(seen) for server in (first, second) for seen in server.completions}
    kept = site.totals().requests
    assert 0 < kept <= len(asked)
    again = [site.serve(port=port) for port in ports]
    assert all_answered(site.run(addresses, 1500), 1500)
    assert sum(len(server.completions) for server in again) == 1500 - kept


def test_all_with_a_wrong_key_end_at_once(site: Site) -> None:
    first, second = site.serve(api_key="a"), site.serve(api_key="b")
    with pytest.raises(PermanentError, match=r"requires a key \(HTTP 401\); the other server of teacher\.base_url fails, too\."):
        site.run([first.base_url, second.base_url], 300)
    assert site.sent <= 2 * 16


def test_all_that_ask_to_wait_pause_all(site: Site) -> None:
    def faults(seen: Seen) -> Fault | None:
        return Fault.status(429, {"Retry-After": "1"}) if seen.number == 1 else None

    first, second = site.serve(faults=faults), site.serve(faults=faults)
    assert all_answered(site.run([first.base_url, second.base_url], 20, concurrency=2, attempts=1), 20)
    assert site.totals().failures == {"overload": 2}
    assert site.client is not None
    assert site.client.retries == {"overload": 2}


# resuming --------------------------------------------------------------------------------------


def test_servers_after_the_first_may_be_added_removed_and_replaced(site: Site) -> None:
    first, second, third = site.serve(), site.serve(), site.serve()
    addresses = [first.base_url, second.base_url]
    site.run(addresses, 50)
    for changed in (first.base_url, [first.base_url, third.base_url], [first.base_url, NOBODY]):
        assert all_answered(site.run(changed, 50), 50)
    assert site.sent == 50
    first.stop()
    assert all_answered(site.run([first.base_url, third.base_url], 60), 60)
    assert len(third.completions) == 10


def test_a_killed_client_asks_no_committed_request_again(site: Site) -> None:
    first, second = site.serve(), site.serve()
    order = json.dumps({"path": str(site.path), "base_url": [first.base_url, second.base_url], "count": 300})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, __file__, order], env=environment)
    try:
        deadline = time.monotonic() + 60
        while site.sent < 150 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    connection = sqlite3.connect(site.path)
    committed = {int(json.loads(request)["replicate"]) for (request,) in connection.execute("SELECT request FROM answers")}
    connection.close()
    before = {server: len(server.completions) for server in (first, second)}
    assert 0 < len(committed) < 300
    assert all_answered(site.run([first.base_url, second.base_url], 300), 300)
    again = {number_of(seen) for server in (first, second) for seen in server.completions[before[server] :]}
    assert not again & committed
    assert again | committed == set(range(300))


# what a failure says ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "silent", "proven", "said"),
    [
        (TransientError("", kind="connection"), True, True, Said(weight=CERTAIN)),
        (TransientError("", kind="timeout"), True, True, Said(weight=CERTAIN)),
        (TransientError("", kind="timeout", why="HTTP 408"), True, True, Said(weight=1, overload=True)),
        (TransientError("", kind="connection", maybe_billed=True), True, True, Said(weight=1)),
        (TransientError("", kind="timeout", maybe_billed=True), True, True, Said(weight=1, overload=True)),
        (TransientError("", kind="timeout", maybe_billed=True), False, True, Said(overload=True, moves=False)),
        (TransientError("", kind="unavailable", why="HTTP 503"), True, True, Said(weight=1, overload=True)),
        (TransientError("", kind="unavailable", retry_after=2.0), True, True, Said(overload=True, wait=2.0)),
        (TransientError("", kind="overload"), True, True, Said(overload=True)),
        (TransientError("", kind="damaged"), True, True, Said(weight=1)),
        (PermanentError("", final=True), True, True, Said(weight=CERTAIN, lasting=True)),
        (PermanentError("", final=True, unless_answered=True), True, True, None),
        (PermanentError("", final=True, unless_answered=True), True, False, Said(weight=CERTAIN, lasting=True)),
        (PermanentError(""), True, True, None),
        (PermanentError(""), True, False, Said(weight=1, lasting=True)),
    ],
)
def test_what_a_failure_says_about_its_server(error: TeacherError, silent: bool, proven: bool, said: Said | None) -> None:
    assert fault_of(error, silent=silent, proven=proven) == said


def test_the_teacher_alone_moves_a_request_once_from_each_server(site: Site) -> None:
    down, up = site.serve(faults=lambda _: Fault.status(503)), site.serve()
    teacher = create_teacher(settings([down.base_url, up.base_url]))
    assert isinstance(teacher, EndpointsTeacher)
    assert isinstance(teacher, AsyncTeacher)

    moved: list[str] = []

    async def ask() -> list[str]:
        said: list[str] = []
        for request in requests(12):
            try:
                said.append((await teacher.generate(request)).text)
            except MovedError as error:
                moved.append(error.kind)
                said.append((await teacher.generate(request)).text)
        await teacher.close()
        return said

    assert asyncio.run(ask()) == [f"Text for Write number {n}." for n in range(12)]
    assert 0 < len(down.completions) == len(moved) <= 4
    assert set(moved) == {"unavailable"}


@pytest.mark.parametrize(("kind", "told"), [("connection", "connection"), ("damaged", "damaged"), ("timeout", "overload")])
def test_a_lost_connection_while_all_ask_to_wait_is_no_timeout(kind: str, told: str) -> None:
    """Simulation, seed 95410: it counted as one, and with a real one the request was given up although an attempt was left."""
    teacher: Any = create_teacher(settings(["http://127.0.0.1:7/v1", "http://127.0.0.1:8/v1"]))
    lost = asyncio.Event()

    class Server:
        asked = 0

        async def generate(self, request: Request) -> Response:
            Server.asked += 1
            if Server.asked == 1:
                await lost.wait()
                raise TransientError("dropped the connection.", kind=kind, maybe_billed=True)
            raise TransientError("busy.", kind="overload", retry_after=30.0)

        async def close(self) -> None:
            pass

    for address in teacher.teachers:
        teacher.teachers[address] = Server()

    async def ask() -> TransientError:
        first, *others = requests(4)
        sent = asyncio.create_task(teacher.generate(first))
        await asyncio.sleep(0)
        for request in others[:2]:
            with pytest.raises(TeacherError):
                await teacher.generate(request)
        lost.set()
        with pytest.raises(TransientError) as raised:
            await sent
        return raised.value

    error = asyncio.run(ask())
    assert (error.kind, error.maybe_billed) == (told, True)
    assert error.retry_after is not None
    assert 25 < error.retry_after <= 30


def test_a_probe_tells_what_each_server_lists_and_which_does_not_answer(site: Site) -> None:
    good, other = site.serve(), site.serve(models=["another"])
    said: list[str] = []
    found = probe_teacher(settings([good.base_url, other.base_url, NOBODY]), said.append)
    assert found.startswith(f"{good.base_url} serves 'loopback'. {other.base_url} does not list 'loopback'")
    assert said == [f"{NOBODY} is left out and tried again later: cannot connect to {NOBODY} (Connection refused)."]
    with pytest.raises(TransientError, match=r"the other server of teacher\.base_url fails, too"):
        probe_teacher(settings([NOBODY, "http://127.0.0.1:7/v1"]))
    with pytest.raises(ValueError, match="holds ' ', which no web address has"):
        settings([good.base_url, "http://127.0.0.1:80 80/v1"])


def main() -> None:
    order = json.loads(sys.argv[1])
    journal = Journal(Path(order["path"]))
    TeacherClient(settings(order["base_url"]), journal, BudgetConfig()).run(requests(order["count"]))


if __name__ == "__main__":
    main()
