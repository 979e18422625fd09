"""The rest of a plan is planned and looked up while its first requests are in flight: nothing else differs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stepsynth.config import BudgetConfig
from stepsynth.errors import BudgetError, RunError
from stepsynth.filters import FilterPipeline
from stepsynth.filters.balance import LabelQuota
from stepsynth.filters.duplicate import Duplicate
from stepsynth.filters.schema import Schema
from stepsynth.generation import StageGenerator, client, live
from stepsynth.generation.planned import Planned
from stepsynth.generation.waves import next_wave
from stepsynth.journal import AnswerStore, Journal, Row
from stepsynth.runtime.progress import SilentProgress
from stepsynth.types import Request, Response
from test_executor import Plan
from test_executor_live import Server, executor, requests


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_LOOKED_UP_AT_ONCE", 4)
    monkeypatch.setattr(live, "_FED_AT_ONCE", 6)
    monkeypatch.setattr(live, "_PLANNED_AT_ONCE", 2)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db", AnswerStore.shared(tmp_path / "answers.db"))
    yield journal
    journal.close()


def test_the_first_request_is_on_its_way_before_the_last_is_planned(journal: Journal) -> None:
    server, planned_then = Server(turns=1), []

    def source() -> Iterator[Request]:
        for request in requests(100):
            planned_then.append(len(server.sent))
            yield request

    wave = Planned(source(), 100)
    found = executor(server, journal).run(wave)
    assert planned_then[0] == planned_then[3] == 0
    assert planned_then[-1] > 0
    assert server.sent == list(range(100)), "in plan order"
    assert len(found) == len(wave.made) == 100


@pytest.mark.parametrize("stored", [1, 3, 4, 10, 20])
def test_failures_among_stored_answers_are_told_once_wherever_a_plan_ends(tmp_path: Path, stored: int) -> None:
    """Four requests are looked up first, then six at a time: 4 and 10 end with a whole part."""
    plan = requests(stored)
    failure = Response("", raw=json.dumps({"error": {"message": "overloaded", "code": 503}}))
    notes: list[str] = []
    shared = AnswerStore.shared(tmp_path / "answers.db")
    with closing(Journal(tmp_path / "journal.db", shared)) as journal:
        client = executor(Server(), journal, note=notes.append)
        shared.insert([(client.key(request), request, failure) for request in plan], client.identity, "before")
        assert len(client.run(plan)) == stored
    assert notes == [f"{stored} stored answers were in fact failures: they are asked for again."]


@pytest.mark.parametrize("known", [range(8), range(40, 60), range(0, 100, 2), range(100)], ids=["first", "later", "some", "all"])
def test_what_is_known_is_not_sent_wherever_it_stands(journal: Journal, known: range) -> None:
    plan = requests(100)
    executor(Server(), journal).run([plan[number] for number in known])
    server, told = Server(), []
    found = executor(server, journal).run(plan, lambda answers: told.append(len(answers)))
    assert sorted(server.sent) == sorted(set(range(100)) - set(known))
    assert len(found) == told[-1] == 100
    assert told == sorted(told)


def test_an_answer_of_another_run_is_copied_while_others_are_in_flight(journal: Journal, tmp_path: Path) -> None:
    other = Journal(tmp_path / "other.db", AnswerStore.shared(tmp_path / "answers.db"))
    executor(Server(), other).run(requests(30, first=50))
    other.close()
    server = Server()
    assert len(executor(server, journal).run(requests(100))) == 100
    assert sorted(server.sent) == [*range(50), *range(80, 100)]
    assert journal.totals().from_cache == 30


def test_equal_requests_far_from_each_other_are_sent_once(journal: Journal) -> None:
    server = Server()
    found = executor(server, journal).run([*requests(60), *requests(60)])
    assert Counter(server.sent) == Counter(range(60))
    assert len(found) == 60


@pytest.mark.parametrize("cap", [1, 8, 9, 33])
def test_a_cap_is_reached_and_not_exceeded(journal: Journal, cap: int) -> None:
    server = Server()
    with pytest.raises(BudgetError):
        executor(server, journal, budget=BudgetConfig(requests=cap)).run(requests(100))
    assert len(server.sent) == cap
    assert journal.ledger.sent == cap
    assert journal.ledger.open.sends == 0


def test_a_plan_that_breaks_half_way_ends_the_run_and_costs_no_answer(journal: Journal) -> None:
    def source() -> Iterator[Request]:
        yield from requests(30)
        raise RunError("no more requests.")

    server = Server()
    with pytest.raises(RunError, match="no more requests"):
        executor(server, journal).run(Planned(source(), 100))
    assert journal.totals().requests == len(server.sent) >= 8


def test_a_stage_has_the_same_rows_in_whichever_chunks_it_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(name: str) -> tuple[list[Row], list[int]]:
        server, journal = Server(), Journal(tmp_path / f"{name}.db")
        plan = Plan({"kalm": 40, "rund": 25})
        rules = FilterPipeline((Schema(), Duplicate(), LabelQuota(plan.targets)))
        generator = StageGenerator(executor(server, journal), journal, max_overgeneration=3.0, progress=SilentProgress())
        generator.run(plan, 0, rules, [])
        rows = journal.rows()
        journal.close()
        return rows, server.sent

    rows, sent = written("small")
    monkeypatch.setattr(client, "_LOOKED_UP_AT_ONCE", 10_000)
    assert (rows, sent) == written("whole")
    assert Counter(row.reason for row in rows)["duplicate"] > 0


def test_a_wave_is_a_sequence_that_makes_what_is_asked_for() -> None:
    plan, asked = Plan({"kalm": 5, "rund": 3}), Counter[str]()
    wave = next_wave(plan, [], asked, 6.0)
    assert [request.label for request in wave[:4]] == ["kalm", "rund", "kalm", "rund"]
    lazy = Planned(iter(wave), len(wave))
    assert (lazy[1], len(lazy.made), lazy[1:3], len(lazy.made)) == (wave[1], 2, wave[1:3], 3)
    assert list(lazy) == lazy.made == wave
    assert asked == {"kalm": 6, "rund": 4}
