"""The journal's side of dispatching alone: what a commit holds, when one is due, and what a failed one leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from stepsynth.config import BudgetConfig, TeacherConfig
from stepsynth.errors import PermanentError, RunError, TeacherError
from stepsynth.generation.budget import BudgetGuard
from stepsynth.generation.committer import COMMIT_AT, COMMIT_EVERY_S, Committer
from stepsynth.generation.room import RoomWatch
from stepsynth.journal import Cost, Ledger
from stepsynth.teachers.prices import Price
from stepsynth.types import Message, Request, Response, Sampling, Usage

ASK = Request((Message("user", "Write."),), Sampling(), 0, "round-0/seed", 0, "kalm")


@dataclass
class Paper:
    """A journal that remembers what it was given, and what its ledger said then."""

    takes: float = 0.0
    broken: bool = False
    answers: list[tuple[str, Request, Response]] = field(default_factory=list)
    ledgers: list[Ledger] = field(default_factory=list)
    clock: list[float] = field(default_factory=lambda: [0.0])

    def commit_answers(
        self,
        answers: Sequence[tuple[str, Request, Response]],
        teacher: dict[str, object],
        *,
        ledger: Ledger,
        also: Callable[[], None] | None = None,
    ) -> None:
        self.commit_ledger(ledger)
        self.answers += answers
        if also is not None:
            also()

    def commit_ledger(self, ledger: Ledger) -> None:
        self.clock[0] += self.takes
        if self.broken:
            raise RunError("the disk is full.")
        self.ledgers.append(ledger)


@dataclass
class Desk:
    """A committer and all that it works with."""

    paper: Paper
    budget: BudgetGuard
    committer: Committer
    known: dict[str, Response | TeacherError]
    told: list[int]

    def add(self, number: int, first: int = 0) -> None:
        for n in range(first, first + number):
            self.committer.add(f"{n}", ASK, Response(f"Text {n}.", usage=Usage(3, 6)))


@pytest.fixture
def desk() -> Desk:
    config = TeacherConfig(backend="openai", base_url="http://127.0.0.1:9/v1", concurrency=8)
    paper, told, known = Paper(), list[int](), dict[str, Response | TeacherError]()
    budget = BudgetGuard(config, Ledger(), BudgetConfig(requests=20), Price(1e6, 2e6))
    journal: Any = paper
    committer = Committer(
        *(journal, {}, budget, RoomWatch(config)),
        clock=lambda: paper.clock[0],
        known=known,
        told=lambda: told.append(len(known)),
    )
    return Desk(paper, budget, committer, known, told)


def test_an_answer_is_told_of_when_it_is_durable_and_not_before(desk: Desk) -> None:
    desk.add(3)
    assert desk.known == {}
    group = desk.committer.prepare()
    assert desk.known == {}
    desk.committer.write(group)
    assert (len(desk.paper.answers), desk.told) == (3, [])
    desk.committer.confirm(group)
    assert desk.told == [3]
    assert list(desk.known) == ["0", "1", "2"]


def test_price_and_count_are_those_of_the_commit_that_holds_the_answer(desk: Desk) -> None:
    desk.add(2)
    group = desk.committer.prepare()
    desk.add(3, first=2)
    desk.committer.write(group)
    desk.committer.confirm(group)
    assert desk.paper.ledgers[-1].answers == len(desk.paper.answers) == 2
    assert [response.usage.cost_usd for _, _, response in desk.paper.answers] == [15.0, 15.0]
    desk.committer.commit()
    assert desk.paper.ledgers[-1].answers == len(desk.paper.answers) == 5


def test_what_a_failed_commit_held_is_in_the_next_one_and_nothing_may_be_sent_on_it(desk: Desk) -> None:
    desk.add(2)
    desk.paper.broken = True
    with pytest.raises(RunError):
        desk.committer.commit(5)
    assert not desk.budget.begin(Cost(1))
    assert desk.known == {}
    desk.add(1, first=2)
    desk.paper.broken = False
    desk.committer.commit(5)
    assert [key for key, _, _ in desk.paper.answers] == ["0", "1", "2"]
    assert desk.budget.begin(Cost(1))


def test_what_is_reserved_is_in_the_ledger_before_it_may_be_used(desk: Desk) -> None:
    cost = desk.budget.cost([ASK])
    assert not desk.budget.begin(cost)
    group = desk.committer.prepare(3)
    assert not desk.budget.begin(cost)
    desk.committer.write(group)
    desk.committer.confirm(group)
    assert desk.paper.ledgers[-1].open.sends == 3
    assert [desk.budget.begin(cost) for _ in range(4)] == [True, True, True, False]


def test_what_is_sent_while_a_commit_is_on_its_way_is_covered_by_either(desk: Desk) -> None:
    """Whichever of the two a killed process leaves behind."""
    cost = desk.budget.cost([ASK])
    desk.committer.commit(8)
    for _ in range(5):
        assert desk.budget.begin(cost)
    group = desk.committer.prepare(2)
    sent = 5
    while desk.budget.begin(cost):
        sent += 1
    assert sent == 7
    for ledger in (desk.paper.ledgers[-1], group.ledger):
        assert ledger.open.sends >= sent


def test_the_last_commit_reserves_nothing(desk: Desk) -> None:
    desk.committer.commit(8)
    desk.committer.commit()
    assert desk.paper.ledgers[-1].open == Cost()


def test_nothing_new_is_no_transaction(desk: Desk) -> None:
    desk.add(1)
    desk.committer.commit()
    assert not desk.committer.pending
    desk.committer.commit()
    assert len(desk.paper.ledgers) == 1


def test_a_full_group_is_due_and_so_is_an_old_one(desk: Desk) -> None:
    desk.add(COMMIT_AT - 1)
    assert not desk.committer.due
    desk.add(1, first=COMMIT_AT - 1)
    assert desk.committer.due
    assert not desk.committer.old
    desk.committer.commit()
    desk.add(1, first=COMMIT_AT)
    assert not desk.committer.due
    desk.paper.clock[0] += COMMIT_EVERY_S
    assert desk.committer.due
    assert desk.committer.old


def test_a_slow_journal_rests_between_full_groups(desk: Desk) -> None:
    desk.paper.takes = 0.008
    desk.committer.commit(1)
    desk.add(COMMIT_AT)
    assert not desk.committer.due
    desk.paper.clock[0] += 0.2
    assert desk.committer.due, "it has taken a twenty-fifth of the time"


def test_a_final_error_is_known_at_once(desk: Desk) -> None:
    error = PermanentError("no")
    desk.committer.give_up(["a", "b"], error)
    assert desk.known == {"a": error, "b": error}
    assert desk.paper.ledgers == []


def test_an_answer_that_cannot_be_read_is_kept_all_the_same(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RoomWatch, "saw", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        desk.add(1)
    desk.committer.commit()
    assert list(desk.known) == ["0"]


def test_more_within_the_transaction_fails_with_it(desk: Desk) -> None:
    def defect() -> None:
        raise ZeroDivisionError

    desk.add(1)
    with pytest.raises(ZeroDivisionError):
        desk.committer.commit(also=defect)
    assert desk.known == {}
    assert desk.committer.pending
