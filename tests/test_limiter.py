"""How many requests are in flight: full width at once, halves on evidence, grows back, no storm after a pause."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepsynth.teachers.adaptive_concurrency import AdaptiveConcurrency


def round_trip(limiter: AdaptiveConcurrency, seconds: float = 1.0, refused: int = 0) -> int:
    """Send what may be sent, refuse some of it, answer the rest; return how many were sent."""
    numbers = []
    while limiter.room:
        numbers.append(limiter.sent())
    for place, number in enumerate(numbers):
        if place < refused:
            limiter.refused(number)
        else:
            limiter.answered(number, seconds)
    assert limiter.in_flight == 0
    return len(numbers)


@pytest.mark.parametrize("most", [1, 7, 64, 256])
def test_a_server_that_can_take_it_sees_full_width_from_the_first_round_trip(most: int) -> None:
    limiter = AdaptiveConcurrency(most)
    assert [round_trip(limiter) for _ in range(3)] == [most] * 3


@pytest.mark.parametrize("refused", [1, 20, 64])
def test_a_round_trip_with_refusals_halves_once_however_many_there_are(refused: int) -> None:
    limiter = AdaptiveConcurrency(64)
    numbers = [limiter.sent() for _ in range(64)]
    for number in numbers[:refused]:
        limiter.refused(number)
    assert (limiter.limit, limiter.cuts) == (32, 1)


def test_each_further_round_trip_with_refusals_halves_again_down_to_one() -> None:
    limiter = AdaptiveConcurrency(64)
    seen = []
    for _ in range(8):
        sent = round_trip(limiter, refused=1_000)
        seen.append(sent)
    assert seen == [64, 32, 16, 8, 4, 2, 1, 1]


def test_what_was_sent_before_a_halving_tells_nothing_new() -> None:
    limiter = AdaptiveConcurrency(8)
    before = [limiter.sent() for _ in range(8)]
    limiter.refused(before[0])
    for number in before[1:7]:
        limiter.refused(number)
    after = limiter.sent()
    limiter.refused(before[7])
    assert limiter.limit == 4
    limiter.refused(after)
    assert limiter.limit == 2


@pytest.mark.parametrize("most", [4, 64, 1024])
def test_it_grows_back_by_a_fixed_share_per_round_trip(most: int) -> None:
    limiter = AdaptiveConcurrency(most)
    round_trip(limiter, refused=1)
    halved = limiter.limit
    seen = [halved]
    while limiter.limit < most and len(seen) < 100:
        round_trip(limiter)
        seen.append(limiter.limit)
    step = max(1, most // 16)
    # What is answered while it grows already counts by the larger width.
    assert all(0 <= later - earlier <= step for earlier, later in pairwise(seen))
    assert seen[-1] == most
    assert len(seen) <= 12


def test_it_does_not_grow_while_answers_come_slower_than_they_used_to() -> None:
    limiter = AdaptiveConcurrency(64)
    for _ in range(3):
        round_trip(limiter, seconds=1.0)
    round_trip(limiter, seconds=1.0, refused=1)
    width = limiter.limit
    for _ in range(3):
        round_trip(limiter, seconds=5.0)
    slow = limiter.limit
    assert slow <= width + 4, "only until the slowness is noticed"
    for _ in range(20):
        round_trip(limiter, seconds=1.0)
    assert limiter.limit == 64


def test_answers_that_became_longer_for_good_do_not_hold_it_down_for_ever() -> None:
    limiter = AdaptiveConcurrency(64)
    round_trip(limiter, seconds=1.0)
    round_trip(limiter, seconds=5.0, refused=1)
    for _ in range(60):
        round_trip(limiter, seconds=5.0)
    assert limiter.limit == 64


def test_slowness_alone_never_shrinks_it() -> None:
    limiter = AdaptiveConcurrency(64)
    for trip in range(10):
        round_trip(limiter, seconds=1.0 + trip)
    assert limiter.limit == 64


def test_after_a_pause_it_starts_with_one_request_and_doubles_up_to_where_it_was_halved_to() -> None:
    limiter = AdaptiveConcurrency(64)
    round_trip(limiter, refused=1)
    width = limiter.limit
    limiter.restart()
    seen = [round_trip(limiter) for _ in range(7)]
    assert width == 32
    assert seen == [1, 2, 4, 8, 16, 32, 35], "from there on by steps again"


def test_a_failure_that_says_nothing_of_load_changes_nothing() -> None:
    limiter = AdaptiveConcurrency(8)
    for _ in range(50):
        limiter.sent()
        limiter.ended()
    assert (limiter.limit, limiter.in_flight, limiter.cuts) == (8, 0, 0)


@given(most=st.integers(1, 300), events=st.lists(st.sampled_from("ansrp"), max_size=300))
def test_the_limit_stays_between_one_and_full_width_whatever_happens(most: int, events: list[str]) -> None:
    limiter, out = AdaptiveConcurrency(most), []
    for event in events:
        if event == "s" and limiter.room:
            out.append(limiter.sent())
        elif event == "p":
            limiter.restart()
        elif out:
            number = out.pop(0)
            if event == "a":
                limiter.answered(number, 0.5)
            elif event == "n":
                limiter.ended()
            elif event == "r":
                limiter.refused(number)
            else:
                out.append(number)
        assert 1 <= limiter.limit <= most
        assert limiter.in_flight == len(out)
