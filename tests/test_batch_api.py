"""Provider batch APIs: found again after any accident, brought home whole or in part, inside every cap."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from batch_client import asks, batch_config, client
from loopback_batch import BatchServer, HeldBatch
from stepsynth.cli import running
from stepsynth.cli.cancelling import cancel_batches, print_cancelled
from stepsynth.config import BudgetConfig, PriceConfig
from stepsynth.errors import BudgetError, ConfigError, Interrupted, PermanentError, RunError, TeacherError, TransientError
from stepsynth.filters import FilterPipeline
from stepsynth.filters.duplicate import Duplicate
from stepsynth.filters.schema import Schema
from stepsynth.generation import StageGenerator, TeacherClient
from stepsynth.generation.batch import check_nothing_is_out
from stepsynth.journal import Journal, Row, Totals
from stepsynth.runtime import shutdown
from stepsynth.runtime.progress import SilentProgress
from stepsynth.teachers import BatchApiTeacher, create_teacher
from stepsynth.teachers.anthropic_batch import AnthropicBatchTeacher
from stepsynth.teachers.openai_batch import OpenAIBatchTeacher
from stepsynth.teachers.provider_batch import Limits, chunk_requests, draw_name, name_parts
from stepsynth.types import Request, Response
from world import LABELS, World, build_world

KINDS = ("openai", "anthropic")
Answers = dict[str, Response | TeacherError]


@dataclass
class Desk:
    """A provider, a journal, and clients that come and go."""

    kind: str
    server: BatchServer
    path: Path
    pauses: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.server.base_url if self.kind == "openai" else self.server.root

    def run(self, requests: list[Request], *, budget: BudgetConfig | None = None, pause: Any = None, **changes: Any) -> Answers:
        """Ask with a client of its own."""
        config = batch_config(self.kind, self.url, **changes)
        with closing(Journal(self.path)) as journal:
            pause = pause or self.pauses.append
            return TeacherClient(config, journal, budget or BudgetConfig(), pause=pause).run(requests)

    def keys(self, requests: list[Request]) -> list[str]:
        return [request.key(batch_config(self.kind, self.url).identity()) for request in requests]

    def jobs(self) -> list[tuple[str, str | None, list[str], str]]:
        """Return name, provider's id, keys and end of every job in the journal."""
        with closing(sqlite3.connect(self.path)) as file:
            rows = file.execute("SELECT name, job_id, keys, closed FROM jobs ORDER BY created, name").fetchall()
        return [(name, job_id, json.loads(keys), closed) for name, job_id, keys, closed in rows]

    def totals(self) -> Totals:
        with closing(Journal(self.path)) as journal:
            return journal.totals()


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as server:
        yield server


@pytest.fixture(params=KINDS)
def desk(request: pytest.FixtureRequest, server: BatchServer, tmp_path: Path) -> Desk:
    return Desk(request.param, server, tmp_path / "journal.db")


@pytest.fixture
def openai(server: BatchServer, tmp_path: Path) -> Desk:
    return Desk("openai", server, tmp_path / "journal.db")


@pytest.fixture
def anthropic(server: BatchServer, tmp_path: Path) -> Desk:
    return Desk("anthropic", server, tmp_path / "journal.db")


def answered(answers: Answers) -> dict[str, Response]:
    return {key: answer for key, answer in answers.items() if isinstance(answer, Response)}


# the same answers ------------------------------------------------------------------------------


def test_an_answer_does_not_depend_on_the_mode(desk: Desk, tmp_path: Path) -> None:
    requests = asks(30)
    batched = desk.run(requests)
    assert desk.server.live == []
    live = Desk(desk.kind, desk.server, tmp_path / "live.db").run(requests, mode="live")
    assert len(desk.server.live) == 30

    def seen(answers: Answers) -> dict[str, tuple[object, ...]]:
        return {k: (a.text, a.finish_reason, a.usage, json.loads(a.raw)) for k, a in answered(answers).items()}

    assert seen(batched) == seen(live)
    assert len({answer.text for answer in answered(batched).values()}) > 20


@dataclass(frozen=True)
class Plan:
    """Requests for a stage, told apart by their number."""

    targets: dict[str, int]
    stage: str = "round-0/seed"
    kind: str = "seed"

    def request(self, label: str, number: int, index: int) -> Request:
        return asks(number + 1, label)[number]


def test_a_stage_has_the_same_rows_in_both_modes(desk: Desk, tmp_path: Path) -> None:
    def rows(path: Path, mode: str) -> list[Row]:
        config = batch_config(desk.kind, desk.url, mode=mode)
        with closing(Journal(path)) as journal:
            client = TeacherClient(config, journal, BudgetConfig(), pause=desk.pauses.append)
            generator = StageGenerator(client, journal, max_overgeneration=6.0, progress=SilentProgress())
            generator.run(Plan({"kalm": 12, "rund": 12}), 0, FilterPipeline((Schema(), Duplicate())), [])
            return journal.rows()

    batched = rows(desk.path, "batch")
    assert batched == rows(tmp_path / "live.db", "live")
    assert sum(not row.reason for row in batched) >= 24


def test_both_teachers_fit_the_protocol_and_are_made_by_the_config(desk: Desk) -> None:
    teacher = create_teacher(batch_config(desk.kind, desk.url))
    assert isinstance(teacher, BatchApiTeacher)
    assert isinstance(teacher, OpenAIBatchTeacher if desk.kind == "openai" else AnthropicBatchTeacher)


# found again -----------------------------------------------------------------------------------


def test_a_job_is_written_down_before_anything_is_sent(desk: Desk) -> None:
    seen: list[tuple[Any, ...]] = []
    desk.server.created = lambda _: seen.extend(desk.jobs())
    requests = asks(5)
    desk.run(requests)
    ((name, job_id, keys, closed),) = seen
    assert (job_id, keys, closed) == (None, desk.keys(requests), "")
    assert name_parts(name).count == 5
    assert [(job[1], job[3]) for job in desk.jobs()] == [("batch_0", "ended")]


@pytest.mark.parametrize("unlisted", [0, 3])
def test_a_batch_whose_creation_was_answered_by_a_lost_connection_is_found_and_not_paid_twice(desk: Desk, unlisted: int) -> None:
    desk.server.lose, desk.server.unlisted = frozenset({1}), unlisted
    assert len(answered(desk.run(asks(20)))) == 20
    assert desk.server.creations == 1
    assert set(desk.server.ran.values()) == {1}


@pytest.mark.parametrize("ahead", [3600.0, 86400.0])
def test_a_clock_that_is_set_forward_makes_no_new_batch_an_old_one_that_is_paid_twice(desk: Desk, ahead: float) -> None:
    """Found by the simulation: the batch was given up after one look, before the provider had listed it."""
    desk.server.lose, desk.server.unlisted = frozenset({1}), 3
    clock = [time.time()]

    def pause(_: float) -> None:
        clock[0] += ahead

    with closing(Journal(desk.path)) as journal:
        config = batch_config(desk.kind, desk.url)
        answers = TeacherClient(config, journal, BudgetConfig(), pause=pause, wall=lambda: clock[0]).run(asks(3))
    assert len(answered(answers)) == 3
    assert desk.server.creations == 1


def test_batches_that_move_do_not_shorten_the_search_for_another_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the simulation: each move makes the next pause a short one, and seven looks were over before it was listed."""
    for teacher in (OpenAIBatchTeacher, AnthropicBatchTeacher):
        monkeypatch.setattr(teacher, "limits", Limits(2, 10**9))

    def later(batch: HeldBatch) -> None:
        batch.polls = -2 * len(desk.server.batches)

    desk.server.lose, desk.server.unlisted, desk.server.created = frozenset({1}), 9, later
    assert len(answered(desk.run(asks(12)))) == 12
    assert desk.server.creations == 6
    assert sum(desk.pauses) < 60


def test_a_batch_that_never_arrived_is_looked_for_and_then_sent_again(desk: Desk) -> None:
    desk.server.lose_before = frozenset({1})
    assert len(answered(desk.run(asks(20)))) == 20
    lists = [call for call in desk.server.calls if call.startswith("GET") and "batches?" in call]
    assert len(lists) >= 5
    assert sum(desk.pauses) > 30
    assert [closed for *_, closed in desk.jobs()] == ["lost", "ended"]
    assert set(desk.server.ran.values()) == {1}


def test_a_server_that_creates_nothing_is_given_up_after_the_configured_attempts(desk: Desk) -> None:
    desk.server.create_status = [503] * 20
    with pytest.raises(TransientError, match="503"):
        desk.run(asks(3), attempts=3)
    assert desk.server.creations == 3
    assert not desk.server.ran


def test_a_busy_server_is_asked_again_without_looking_for_what_it_refused(desk: Desk) -> None:
    desk.server.create_status = [429, 429]
    assert len(answered(desk.run(asks(3)))) == 3
    assert desk.server.creations == 3
    assert not any("batches?" in call for call in desk.server.calls)


def test_without_metadata_a_batch_is_found_by_the_name_of_its_file(openai: Desk) -> None:
    openai.server.lose, openai.server.metadata = frozenset({1}), False
    openai.run(asks(4))
    assert openai.server.creations == 1


def test_a_batch_is_found_behind_many_others(desk: Desk) -> None:
    def bury(batch: HeldBatch) -> None:
        for _ in range(230):
            rows = batch.rows[:2] if desk.kind == "anthropic" else batch.rows
            desk.server.create(desk.kind, rows, {"other": "x"} if desk.kind == "anthropic" else {"stepsynth": "x"}, "")

    desk.server.created, desk.server.lose = bury, frozenset({1})
    assert len(answered(desk.run(asks(3)))) == 3
    assert desk.server.creations == 1


@pytest.mark.parametrize("arrived", [True, False])
def test_a_batch_that_only_looks_like_ours_is_waited_for_and_not_taken(anthropic: Desk, arrived: bool) -> None:
    server = anthropic.server
    server.polls = 20
    other = [(f"{number:040x}-{draw_name(6)}", asks_body(number)) for number in range(6)]
    server.create("anthropic", other, None, "")
    server.lose, server.lose_before = (frozenset({1}), frozenset()) if arrived else (frozenset(), frozenset({1}))
    answers = answered(anthropic.run(asks(6)))
    assert len(answers) == 6
    assert server.creations == (1 if arrived else 2)
    assert set(server.ran.values()) == {1}
    assert [job_id for _, job_id, *_ in anthropic.jobs()] == (["batch_1"] if arrived else [None, "batch_1"])


def test_a_running_batch_of_another_size_is_not_waited_for(anthropic: Desk) -> None:
    rows = [(f"{number:040x}-{draw_name(5)}", asks_body(number)) for number in range(5)]
    anthropic.server.create("anthropic", rows, None, "").polls = -1000
    anthropic.server.lose_before = frozenset({1})
    assert len(answered(anthropic.run(asks(6)))) == 6
    assert len(anthropic.pauses) < 20


def asks_body(number: int) -> dict[str, Any]:
    return {"model": "loopback", "max_tokens": 8, "messages": [{"role": "user", "content": f"another {number}"}]}


def test_a_name_says_when_and_how_much() -> None:
    parts = name_parts(draw_name(70_000, 1_700_000_000.7))
    assert (parts.drawn, parts.count) == (1_700_000_000, 70_000)
    assert parts.near(1_700_000_030.0)
    assert not parts.near(1_700_009_000.0)
    assert not parts.too_old(1_699_990_000.0)
    assert parts.too_old(1_699_900_000.0)
    assert draw_name(1) != draw_name(1)
    with pytest.raises(ValueError, match="not a job's name"):
        name_parts("x")


# parts and errors ------------------------------------------------------------------------------


def test_what_came_of_an_expired_batch_is_used_and_the_rest_goes_into_the_next_one(desk: Desk) -> None:
    desk.server.run_at_most = 7
    assert len(answered(desk.run(asks(20)))) == 20
    assert desk.server.creations == 3
    assert set(desk.server.ran.values()) == {1}
    assert desk.totals().attempts == 20


def test_a_cancelled_batch_is_used_as_far_as_it_came(desk: Desk) -> None:
    requests = asks(9)
    teacher = create_teacher(batch_config(desk.kind, desk.url))
    assert isinstance(teacher, BatchApiTeacher)

    async def cancelled() -> list[str]:
        job = await teacher.submit(draw_name(9), list(zip(desk.keys(requests), requests, strict=True)))
        desk.server.run_at_most = 4
        await teacher.cancel(job.id)
        job = await teacher.poll(job.id)
        assert (job.state, job.total) == ("ended", 9)
        found = [key async for key, _ in teacher.answers(job.id)]
        await teacher.close()
        return found

    assert sorted(asyncio.run(cancelled())) == sorted(
        key[:40] if desk.kind == "anthropic" else key for key in desk.keys(requests)[:4]
    )


def fate_of(word: str, code: int, kind: str, times: int = 99) -> Any:
    """Let requests that hold a word fail."""

    def fate(_: str, body: dict[str, Any], tried: int) -> Any:
        if word not in json.dumps(body["messages"]) or tried >= times:
            return None
        return code, {"error": {"type": kind, "message": f"scripted {code}"}}

    return fate


def test_a_row_that_failed_for_now_is_asked_again_and_the_others_are_not(desk: Desk) -> None:
    desk.server.fate = fate_of("text 3 ", 529, "overloaded_error", times=2)
    assert len(answered(desk.run(asks(6)))) == 6
    assert desk.server.creations == 3
    assert set(desk.server.ran.values()) == {1}
    assert [len(batch.rows) for batch in desk.server.batches.values()] == [6, 1, 1]
    assert desk.totals().failures == {"overload": 2}
    assert desk.totals().attempts == 8


def test_a_row_that_fails_in_every_attempt_is_an_error_and_the_others_are_answers(desk: Desk) -> None:
    desk.server.fate = fate_of("text 3 ", 500, "api_error")
    requests = asks(6)
    answers = desk.run(requests, attempts=3)
    error = answers[desk.keys(requests)[3]]
    assert isinstance(error, TransientError)
    assert error.kind == "unavailable"
    assert len(answered(answers)) == 5
    assert desk.server.creations == 3


def test_a_refused_row_is_not_asked_again(desk: Desk) -> None:
    desk.server.fate = fate_of("text 3 ", 400, "invalid_request_error")
    requests = asks(6)
    answers = desk.run(requests)
    error = answers[desk.keys(requests)[3]]
    assert isinstance(error, PermanentError)
    assert error.kind == "refused"
    assert "scripted 400" in str(error)
    assert len(answered(answers)) == 5
    assert desk.server.creations == 1


def test_when_every_row_is_refused_the_run_ends_with_the_error(desk: Desk) -> None:
    desk.server.fate = fate_of("text", 404, "not_found_error")
    with pytest.raises(PermanentError):
        desk.run(asks(6))
    assert desk.server.creations == 1


def test_when_every_row_fails_in_every_attempt_the_run_ends_with_the_error(desk: Desk) -> None:
    desk.server.fate = fate_of("text", 500, "api_error")
    with pytest.raises(TransientError):
        desk.run(asks(6), attempts=2)
    assert desk.server.creations == 2


def test_when_every_batch_expires_the_run_ends_with_an_error(desk: Desk) -> None:
    desk.server.run_at_most = 0
    with pytest.raises(TransientError, match="before the provider processed this request"):
        desk.run(asks(6), attempts=3)
    assert desk.server.creations == 3


def test_a_provider_that_withholds_an_answer_gives_a_refusal_as_in_live_mode(openai: Desk) -> None:
    openai.server.fate = lambda _, body, __: (
        (400, {"error": {"message": "filtered", "code": "content_filter"}}) if "text 3 " in str(body) else None
    )
    requests = asks(6)
    answer = openai.run(requests)[openai.keys(requests)[3]]
    assert isinstance(answer, Response)
    assert (answer.text, answer.finish_reason) == ("", "refusal")


def test_a_server_that_wants_other_words_is_asked_again_with_them(openai: Desk) -> None:
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    openai.server.fate = lambda _, body, __: (400, {"error": {"message": said, "code": None}}) if "max_tokens" in body else None
    # A first answer, so that a wrong model is not suspected.
    assert len(answered(openai.run(asks(6)))) == 6
    assert openai.server.creations == 2


def test_a_refused_batch_is_one_clear_error_and_the_next_attempt_starts_afresh(desk: Desk) -> None:
    desk.server.refuse = "line 1: the model does not exist"
    with pytest.raises(PermanentError, match="the model does not exist"):
        desk.run(asks(6))
    assert desk.server.creations <= 1
    assert [closed for *_, closed in desk.jobs()] == ["failed"]
    desk.server.refuse = ""
    assert len(answered(desk.run(asks(6)))) == 6


def test_one_refused_batch_among_several_waits_until_the_others_are_home(openai: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAIBatchTeacher, "limits", Limits(5, 10**9))
    server = openai.server

    def full(batch: HeldBatch) -> None:
        if server.creations == 2:
            batch.status = "failed"

    server.created = full
    assert len(answered(openai.run(asks(15)))) == 15
    assert server.creations == 4
    assert set(server.ran.values()) == {1}


def test_requests_that_a_provider_does_not_take_at_once_go_into_several_batches(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for teacher in (OpenAIBatchTeacher, AnthropicBatchTeacher):
        monkeypatch.setattr(teacher, "limits", Limits(8, 10**9))
    assert len(answered(desk.run(asks(20)))) == 20
    assert [len(batch.rows) for batch in desk.server.batches.values()] == [8, 8, 4]


def test_portions_keep_the_order_and_both_limits() -> None:
    requests = [(str(number), request) for number, request in enumerate(asks(50))]
    by_count = list(chunk_requests(requests, Limits(20, 10**9)))
    assert [len(portion) for portion in by_count] == [20, 20, 10]
    by_size = list(chunk_requests(requests, Limits(10**6, 10_000)))
    assert [item for portion in by_size for item in portion] == requests
    assert max(map(len, by_size)) <= 4
    assert list(chunk_requests(requests[:2], Limits(10, 1))) == [requests[:1], requests[1:2]]
    assert list(chunk_requests([], Limits(10, 10))) == []


def test_results_that_break_off_are_fetched_again(desk: Desk) -> None:
    desk.server.cut_results = frozenset({1, 2})
    assert len(answered(desk.run(asks(100)))) == 100
    assert desk.server.downloads >= 3
    assert desk.server.creations == 1
    assert desk.totals().attempts == 100


def test_lines_that_are_none_of_ours_are_passed_over(openai: Desk) -> None:
    def strange(batch: HeldBatch) -> None:
        batch.rows += [("x" * 64, batch.rows[0][1]), ("short", batch.rows[0][1])]

    openai.server.created = strange
    assert len(answered(openai.run(asks(4)))) == 4


# stops, pauses, troubles -----------------------------------------------------------------------


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    with shutdown.stoppable() as flag:
        yield flag


def test_a_stop_leaves_the_batch_at_the_provider_and_the_next_run_picks_it_up(desk: Desk, stop: threading.Event) -> None:
    desk.server.polls = 3
    with pytest.raises(Interrupted, match=r"the batch continues at the provider .*picks it up"):
        desk.run(asks(12), pause=lambda _: stop.set())
    assert not any("cancel" in call for call in desk.server.calls)
    stop.clear()
    assert len(answered(desk.run(asks(12)))) == 12
    assert desk.server.creations == 1
    assert set(desk.server.ran.values()) == {1}


def test_a_stop_ends_a_long_pause(desk: Desk, stop: threading.Event) -> None:
    desk.server.polls = 99

    async def long(_: float) -> None:
        stop.set()
        await asyncio.sleep(3600)

    with pytest.raises(Interrupted):
        desk.run(asks(2), pause=long)


def test_a_stop_in_mid_download_keeps_what_came(desk: Desk, stop: threading.Event) -> None:
    requests = asks(150)
    config = batch_config(desk.kind, desk.url)

    def enough(known: Answers) -> None:
        if known:
            stop.set()

    with closing(Journal(desk.path)) as journal, pytest.raises(Interrupted):
        TeacherClient(config, journal, BudgetConfig(), pause=desk.pauses.append).run(requests, enough)
    stop.clear()
    assert 0 < desk.totals().requests < 150
    assert len(answered(desk.run(requests))) == 150
    assert desk.server.creations == 1
    assert desk.totals().attempts == 150


def test_pauses_grow_up_to_a_minute(desk: Desk) -> None:
    desk.server.polls = 16
    desk.run(asks(2))
    assert desk.pauses == sorted(desk.pauses)
    assert desk.pauses[0] <= 2.0
    assert max(desk.pauses) == 60.0
    assert len(desk.pauses) == 15


def test_the_panel_is_told_how_many_requests_the_provider_still_has(desk: Desk) -> None:
    desk.server.polls = 3
    with closing(Journal(desk.path)) as journal:
        client = TeacherClient(batch_config(desk.kind, desk.url), journal, BudgetConfig(), pause=desk.pauses.append)
        seen: list[tuple[int, int]] = []
        client.run(asks(5), lambda known: seen.append((client.traffic().in_flight, len(known))))
    assert (5, 0) in seen
    assert seen[-1] == (0, 5)


def test_a_provider_that_is_down_does_not_cost_the_batch(desk: Desk) -> None:
    desk.server.polls = 2

    def fall(_: float) -> None:
        desk.server.down = True

    with pytest.raises(TransientError, match="dropped the connection"):
        desk.run(asks(5), pause=fall)
    assert [closed for *_, closed in desk.jobs()] == [""]
    desk.server.down = False
    assert len(answered(desk.run(asks(5)))) == 5
    assert desk.server.creations == 1


@pytest.mark.parametrize(("days", "asked_again"), [(1, False), (40, True)])
def test_results_that_are_gone_are_asked_for_again_only_when_they_had_to_go(
    desk: Desk, stop: threading.Event, days: int, asked_again: bool
) -> None:
    desk.server.polls = 5
    with pytest.raises(Interrupted):
        desk.run(asks(3), pause=lambda _: stop.set())
    stop.clear()
    desk.server.gone = True
    with closing(sqlite3.connect(desk.path)) as file:
        file.execute("UPDATE jobs SET created = ?", (time.time() - days * 86400,))
        file.commit()
    if not asked_again:
        with pytest.raises(PermanentError, match="not found"):
            desk.run(asks(3))
        assert desk.server.creations == 1
        return

    def back(_: HeldBatch) -> None:
        desk.server.gone = False

    desk.server.created = back
    assert len(answered(desk.run(asks(3)))) == 3
    assert desk.server.creations == 2


def test_a_key_that_the_provider_echoes_is_in_no_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1."""
    monkeypatch.setenv("BATCH_KEY", "canary-5f0c9e1d7a3b-not-this-one")
    desk.server.api_key = "another"
    with pytest.raises(PermanentError) as caught:
        desk.run(asks(2), api_key_env="BATCH_KEY")
    assert "canary" not in f"{caught.value!r} {caught.value}"
    desk.server.api_key = "canary-5f0c9e1d7a3b-not-this-one"
    assert len(answered(desk.run(asks(2), api_key_env="BATCH_KEY"))) == 2
    assert b"canary" not in desk.path.read_bytes()


def test_the_address_that_a_server_gives_for_results_is_not_asked(anthropic: Desk) -> None:
    anthropic.run(asks(2))
    assert any(call.endswith("/results") for call in anthropic.server.calls)


def test_an_azure_address_without_batches_is_refused_before_anything_is_sent(openai: Desk) -> None:
    with pytest.raises(ConfigError, match="api_version"):
        openai.run(asks(1), api_version="2024-10-21")
    assert openai.server.calls == []


# caps ------------------------------------------------------------------------------------------


def test_the_cap_on_requests_holds_and_a_larger_one_goes_on(desk: Desk) -> None:
    """R9."""
    with pytest.raises(BudgetError, match="10 of 10 requests"):
        desk.run(asks(25), budget=BudgetConfig(requests=10))
    assert sum(desk.server.ran.values()) == 10
    assert len(answered(desk.run(asks(25), budget=BudgetConfig(requests=100)))) == 25
    assert set(desk.server.ran.values()) == {1}


def test_a_batch_that_is_still_out_counts_with_its_worst_case(desk: Desk, stop: threading.Event) -> None:
    desk.server.polls = 9
    budget = BudgetConfig(requests=10)
    with pytest.raises(Interrupted):
        desk.run(asks(25), budget=budget, pause=lambda _: stop.set())
    stop.clear()
    with pytest.raises(BudgetError):
        desk.run(asks(25), budget=budget)
    assert desk.server.creations == 1
    assert sum(desk.server.ran.values()) == 10


def test_the_cap_on_tokens_holds_over_several_batches(desk: Desk) -> None:
    with pytest.raises(BudgetError, match="tokens"):
        desk.run(asks(100), budget=BudgetConfig(tokens=900))
    totals = desk.totals()
    assert desk.server.creations > 1
    assert 900 - 150 < totals.prompt_tokens + totals.completion_tokens <= 900
    assert totals.attempts == totals.requests == sum(desk.server.ran.values())


def test_dollars_are_counted_at_the_batch_share(desk: Desk) -> None:
    price = PriceConfig(input=1.0, output=4.0, batch=0.5)
    desk.run(asks(5), price=price)
    totals = desk.totals()
    expected = 0.5 * (totals.prompt_tokens + 4.0 * totals.completion_tokens) / 1e6
    assert totals.cost_usd == pytest.approx(expected)
    assert expected > 0


def test_the_cap_on_dollars_holds(desk: Desk) -> None:
    price = PriceConfig(input=1.0, output=4.0, batch=0.5)
    with pytest.raises(BudgetError, match="usd"):
        desk.run(asks(100), price=price, budget=BudgetConfig(usd=0.001))
    cost = desk.totals().cost_usd
    assert cost is not None
    assert 0.0007 < cost <= 0.001


# other plans, other processes ------------------------------------------------------------------


def test_a_batch_of_another_plan_is_left_alone_until_it_is_asked_for(desk: Desk, stop: threading.Event) -> None:
    desk.server.polls = 2
    with pytest.raises(Interrupted):
        desk.run(asks(4, "rund"), pause=lambda _: stop.set())
    stop.clear()
    desk.run(asks(4, "kalm"))
    assert [closed for *_, closed in desk.jobs()] == ["", "ended"]
    assert len(answered(desk.run(asks(4, "rund")))) == 4
    assert desk.server.creations == 2


def test_a_plan_that_wants_a_part_of_a_batch_leaves_the_rest_to_be_fetched(desk: Desk, stop: threading.Event) -> None:
    desk.server.polls = 2
    with pytest.raises(Interrupted):
        desk.run(asks(6), pause=lambda _: stop.set())
    stop.clear()
    assert len(answered(desk.run(asks(2)))) == 2
    assert len(answered(desk.run(asks(6)))) == 6
    assert desk.server.creations == 1
    assert [closed for *_, closed in desk.jobs()] == ["ended"]


def test_live_requests_are_refused_while_a_batch_that_answers_them_is_out(desk: Desk, stop: threading.Event) -> None:
    desk.server.polls = 5
    with pytest.raises(Interrupted):
        desk.run(asks(4), pause=lambda _: stop.set())
    stop.clear()
    requests = asks(6)
    missing = list(zip(desk.keys(requests), requests, strict=True))
    with closing(Journal(desk.path)) as journal:
        check_nothing_is_out(journal, missing[4:])
        with pytest.raises(RunError, match="4 of these requests are in a batch"):
            check_nothing_is_out(journal, missing)
    with pytest.raises(RunError, match=r"mode: batch"):
        desk.run(requests, mode="live")
    assert desk.server.live == []
    desk.run(asks(4))
    with closing(Journal(desk.path)) as journal:
        check_nothing_is_out(journal, missing)


@pytest.mark.parametrize("then", ["batch", "live"])
def test_a_batch_for_answers_that_were_cut_off_before_is_not_forgotten(desk: Desk, stop: threading.Event, then: str) -> None:
    """The journal has an answer to each of its requests, of an earlier batch, but none within the new limit."""
    assert {answer.finish_reason for answer in answered(desk.run(asks(4, max_tokens=1))).values()} == {"length"}
    desk.server.polls = 3
    with pytest.raises(Interrupted):
        desk.run(asks(4), pause=lambda _: stop.set())
    stop.clear()
    assert [closed for *_, closed in desk.jobs()] == ["ended", ""]
    if then == "live":
        with pytest.raises(RunError, match="4 of these requests are in a batch"):
            desk.run(asks(4), mode="live")
    assert {answer.finish_reason for answer in answered(desk.run(asks(4))).values()} == {"stop"}
    assert desk.server.creations == 2
    assert [closed for *_, closed in desk.jobs()] == ["ended", "ended"]
    assert desk.totals().requests == 8


# cancel ----------------------------------------------------------------------------------------


@pytest.fixture
def left_out(server: BatchServer, stop: threading.Event, tmp_path: Path) -> tuple[World, Path]:
    """Return a run whose first batch is at the provider while nobody waits for it."""
    world = build_world(tmp_path / "world")
    teacher = {"backend": "openai", "model": "loopback", "base_url": server.base_url, "mode": "batch"}
    world.write_config({"teacher": teacher, "cache": None})
    server.polls, server.created = 10**6, lambda _: stop.set()
    with pytest.raises(Interrupted):
        running.run_config(world.config(), tmp_path / "run", quiet=True)
    stop.clear()
    server.created = None
    return world, tmp_path / "run"


def test_a_cancelled_batch_is_brought_home_as_far_as_it_came(server: BatchServer, left_out: tuple[World, Path]) -> None:
    world, run = left_out
    (before,) = running.read_status(run)["batches"]
    server.run_at_most = 3
    (told,) = cancel_batches(run)
    assert (told["id"], told["requests"], told["outcome"]) == (before["id"], before["requests"], "cancelled")
    assert [batch["outcome"] for batch in cancel_batches(run)] == ["ended"]
    with pytest.raises(BudgetError, match="3 of 1 requests"):
        running.run_config(world.config("budget.requests=1"), run, quiet=True)
    assert server.creations == 1
    status = running.read_status(run)
    assert (status["requests"], status["batches"]) == (3, [])
    assert cancel_batches(run) == []


def test_cancel_finds_a_batch_whose_id_never_came_and_tells_of_one_that_never_arrived(
    server: BatchServer, left_out: tuple[World, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = left_out
    with closing(sqlite3.connect(run / "journal.db")) as connection, connection:
        connection.execute("UPDATE jobs SET job_id = NULL")
    (told,) = cancel_batches(run)
    assert (told["id"], told["outcome"]) == ("batch_0", "cancelled")
    server.batches.clear()
    print_cancelled(cancel_batches(run))
    said = capsys.readouterr().out
    assert f"{told['name']}: {told['requests']} requests, not found" in said
    assert "--set budget.requests=1" in said
    print_cancelled([])
    assert "no open batches" in capsys.readouterr().out


def test_cancel_without_the_provider_is_one_error(server: BatchServer, left_out: tuple[World, Path]) -> None:
    server.down = True
    with pytest.raises(TransientError, match="dropped the connection"):
        cancel_batches(left_out[1])


def killed(kind: str, server: BatchServer, folder: Path, points: list[int]) -> list[dict[str, Any]]:
    url = server.base_url if kind == "openai" else server.root
    script = Path(__file__).with_name("batch_client.py")
    command = [sys.executable, str(script), kind, url, str(folder), *map(str, points)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_killed_at_any_point_loses_nothing_and_pays_nothing_twice(
    kind: str, server: BatchServer, tmp_path: Path
) -> None:
    """R1, R2, R16."""
    server.polls = 2
    (calm,) = killed(kind, server, tmp_path, [0])
    names = calm["passed"]
    assert {"before send: batch", "after send: batch", "before commit: batch intent", "after commit: batch id"} <= set(names)
    outcomes = killed(kind, server, tmp_path, list(range(1, len(names) + 1)))
    assert sum(outcome["signal"] == signal.SIGKILL for outcome in outcomes) >= len(names) - 2
    some_killed_half_way = False
    for outcome in outcomes:
        where = f"killed at {outcome['point']}: {names[outcome['point'] - 1]}"
        ran = {key: server.ran[key[:40]] for key in outcome["keys"]}
        assert len(outcome["after"]) == len(outcome["keys"]) == outcome["sent"], where
        assert set(ran.values()) == {1}, where
        assert outcome["open"] == 0, where
        some_killed_half_way |= 0 < len(outcome["before"]) < len(outcome["keys"])
    assert some_killed_half_way


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_killed_while_the_provider_creates_its_batch_finds_it(kind: str, server: BatchServer, tmp_path: Path) -> None:
    desk = Desk(kind, server, tmp_path / "journal.db")
    code = (
        "import sys; from pathlib import Path; from batch_client import *;"
        "client(batch_config(*sys.argv[1:3]), Path(sys.argv[3]), asks(20))"
    )
    folders = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", code, kind, desk.url, str(desk.path)], env={**os.environ, "PYTHONPATH": folders}
    )
    server.created = lambda _: process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert [(job_id, closed) for _, job_id, _, closed in desk.jobs()] == [(None, "")]
    assert len(client(batch_config(kind, desk.url), desk.path, asks(20))) == 20
    assert server.creations == 1
    assert set(server.ran.values()) == {1}


@pytest.mark.slow
def test_a_whole_run_has_the_same_rows_in_both_modes(tmp_path: Path, one_thread: None) -> None:
    with BatchServer(labels=LABELS) as server:
        for mode in ("live", "batch"):
            world = build_world(tmp_path / mode)
            teacher = {"backend": "openai", "model": "loopback", "base_url": server.base_url, "mode": mode}
            changes = {"teacher": teacher, "method.rounds": 1, "student.epochs": 1, "cache": str(tmp_path / mode / "answers.db")}
            world.write_config(changes)
            running.run_config(world.config(), tmp_path / mode / "run", quiet=True)
        asked = len(server.live)
        assert asked == sum(server.ran.values()) > 30
        assert server.creations > 1
    live, batch = ((tmp_path / mode / "run" / "dataset.jsonl").read_bytes() for mode in ("live", "batch"))
    assert live == batch
