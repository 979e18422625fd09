"""The client: journal first, one retry owner, hard caps, exact rows, the same data set in any order of answers."""

from __future__ import annotations

import gc
import random
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stepsynth.config import BudgetConfig, MatchConfig, TeacherConfig, parse_config
from stepsynth.errors import BudgetError, ConfigError, PermanentError, RunError, TransientError
from stepsynth.filters import FilterPipeline
from stepsynth.filters.balance import LabelQuota
from stepsynth.filters.duplicate import Duplicate
from stepsynth.filters.row_filters import RowFilterBase
from stepsynth.filters.schema import Schema
from stepsynth.generation import StageGenerator, TeacherClient, ask_sample
from stepsynth.journal import AnswerStore, Journal, Row
from stepsynth.runtime.progress import SilentProgress
from stepsynth.teachers.fake import FakeTeacher, gold_text
from stepsynth.types import Candidate, Example, Message, Request, Response, Sampling, Usage, Verdict

LABELS = ("kalm", "rund", "spitz")
Script = Callable[[Request], Response | Exception]


@dataclass(frozen=True)
class Plan:
    """Independent requests, told apart by their number."""

    targets: Mapping[str, int]
    stage: str = "round-0/seed"
    kind: str = "seed"
    prompt: str = "Write about"
    max_tokens: int = 64

    def request(self, label: str, number: int, index: int) -> Request:
        messages = (Message("user", f"{self.prompt} {label}."),)
        return Request(messages, Sampling(max_tokens=self.max_tokens), number, self.stage, index, label)


@dataclass
class Desk:
    """A journal, a teacher and what connects them."""

    path: Path
    shared: Path | None = None
    pauses: list[float] = field(default_factory=list)

    def journal(self) -> Journal:
        return Journal(self.path, AnswerStore.shared(self.shared) if self.shared else None)

    def executor(
        self,
        teacher: object,
        journal: Journal,
        *,
        budget: BudgetConfig | None = None,
        jitter: random.Random | None = None,
        pause: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        **config: Any,
    ) -> TeacherClient:
        settings = {"backend": "fake", "concurrency": 8, "attempts": 4, **config}
        how: dict[str, Any] = {"teacher": teacher, "pause": pause or self.pauses.append, "clock": clock, "jitter": jitter}
        return TeacherClient(TeacherConfig(**settings), journal, budget or BudgetConfig(), **how)

    def stage(
        self,
        teacher: object,
        plan: Plan,
        pipeline: FilterPipeline | None = None,
        *,
        limit: float = 6.0,
        match: MatchConfig | None = None,
        **options: object,
    ) -> list[Row]:
        """Run a stage and return all its rows."""
        journal = self.journal()
        try:
            client = self.executor(teacher, journal, **options)  # type: ignore[arg-type]
            rules = pipeline or FilterPipeline((Schema(), Duplicate(), LabelQuota(plan.targets)))
            generator = StageGenerator(client, journal, max_overgeneration=limit, progress=SilentProgress(), match=match)
            generator.run(plan, 0, rules, [])
            return journal.rows()
        finally:
            journal.close()

    def committed(self) -> set[str]:
        journal = self.journal()
        rows = journal._connection.execute("SELECT key FROM answers").fetchall()
        journal.close()
        return {key for (key,) in rows}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "journal.db")


def numbered(request: Request) -> Response:
    """Answer with a text that no other request gets."""
    return Response(f"A text number {request.replicate} of {request.label}.", usage=Usage(3, 6, 0.0))


def requests(count: int, label: str = "kalm") -> list[Request]:
    plan = Plan({label: count})
    return [plan.request(label, number, number) for number in range(count)]


def only(text: Script = numbered, **options: object) -> FakeTeacher:
    return FakeTeacher(text, blemishes={}, **options)  # type: ignore[arg-type]


# what is known ---------------------------------------------------------------------------------


def test_a_known_answer_costs_nothing(desk: Desk) -> None:
    first, second = only(), only()
    journal = desk.journal()
    answers = desk.executor(first, journal).run(requests(20))
    assert desk.executor(second, journal).run(requests(25)) | answers == desk.executor(second, journal).run(requests(25))
    assert (len(first.calls), len(second.calls)) == (20, 5)
    journal.close()


def test_equal_requests_are_sent_once(desk: Desk) -> None:
    teacher, journal = only(), desk.journal()
    assert len(desk.executor(teacher, journal).run([*requests(5), *requests(5)])) == 5
    assert len(teacher.calls) == 5
    journal.close()


def test_two_runs_share_their_answers(tmp_path: Path) -> None:
    first, second = FakeTeacher(), FakeTeacher()
    plan = Plan({"kalm": 10, "rund": 10})
    rows = Desk(tmp_path / "a.db", tmp_path / "shared.db").stage(first, plan)
    desk = Desk(tmp_path / "b.db", tmp_path / "shared.db")
    assert desk.stage(second, plan) == rows
    assert first.calls
    assert second.calls == []
    journal = desk.journal()
    assert journal.totals().from_cache == journal.totals().requests == len(set(first.calls))
    journal.close()


def test_a_longer_limit_asks_again_for_truncated_answers_only(tmp_path: Path) -> None:
    shared = tmp_path / "shared.db"
    short, long = FakeTeacher(blemishes={}), FakeTeacher(blemishes={})
    journal = Desk(tmp_path / "a.db", shared).journal()
    plan = Plan({"kalm": 40}, max_tokens=11)
    answers = Desk(tmp_path / "a.db").executor(short, journal).run([plan.request("kalm", i, i) for i in range(40)])
    journal.close()
    cut = {key for key, answer in answers.items() if isinstance(answer, Response) and answer.finish_reason == "length"}
    assert 0 < len(cut) < 40
    journal = Desk(tmp_path / "b.db", shared).journal()
    longer = Plan({"kalm": 40}, max_tokens=64)
    again = Desk(tmp_path / "b.db").executor(long, journal).run([longer.request("kalm", i, i) for i in range(40)])
    journal.close()
    assert set(long.calls) == cut
    assert all(isinstance(answer, Response) and answer.finish_reason == "stop" for answer in again.values())


def test_another_prompt_reuses_nothing(tmp_path: Path) -> None:
    shared, teacher = tmp_path / "shared.db", only()
    Desk(tmp_path / "a.db", shared).stage(teacher, Plan({"kalm": 10}))
    asked = len(teacher.calls)
    Desk(tmp_path / "b.db", shared).stage(teacher, Plan({"kalm": 10}, prompt="Please write about"))
    assert len(teacher.calls) == 2 * asked == len(set(teacher.calls))


def test_answers_are_committed_before_they_are_parsed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """R5: a parser that fails costs no answer, those in flight included."""

    def broken(*_: object, **__: object) -> str:
        raise ZeroDivisionError("a parser with a defect")

    first, second = only(latency=0.002), only()
    plan = Plan({"kalm": 100, "rund": 100})
    with monkeypatch.context() as patch:
        patch.setattr("stepsynth.generation.candidates.clean", broken)
        with pytest.raises(ZeroDivisionError):
            desk.stage(first, plan)
    assert first.calls
    assert desk.committed() == set(first.calls)
    rows = desk.stage(second, plan)
    assert not set(first.calls) & set(second.calls)
    assert sum(not row.reason for row in rows) == 200


def test_a_second_run_after_a_parsing_failure_sends_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = only(), only()
    plan = Plan({"kalm": 30})
    with monkeypatch.context() as patch:
        patch.setattr("stepsynth.generation.preview.Preview.show", lambda *_: None)
        patch.setattr("stepsynth.generation.candidates.clean", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            desk.stage(first, plan)
    rows = desk.stage(second, plan)
    assert sum(not row.reason for row in rows) == 30
    assert second.calls == []


# attempts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 4])
def test_a_request_that_always_fails_gets_all_attempts_and_no_more_and_the_stage_goes_on(desk: Desk, attempts: int) -> None:
    """R6."""
    teacher = only(lambda r: TransientError("busy") if r.replicate == 3 else numbered(r))
    rows = desk.stage(teacher, Plan({"kalm": 10}), attempts=attempts)
    counts = Counter(teacher.calls)
    (failed,) = [row for row in rows if row.reason == "failed"]
    assert failed.position == 3
    assert counts.pop(failed.key) == attempts
    assert set(counts.values()) == {1}
    assert sum(not row.reason for row in rows) == 10


def test_a_refused_request_gets_one_attempt(desk: Desk) -> None:
    teacher = only(lambda r: PermanentError("refused") if r.replicate == 3 else numbered(r))
    rows = desk.stage(teacher, Plan({"kalm": 10}), concurrency=1)
    assert [row.position for row in rows if row.reason == "failed"] == [3]
    assert set(Counter(teacher.calls).values()) == {1}


@pytest.mark.parametrize(("attempts", "sent"), [(1, 10), (3, 30)])
def test_ten_failed_requests_in_a_row_end_the_run_with_the_error(desk: Desk, attempts: int, sent: int) -> None:
    teacher, journal = only(lambda _: TransientError("the server is down")), desk.journal()
    with pytest.raises(TransientError, match="the server is down"):
        desk.executor(teacher, journal, concurrency=1, attempts=attempts).run(requests(40))
    assert len(teacher.calls) == sent
    journal.close()


def test_failures_with_answers_between_do_not_end_the_run(desk: Desk) -> None:
    teacher, journal = only(lambda r: numbered(r) if r.replicate % 9 == 0 else TransientError("busy")), desk.journal()
    answers = desk.executor(teacher, journal, concurrency=1, attempts=1).run(requests(60))
    assert sum(isinstance(answer, Response) for answer in answers.values()) == 7
    journal.close()


def test_a_wrong_key_ends_the_run_at_the_first_request(desk: Desk) -> None:
    teacher, journal = only(lambda _: PermanentError("wrong key")), desk.journal()
    with pytest.raises(PermanentError, match="wrong key"):
        desk.executor(teacher, journal, concurrency=1).run(requests(40))
    assert len(teacher.calls) == 1
    journal.close()


@pytest.mark.parametrize(("asked", "low", "high"), [(7.0, 7.0, 8.75), (900.0, 900.0, 1125.0), (9e9, 3600.0, 4500.0)])
def test_the_pause_is_what_the_server_asked_for_up_to_an_hour(desk: Desk, asked: float, low: float, high: float) -> None:
    """R8."""
    teacher, journal = only(lambda _: TransientError("busy", retry_after=asked)), desk.journal()
    desk.executor(teacher, journal, attempts=4).run(requests(1))
    assert len(desk.pauses) == 4, "the last failure's pause is for the others"
    assert all(low <= pause <= high for pause in desk.pauses)
    journal.close()


class Latest(random.Random):
    """The longest of all pauses."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.mark.parametrize("asked", [None, 0.0])
def test_without_a_word_from_the_server_pauses_may_double_and_differ(desk: Desk, asked: float | None) -> None:
    """Full jitter: anything between nothing and the doubled pause."""
    teacher, journal = only(lambda _: TransientError("busy", retry_after=asked)), desk.journal()
    desk.executor(teacher, journal, concurrency=1, attempts=9, jitter=Latest()).run(requests(1))
    assert desk.pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]
    desk.pauses.clear()
    desk.executor(teacher, journal, concurrency=1, attempts=9, jitter=random.Random(1)).run(requests(1))
    assert all(0 <= pause <= most for pause, most in zip(desk.pauses, (0.5, 1, 2, 4, 8, 16, 32, 60), strict=True))
    assert len(set(desk.pauses)) == 8
    journal.close()


def test_a_faulty_teacher_gives_the_same_rows_as_a_sound_one(tmp_path: Path) -> None:
    """R4, in process; with enough attempts transient faults change nothing."""
    plan = Plan(dict.fromkeys(LABELS, 15))
    calm = Desk(tmp_path / "calm.db").stage(FakeTeacher(), plan, attempts=20)
    faulty = FakeTeacher(faults={"transient": 0.3})
    assert Desk(tmp_path / "faulty.db").stage(faulty, plan, attempts=20) == calm
    assert len(faulty.calls) > len(set(faulty.calls))


# caps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transient", [0.0, 0.3, 0.6])
def test_the_cap_on_requests_is_never_overshot_and_a_larger_one_goes_on(desk: Desk, transient: float) -> None:
    """R9: second attempts count, whichever request they belong to."""
    latency = random.Random(0)
    teacher = only(faults={"transient": transient}, latency=lambda _: latency.random() / 500)
    journal = desk.journal()
    with pytest.raises(BudgetError, match="raise budget"):
        desk.executor(teacher, journal, concurrency=32, attempts=20, budget=BudgetConfig(requests=100)).run(requests(150))
    assert len(teacher.calls) == 100
    before = journal.totals().requests
    assert before == 100 if transient == 0.0 else 0 < before < 100
    answers = desk.executor(teacher, journal, concurrency=32, attempts=20, budget=BudgetConfig(requests=9_999)).run(requests(150))
    assert len(answers) == 150 == journal.totals().requests
    if transient == 0.0:
        assert len(teacher.calls) == 150
    journal.close()


def test_a_cap_that_is_just_enough_is_no_error(desk: Desk) -> None:
    teacher, journal = only(), desk.journal()
    assert len(desk.executor(teacher, journal, budget=BudgetConfig(requests=20)).run(requests(20))) == 20
    journal.close()


# What a request of this file reserves: 17 bytes, 8 for the message, 16 for the prompt, 64 for the answer.
WORST = 17 + 8 + 16 + 64


@pytest.mark.parametrize("concurrency", [1, 4, 32])
def test_the_cap_on_tokens_is_reached_but_never_passed(desk: Desk, concurrency: int) -> None:
    """R9: the last requests go out one by one, each as soon as it is sure to fit."""
    teacher, journal = only(latency=0.001), desk.journal()
    with pytest.raises(BudgetError, match=r"of 400 tokens; the next request may take 105 tokens.*raise budget.tokens"):
        desk.executor(teacher, journal, concurrency=concurrency, budget=BudgetConfig(tokens=400)).run(requests(50))
    totals = journal.totals()
    assert totals.requests == (400 - WORST) // 9 + 1
    assert totals.bought_tokens <= 400
    with pytest.raises(BudgetError):
        desk.executor(teacher, journal, concurrency=concurrency, budget=BudgetConfig(tokens=409)).run(requests(50))
    assert journal.totals().requests == totals.requests + 1
    journal.close()


def test_a_cap_that_no_request_fits_sends_nothing(desk: Desk) -> None:
    teacher, journal = only(), desk.journal()
    with pytest.raises(BudgetError, match="0 of 104 tokens; the next request may take 105 tokens"):
        desk.executor(teacher, journal, budget=BudgetConfig(tokens=104)).run(requests(5))
    assert teacher.calls == []
    journal.close()


def test_prompts_that_are_longer_on_the_server_are_reserved_for_once_seen(desk: Desk) -> None:
    """A template of 500 tokens that only the server knows: the first answer tells, one overshoot at most."""
    teacher, journal = only(lambda r: Response(f"Text {r.replicate}.", usage=Usage(500, 10))), desk.journal()
    with pytest.raises(BudgetError, match="may take 5"):
        desk.executor(teacher, journal, concurrency=1, budget=BudgetConfig(tokens=5_200)).run(requests(50))
    assert journal.totals().bought_tokens <= 5_200
    assert journal.totals().requests == 10
    journal.close()


PRICE = {"input": 1_000.0, "output": 10_000.0}  # dollars per million: a token costs a tenth of a cent, or one cent


def test_the_cap_on_dollars_is_reached_but_never_passed_and_answers_are_priced(desk: Desk) -> None:
    teacher, journal = only(lambda r: Response(f"Text {r.replicate}.", usage=Usage(3, 6))), desk.journal()
    worst = ((17 + 8 + 16) * 1_000 + 64 * 10_000) / 1e6
    with pytest.raises(BudgetError, match=rf"of \$2.0000; the next request may take \${worst:.4f}.*raise budget.usd"):
        desk.executor(teacher, journal, price=PRICE, budget=BudgetConfig(usd=2.0)).run(requests(50))
    totals = journal.totals()
    assert totals.requests == int((2.0 - worst) / 0.063) + 1
    assert totals.cost_usd == pytest.approx(0.063 * totals.requests)
    assert 1.0 < (totals.cost_usd or 0.0) <= 2.0
    journal.close()


def test_a_cost_that_the_teacher_told_stays(desk: Desk) -> None:
    teacher, journal = only(lambda r: Response("Text.", usage=Usage(3, 6, 0.5))), desk.journal()
    (answer,) = desk.executor(teacher, journal, price=PRICE).run(requests(1)).values()
    assert isinstance(answer, Response)
    assert answer.usage.cost_usd == journal.totals().cost_usd == 0.5
    journal.close()


def test_dollars_cannot_be_capped_where_the_price_is_unknown(desk: Desk) -> None:
    journal = desk.journal()
    unknown: dict[str, Any] = {"backend": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "nobody-knows"}
    with pytest.raises(ConfigError, match=r"budget.usd=3 cannot be enforced.*'nobody-knows'.*Set teacher.price"):
        desk.executor(only(), journal, budget=BudgetConfig(usd=3.0), **unknown)
    desk.executor(only(), journal, budget=BudgetConfig(usd=3.0), price=PRICE, **unknown)
    journal.close()


def test_answers_of_other_runs_are_not_bought(tmp_path: Path) -> None:
    shared = tmp_path / "shared.db"
    first = Desk(tmp_path / "a.db", shared)
    journal = first.journal()
    first.executor(only(), journal).run(requests(50))
    journal.close()
    second, teacher = Desk(tmp_path / "b.db", shared), only()
    for _ in range(2):
        journal = second.journal()
        second.executor(teacher, journal, budget=BudgetConfig(tokens=120, requests=3)).run(requests(50))
        assert len(second.executor(teacher, journal, budget=BudgetConfig(tokens=120, requests=3)).run(requests(51))) == 51
        journal.close()
    assert len(teacher.calls) == 1


# rows ------------------------------------------------------------------------------------------


def rules(plan: Plan) -> FilterPipeline:
    harvest = [Example(f"h{label}{i}", gold_text(label, i), label) for label in LABELS for i in range(10)]
    task = {"name": "t", "instruction": "Decide.", "labels": list(LABELS)}
    config = parse_config({"task": task, "data": {"validation": {"path": "v.csv"}}})
    return FilterPipeline.for_rows(config.task, harvest, harvest, plan.targets)


def test_every_label_gets_exactly_its_rows(desk: Desk) -> None:
    plan = Plan({"kalm": 40, "rund": 7, "spitz": 1})
    rows = desk.stage(FakeTeacher(), plan, rules(plan))
    assert Counter(row.label for row in rows if not row.reason) == plan.targets
    asked = Counter(row.label for row in rows)
    assert all(asked[label] <= 6 * target for label, target in plan.targets.items())
    assert [row.position for row in rows] == list(range(len(rows)))
    assert {row.reason for row in rows} > {"", "empty"}


def test_a_teacher_of_nothing_but_waste_ends_with_what_is_missing(desk: Desk) -> None:
    teacher = only(lambda _: Response(""))
    plan = Plan({"kalm": 10, "rund": 4})
    rows = desk.stage(teacher, plan, limit=2.5)
    assert Counter(row.label for row in rows) == {"kalm": 25, "rund": 10}
    assert {row.reason for row in rows} == {"empty"}
    assert len(teacher.calls) == 35
    journal = desk.journal()
    ((name, _, _, info, _),) = journal.stages()
    assert (name, info["missing"]) == ("round-0/seed", {"kalm": 10, "rund": 4})
    journal.close()


def test_a_finished_stage_is_not_run_again(desk: Desk) -> None:
    teacher = only()
    rows = desk.stage(teacher, Plan({"kalm": 5}))
    before = len(teacher.calls)
    assert desk.stage(teacher, Plan({"kalm": 50})) == rows
    assert len(teacher.calls) == before


def test_a_stage_cut_short_by_a_cap_goes_on_to_the_rows_of_an_uncut_one(tmp_path: Path) -> None:
    plan = Plan(dict.fromkeys(LABELS, 12))
    calm = Desk(tmp_path / "calm.db").stage(FakeTeacher(), plan, rules(plan))
    desk, teacher = Desk(tmp_path / "cut.db"), FakeTeacher()
    for cap in range(5, len(calm) + 5, 5):
        try:
            rows = desk.stage(teacher, plan, rules(plan), budget=BudgetConfig(requests=cap))
            break
        except BudgetError:
            assert len(teacher.calls) == cap
    assert rows == calm
    assert len(teacher.calls) == len(set(teacher.calls)) == len(calm)


def test_the_order_in_which_answers_come_changes_nothing(tmp_path: Path) -> None:
    """R17: rows are planned and judged in plan order."""
    plan = Plan(dict.fromkeys(LABELS, 12))
    outcomes, orders = [], set()
    for shuffle in range(20):
        rng = random.Random(shuffle)
        finished: list[str] = []

        def answer(request: Request, finished: list[str] = finished, fake: FakeTeacher = FakeTeacher()) -> Response:  # noqa: B008
            finished.append(request.label + str(request.replicate))
            return fake.answer(request)

        teacher = FakeTeacher(answer, latency=lambda _, rng=rng: rng.random() / 200)  # type: ignore[misc]
        outcomes.append(Desk(tmp_path / f"{shuffle}.db").stage(teacher, plan, rules(plan), concurrency=16))
        orders.add(tuple(finished))
    assert len(orders) == 20, "the shuffles did not shuffle"
    assert all(rows == outcomes[0] for rows in outcomes)


class Noting(RowFilterBase):
    """Lets everything pass and remembers what it saw, and how the collector was set."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.thresholds: set[tuple[int, int, int]] = set()

    def verdict(self, candidate: Candidate) -> Verdict:
        self.seen.append(candidate.row.key)
        self.thresholds.add(gc.get_threshold())
        return Verdict(candidate)


def test_a_rule_that_needs_no_other_row_sees_each_row_once_although_they_are_judged_as_they_come(desk: Desk) -> None:
    rule, plan = Noting(), Plan({"kalm": 200, "rund": 200})
    rows = desk.stage(only(), plan, FilterPipeline((rule, Duplicate(), LabelQuota(plan.targets))), limit=1.0)
    assert len(rows) == len(rule.seen) == len(set(rule.seen)) == 400


def test_the_collector_is_set_back_after_a_stage_and_stays_off_where_it_was_off(desk: Desk, tmp_path: Path) -> None:
    def refuse(request: Request) -> Response:
        raise PermanentError("no such model")

    before, rule = gc.get_threshold(), Noting()
    desk.stage(only(), Plan({"kalm": 5}), FilterPipeline((rule,)), limit=1.0)
    assert {young for young, *_ in rule.thresholds} == {max(before[0], 20_000)}
    assert gc.get_threshold() == before
    with pytest.raises(PermanentError):
        Desk(tmp_path / "other.db").stage(only(refuse), Plan({"kalm": 5}))
    assert gc.get_threshold() == before
    off = Noting()
    try:
        gc.set_threshold(0)
        Desk(tmp_path / "off.db").stage(only(), Plan({"kalm": 5}), FilterPipeline((off,)), limit=1.0)
        assert {young for young, *_ in off.thresholds} == {0}
    finally:
        gc.set_threshold(*before)


# a stage that goes on until something is used up -----------------------------------------------------


ALL = FilterPipeline((Schema(), Duplicate()))


def matched(desk: Desk, unit: str, amount: float, plan: Plan, script: Script = numbered) -> list[Row]:
    match = MatchConfig(unit=unit, amount=amount)  # type: ignore[arg-type]
    return desk.stage(only(script), plan, ALL, match=match)


@pytest.mark.parametrize("amount", [1, 7, 64, 700])
def test_a_matched_stage_uses_up_exactly_the_requests_and_asks_labels_in_proportion(desk: Desk, amount: int) -> None:
    rows = matched(desk, "requests", amount, Plan({"kalm": 3, "rund": 1}))
    assert len(rows) == amount
    assert [row.position for row in rows] == list(range(amount))
    assert abs(sum(row.label == "kalm" for row in rows) - 0.75 * amount) <= 1
    journal = desk.journal()
    assert journal.spent("round-0/seed").requests == amount
    journal.close()


def test_a_matched_stage_counts_what_was_dropped_too(desk: Desk) -> None:
    rows = matched(desk, "requests", 50, Plan({"kalm": 2}), lambda r: Response("" if r.replicate % 2 else f"Row {r.replicate}."))
    assert Counter(row.reason for row in rows) == {"": 25, "empty": 25}


@pytest.mark.parametrize("price", [lambda n: 4 + n % 11, lambda n: 2 if n < 64 else 90], ids=["uneven", "dear all at once"])
def test_tokens_are_overshot_by_less_than_one_answer(desk: Desk, price: Callable[[int], int]) -> None:
    def uneven(request: Request) -> Response:
        return Response(f"Text {request.replicate} of it.", usage=Usage(1, price(request.replicate) - 1))

    rows = matched(desk, "tokens", 1000, Plan({"kalm": 1}), uneven)
    took = [price(number) for number in range(len(rows))]
    assert 1000 <= sum(took) < 1000 + took[-1]


def test_dollars_are_counted_where_a_price_is_known(desk: Desk) -> None:
    rows = matched(desk, "usd", 1.0, Plan({"kalm": 1}), lambda r: Response(f"Text {r.replicate}.", usage=Usage(1, 1, 0.125)))
    assert len(rows) == 8


@pytest.mark.parametrize("price", [None, 0.0])
def test_dollars_without_a_price_cannot_be_matched(desk: Desk, price: float | None) -> None:
    with pytest.raises(RunError, match="price is unknown or zero"):
        matched(desk, "usd", 1.0, Plan({"kalm": 1}), lambda r: Response(f"Text {r.replicate}.", usage=Usage(1, 1, price)))


def test_a_matched_stage_goes_on_where_a_cap_stopped_it(tmp_path: Path) -> None:
    plan, match = Plan({"kalm": 2, "rund": 1}), MatchConfig(unit="tokens", amount=900)
    calm = Desk(tmp_path / "calm.db").stage(only(), plan, ALL, match=match)
    desk, teacher = Desk(tmp_path / "cut.db"), only()
    with pytest.raises(BudgetError):
        desk.stage(teacher, plan, ALL, match=match, budget=BudgetConfig(requests=40))
    assert desk.stage(teacher, plan, ALL, match=match) == calm
    assert len(teacher.calls) == len(set(teacher.calls))


def test_a_matched_stage_ends_at_the_same_row_however_answers_come(tmp_path: Path) -> None:
    plan, match = Plan(dict.fromkeys(LABELS, 5)), MatchConfig(unit="tokens", amount=1500)
    outcomes = []
    for shuffle in range(5):
        latency = random.Random(shuffle)
        teacher = FakeTeacher(latency=lambda _, latency=latency: latency.random() / 500)  # type: ignore[misc]
        outcomes.append(Desk(tmp_path / f"{shuffle}.db").stage(teacher, plan, ALL, match=match, concurrency=16))
    assert all(rows == outcomes[0] for rows in outcomes)


@pytest.mark.parametrize("again", [False, True])
def test_what_earlier_stages_took_counts_towards_the_match(desk: Desk, again: bool) -> None:
    """Reasons have their own target; the rows take what is left, and as much when the run is resumed between them."""
    journal, teacher = desk.journal(), only()

    def generator() -> StageGenerator:
        match = MatchConfig(unit="requests", amount=30)
        client = desk.executor(teacher, journal)
        return StageGenerator(client, journal, max_overgeneration=6.0, progress=SilentProgress(), match=match)

    reasons = Plan({"kalm": 10}, stage="round-0/rationales", kind="rationales", prompt="Why")
    writer = generator()
    writer.run(reasons, 0, FilterPipeline.for_rationales(reasons.targets), [])
    spent = journal.spent("round-0/rationales").requests
    assert spent >= 10
    if again:
        writer = generator()
        assert writer.skip_done(reasons)
    writer.run(Plan({"kalm": 1}), 0, ALL, [])
    assert spent + len(journal.rows(stage="round-0/seed")) == 30
    journal.close()


# engines in process ------------------------------------------------------------------------------


class Engine:
    """A `EngineTeacher` with room for some requests, which answers the newest one first."""

    def __init__(self, room: int = 4, fail_after: int | None = None) -> None:
        self.room = room
        self.fail_after = fail_after
        self.read = 0
        self.answered = 0
        self.most_waiting = 0
        self.seeds: dict[int, int] = {}

    def generate_batch(self, requests: Iterable[Request], seeds: Iterable[int]) -> Iterator[tuple[int, Response]]:
        source = zip(iter(requests), iter(seeds), strict=False)
        waiting: list[tuple[int, Request]] = []
        first = self.read
        while True:
            while len(waiting) < self.room:
                taken = next(source, None)
                if taken is None:
                    break
                request, seed = taken
                self.seeds[request.replicate] = seed
                waiting.append((self.read - first, request))
                self.read += 1
            if not waiting:
                return
            self.most_waiting = max(self.most_waiting, self.read - self.answered)
            if self.answered == self.fail_after:
                raise TransientError("the engine broke down")
            position, request = waiting.pop()
            self.answered += 1
            yield position, numbered(request)


def test_an_engine_is_fed_as_far_as_it_has_room(desk: Desk) -> None:
    engine, journal = Engine(room=4), desk.journal()
    answers = desk.executor(engine, journal).run(requests(50))
    assert engine.most_waiting == 4
    assert [answers[r.key(TeacherConfig(backend="fake").identity())] for r in requests(50)] == [numbered(r) for r in requests(50)]
    assert journal.totals().requests == 50
    assert len(set(engine.seeds.values())) == 50
    journal.close()


def test_what_an_engine_answered_before_it_broke_is_kept(desk: Desk) -> None:
    journal, engine = desk.journal(), Engine()
    with pytest.raises(TransientError):
        desk.executor(Engine(fail_after=30), journal).run(requests(50))
    assert journal.totals().requests == 30
    assert len(desk.executor(engine, journal).run(requests(50))) == 50
    assert engine.read == 20
    journal.close()


@pytest.mark.parametrize(("budget", "answers"), [(BudgetConfig(requests=20), 20), (BudgetConfig(tokens=600), 56)])
def test_caps_hold_for_an_engine(desk: Desk, budget: BudgetConfig, answers: int) -> None:
    """Close to a cap on tokens it drains and goes on with what is left."""
    engine, journal = Engine(), desk.journal()
    with pytest.raises(BudgetError):
        desk.executor(engine, journal, budget=budget).run(requests(70))
    assert engine.read == answers == journal.totals().requests
    assert journal.totals().bought_tokens <= 600
    journal.close()


def test_a_seed_depends_on_the_request_alone(tmp_path: Path) -> None:
    one, other = Engine(), Engine(room=9)
    for name, engine, asked in (("a", one, requests(30)), ("b", other, requests(40)[::-1])):
        desk = Desk(tmp_path / name)
        journal = desk.journal()
        desk.executor(engine, journal).run(asked)
        journal.close()
    assert one.seeds.items() <= other.seeds.items()


@pytest.mark.parametrize("lent", [False, True])
def test_an_engine_of_our_own_is_gone_while_students_train(lent: bool, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds gigabytes; one that somebody lent is theirs."""
    opened: list[weakref.ref[Engine]] = []

    def opening(_: TeacherConfig) -> Engine:
        engine = Engine()
        engine.itself = engine  # type: ignore[attr-defined]  # a cycle, as bindings make them
        opened.append(weakref.ref(engine))
        return engine

    monkeypatch.setattr("stepsynth.generation.client.create_teacher", opening)
    journal = desk.journal()
    client = desk.executor(Engine() if lent else None, journal)
    assert len(client.run(requests(5))) == 5
    client.rest()
    assert [engine() for engine in opened] == ([] if lent else [None])
    assert len(client.run(requests(5))) == 5, "what is known needs no teacher"
    assert len(client.run(requests(9))) == 9
    assert len(opened) == (0 if lent else 2)
    journal.close()


@pytest.mark.parametrize("teacher", [only(), Engine()])
def test_a_sample_needs_no_journal_and_comes_in_order(teacher: FakeTeacher | Engine) -> None:
    asked = requests(3)
    assert ask_sample(TeacherConfig(backend="fake"), teacher, asked) == [numbered(request) for request in asked]
