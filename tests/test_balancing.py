"""Which of several servers gets a request: events in, a choice out, by a clock of the test's own."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from stepsynth.teachers.balancing import CERTAIN, Balance, Fault, Ticket

GONE = Fault(weight=CERTAIN)
CHANCE = Fault(weight=1)


def send(balance: Balance, now: float, avoid: tuple[int, ...] = ()) -> Ticket:
    return balance.sent(balance.choose(now, avoid), now)


def ask(balance: Balance, now: float, seconds: dict[int, float]) -> int:
    """Send one request and answer it; return its server."""
    ticket = send(balance, now)
    balance.answered(ticket, now + seconds[ticket.server])
    return ticket.server


def test_at_first_all_get_the_same() -> None:
    balance = Balance(4, 64)
    assert Counter(send(balance, 0.0).server for _ in range(40)) == dict.fromkeys(range(4), 10)


def test_the_fewest_in_flight_weighted_by_latency_is_chosen() -> None:
    balance, now, took = Balance(2, 64), 0.0, {0: 0.1, 1: 0.4}
    for _ in range(20):
        for ticket in [send(balance, now) for _ in range(2)]:
            balance.answered(ticket, now + took[ticket.server])
        now += 0.5
    # Four to one, as far as whole requests can say it.
    counts = Counter(send(balance, now).server for _ in range(50))
    assert 38 <= counts[0] <= 42


def test_a_server_that_was_slow_once_is_tried_again() -> None:
    balance, now = Balance(2, 64), 0.0
    first, second = send(balance, now), send(balance, now)
    balance.answered(first, 0.1)
    balance.answered(second, 60.0)
    now = 60.0
    chosen: Counter[int] = Counter()
    for _ in range(600):
        chosen[ask(balance, now, {0: 0.1, 1: 0.1})] += 1
        now += 0.2
    assert chosen[second.server] > 50


def test_a_silent_server_gets_no_more_although_it_was_fast() -> None:
    balance, now = Balance(2, 64), 0.0
    for _ in range(10):
        for ticket in [send(balance, now) for _ in range(2)]:
            balance.answered(ticket, now + 0.1)
        now += 0.1
    stuck = balance.sent(1, now)
    for _ in range(200):
        now += 0.1
        ask(balance, now, {0: 0.1, 1: 0.1})
    assert balance.silent(stuck, now)
    assert balance.answered_by(1) <= 15


def test_a_refused_connection_leaves_a_server_out_at_once_and_chance_only_three_in_a_row() -> None:
    balance = Balance(2, 8)
    balance.failed(balance.sent(0, 0.0), 0.0, GONE)
    assert balance.is_out(0)
    assert {send(balance, 0.5).server for _ in range(8)} == {1}
    other = Balance(2, 8)
    for number in range(2):
        other.failed(other.sent(0, 0.0), 0.0, CHANCE)
        assert not other.is_out(0), number
    other.answered(other.sent(0, 0.0), 0.1)
    for _ in range(2):
        other.failed(other.sent(0, 0.2), 0.2, CHANCE)
    assert not other.is_out(0)
    other.failed(other.sent(0, 0.3), 0.3, CHANCE)
    assert other.is_out(0)


def test_one_request_at_a_time_tries_a_server_and_the_wait_grows_up_to_half_a_minute() -> None:
    balance, now, waits = Balance(2, 8), 0.0, []
    balance.failed(balance.sent(0, now), now, GONE)
    for _ in range(10):
        since = now
        while (ticket := send(balance, now)).server != 0:
            balance.answered(ticket, now + 0.01)
            now += 0.05
        assert ticket.tries
        assert {send(balance, now).server for _ in range(3)} == {1}
        waits.append(now - since)
        balance.failed(ticket, now, GONE)
        for number in range(2):
            balance.dropped(Ticket(1, *_oldest(balance, number)))
        balance.dropped(Ticket(1, *_oldest(balance, 0)))
    assert waits[:4] == pytest.approx([1, 1.5, 2.25, 3.375], abs=0.2)
    assert waits[-1] == pytest.approx(30, abs=0.2)


def _oldest(balance: Balance, _: int) -> tuple[int, float, bool]:
    pending = balance._servers[1].pending
    number = next(iter(pending))
    return number, pending[number], False


def test_failures_of_requests_sent_before_do_not_make_the_wait_longer() -> None:
    balance = Balance(2, 64)
    tickets = [balance.sent(0, 0.0) for _ in range(30)]
    for ticket in tickets:
        balance.failed(ticket, 0.1, CHANCE)
    assert balance.outs(0) == 1
    assert send(balance, 1.3).server == 0


def test_an_answer_brings_a_server_back_with_one_request_then_more() -> None:
    balance = Balance(2, 8)
    balance.answered(balance.sent(1, 0.0), 0.1)
    balance.failed(balance.sent(0, 0.0), 0.1, GONE)
    assert balance.most_in_flight(0.2) == 8
    # One may try.
    assert balance.most_in_flight(1.2) == 9
    ticket = send(balance, 1.2)
    assert (ticket.server, ticket.tries) == (0, True)
    balance.answered(ticket, 1.3)
    assert not balance.is_out(0)
    assert balance.most_in_flight(1.3) == 9
    for _ in range(8):
        balance.answered(balance.sent(0, 2.0), 2.1)
    assert balance.most_in_flight(2.2) > 12


def test_a_wait_pauses_one_server_only() -> None:
    balance = Balance(2, 8)
    balance.failed(balance.sent(0, 0.0), 0.0, Fault(overload=True, wait=5.0))
    assert {send(balance, 1.0).server for _ in range(6)} == {1}
    assert balance.resumes_in(1.0) is None
    assert balance.others_work(0, 1.0)
    assert balance.most_in_flight(1.0) == 8
    assert send(balance, 5.1).server == 0


def test_if_all_are_paused_the_first_to_resume_is_known() -> None:
    balance = Balance(3, 8)
    for server, wait in enumerate((9.0, 4.0)):
        balance.failed(balance.sent(server, 0.0), 0.0, Fault(overload=True, wait=wait))
    balance.failed(balance.sent(2, 0.0), 0.0, GONE)
    assert balance.resumes_in(1.0) == pytest.approx(3.0)
    assert balance.most_in_flight(1.0) == 1
    assert not balance.all_out


def test_a_server_that_asks_for_short_waits_again_and_again_is_left_alone_longer() -> None:
    balance, now = Balance(2, 8), 0.0
    for _ in range(8):
        balance.failed(balance.sent(0, now), now, Fault(overload=True, wait=0.1))
        paused = next(step / 10 for step in range(1, 1000) if balance._servers[0].works(now + step / 10))
        now += paused
    assert paused > 20


def test_if_all_are_out_requests_are_sent_as_to_one_that_is_down() -> None:
    balance = Balance(2, 8)
    for server in range(2):
        balance.failed(balance.sent(server, 0.0), 0.0, GONE)
    assert balance.all_out
    assert not balance.lasting
    assert {send(balance, 0.1).server for _ in range(8)} == {0, 1}
    assert balance.most_in_flight(0.1) == 16


def test_a_wrong_key_is_asked_last_if_all_are_out() -> None:
    balance = Balance(2, 8)
    balance.failed(balance.sent(0, 0.0), 0.0, Fault(weight=CERTAIN, lasting=True))
    balance.failed(balance.sent(1, 0.0), 0.0, GONE)
    assert not balance.lasting
    assert {send(balance, 0.1).server for _ in range(8)} == {1}


def test_a_server_that_asked_for_a_wait_and_then_failed_is_still_left_alone() -> None:
    balance = Balance(2, 64)
    first, second, other = balance.sent(1, 0.0), balance.sent(1, 0.0), balance.sent(0, 0.0)
    balance.failed(first, 0.1, Fault(wait=30.0))
    balance.failed(second, 0.2, GONE)
    balance.failed(other, 0.3, GONE)
    assert balance.all_out
    assert balance.resumes_in(1.0) is None, "the other one can be tried"
    assert [balance.choose(now) for now in (1.0, 20.0)] == [0, 0]
    balance.failed(balance.sent(0, 20.0), 20.0, Fault(wait=5.0))
    balance.failed(balance.sent(0, 20.0), 20.0, GONE)
    assert balance.resumes_in(21.0) == pytest.approx(4.0)


def test_an_answer_during_a_wait_does_not_end_the_wait() -> None:
    """Simulation, seed 41583: a server was asked during its wait, since an answer showed that it works and the other was out."""
    balance = Balance(2, 64)
    refused, late, gone, other = (balance.sent(server, 0.0) for server in (0, 0, 0, 1))
    balance.failed(refused, 0.1, Fault(wait=30.0))
    balance.failed(gone, 0.2, GONE)
    balance.failed(other, 0.3, GONE)
    balance.answered(late, 0.4)
    assert (balance.is_out(0), balance.is_out(1)) == (False, True)
    assert [balance.choose(now) for now in (0.5, 0.9, 5.0, 29.0)] == [1, 1, 1, 1]
    assert balance.choose(30.2) in (0, 1)


def test_a_request_goes_where_it_has_not_failed_if_it_can() -> None:
    balance = Balance(3, 8)
    assert balance.choose(0.0, (0, 1)) == 2
    balance.failed(balance.sent(2, 0.0), 0.0, GONE)
    assert balance.choose(0.0, (0, 1)) in (0, 1)


def test_overload_shrinks_one_limit() -> None:
    balance = Balance(2, 64)
    assert balance.most_in_flight(0.0) == 128
    balance.failed(balance.sent(0, 0.0), 0.0, Fault(overload=True))
    assert balance.most_in_flight(0.0) == 96


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_counts_stay_whole_and_something_may_always_be_sent(seed: int) -> None:
    luck, balance, now = random.Random(seed), Balance(3, 8), 0.0
    flying: list[Ticket] = []
    for _ in range(3000):
        now += luck.choice((0.0, 0.01, 0.1, 2.0))
        most = balance.most_in_flight(now)
        assert most >= 1
        if len(flying) < most and luck.random() < 0.6:
            flying.append(send(balance, now, tuple(luck.sample(range(3), luck.randrange(3)))))
        elif flying:
            ticket = flying.pop(luck.randrange(len(flying)))
            end = luck.randrange(6)
            if end < 2:
                balance.answered(ticket, now)
            elif end == 2:
                balance.replied(ticket, now)
            elif end == 3:
                balance.dropped(ticket)
            else:
                wait = luck.choice((None, None, 0.5, 30.0))
                fault = Fault(luck.choice((0, 1, CERTAIN)), luck.random() < 0.5, wait, luck.random() < 0.2)
                balance.failed(ticket, now, fault)
        tries = [ticket.server for ticket in flying if ticket.tries]
        assert len(tries) == len(set(tries)), "two requests try one server at once"
        assert sum(server.limiter.in_flight for server in balance._servers) == len(flying)
