"""The answers that all runs of a user share: where they lie, what a run may expect of them, and the command for them."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from command import stepsynth
from stepsynth.config import USER_CACHE, TeacherConfig, parse_config
from stepsynth.errors import RunError
from stepsynth.journal import AnswerStore, Journal, answers
from stepsynth.journal.answers import ANSWERS_TABLE, SharedAnswers
from stepsynth.journal.cache_admin import prune, teachers, verify
from stepsynth.run import RunDirectory, answers_path
from stepsynth.runtime import failpoints
from stepsynth.teachers.prices import Price
from stepsynth.types import FinishReason, Message, Request, Response, Sampling, Usage
from world import World, build_world

TEACHER = TeacherConfig(backend="fake", model="fake").identity()
OTHER = TeacherConfig(backend="openai", base_url="https://api.openai.com/v1", model="gpt-4o-mini").identity()
DAY = 86400


def asked(number: int, max_tokens: int = 64) -> Request:
    odd = " \ud800" if number % 10 == 0 else ""
    messages = (Message("system", "You write."), Message("user", f"Write text {number}.{odd}"))
    return Request(messages, Sampling(max_tokens=max_tokens), number, "round-0/seed", number, "good")


def entry(
    number: int,
    *,
    teacher: dict[str, object] = TEACHER,
    cost: float | None = 0.5,
    text: str = "",
    finish: FinishReason = "stop",
    limit: int = 64,
) -> tuple[str, Request, Response]:
    request = asked(number, limit)
    return request.key(teacher), request, Response(text or f"text {number}", finish, Usage(10, 5, cost))


def fill(path: Path, numbers: range, *, teacher: dict[str, object] = TEACHER, cost: float | None = 0.5, text: str = "") -> None:
    with closing(AnswerStore.shared(path)) as store:
        store.insert([entry(number, teacher=teacher, cost=cost, text=text) for number in numbers], teacher, "asked")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own file of answers, not there yet."""
    found = tmp_path / "cache" / "answers.db"
    monkeypatch.setenv("STEPSYNTH_ANSWERS", str(found))
    return found


class Clock:
    """Seconds since 1970, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_790_000_000.0
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still."""
    return Clock(monkeypatch)


# where it lies -------------------------------------------------------------------------------


def test_by_default_all_runs_of_a_user_share_one_file_in_the_folder_for_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STEPSYNTH_ANSWERS", "STEPSYNTH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    assert answers_path(USER_CACHE, Path("runs")) == tmp_path / ".cache" / "stepsynth" / "answers.db"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert answers_path(USER_CACHE, Path("runs")) == tmp_path / "xdg" / "stepsynth" / "answers.db"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert answers_path(USER_CACHE, Path("runs")) == tmp_path / "Library" / "Caches" / "stepsynth" / "answers.db"
    monkeypatch.setenv("STEPSYNTH_CACHE", str(tmp_path / "own"))
    assert answers_path(USER_CACHE, Path("runs")) == tmp_path / "own" / "answers.db"
    monkeypatch.setenv("STEPSYNTH_ANSWERS", str(tmp_path / "else.db"))
    assert answers_path(USER_CACHE, Path("runs")) == tmp_path / "else.db"


def test_config_and_environment_turn_sharing_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPSYNTH_ANSWERS", str(tmp_path / "a.db"))
    assert answers_path(None, tmp_path) is None
    monkeypatch.setenv("STEPSYNTH_ANSWERS", "off")
    assert answers_path(USER_CACHE, tmp_path) is None
    assert answers_path(Path("answers.db"), tmp_path) is None


def test_a_path_in_the_config_lies_beside_the_runs_whatever_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPSYNTH_ANSWERS", str(tmp_path / "a.db"))
    assert answers_path(Path("mine.db"), tmp_path / "runs") == tmp_path / "runs" / "mine.db"
    assert answers_path(Path("/x/y.db"), tmp_path / "runs") == Path("/x/y.db")


def test_user_is_the_default_and_survives_the_runs_own_copy_of_the_config() -> None:
    task = {"name": "t", "instruction": "Decide.", "labels": {"a": "x", "b": "y"}}
    config = parse_config({"task": task, "data": {"validation": {"path": "v.csv"}}})
    assert config.cache == USER_CACHE
    assert parse_config(json.loads(json.dumps(config.resolved()))).cache == USER_CACHE


def test_file_and_folder_are_private(path: Path) -> None:
    before = os.umask(0)
    try:
        fill(path, range(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


# what a run may expect -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world in which the large model answers itself: nothing is trained."""
    world = build_world(tmp_path_factory.mktemp("world"), validation=8, test=2)
    world.write_config({"method.name": "teacher"})
    return world


def test_runs_in_different_folders_share_their_answers(
    path: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for name in ("one", "two"):
        out = tmp_path / name / "run"
        assert stepsynth(capsys, "run", world.config_path, "--out", out, "-q").code == 0
        status = json.loads(stepsynth(capsys, "status", out, "--json").out)
        found.append((status["requests"], status["from_cache"]))
    (requests, first), second = found
    assert requests > 0
    assert first == 0
    assert second == (requests, requests)
    assert json.loads(stepsynth(capsys, "cache", "list", "--json").out)["answers"] == requests


@pytest.mark.parametrize("trouble", ["garbage", "newer", "no folder"])
def test_a_file_that_cannot_be_opened_is_one_note_and_the_run_goes_on(
    trouble: str, path: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if trouble == "no folder":
        path.parent.write_text("a file where the folder should be")
    else:
        path.parent.mkdir()
        path.write_bytes(b"no database at all, but long enough for a header" * 40)
    if trouble == "newer":
        path.unlink()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version=99")
    outcome = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    notes = [line for line in outcome.err.splitlines() if "Answers are not shared with other runs" in line]
    assert len(notes) == 1
    assert str(path if trouble != "no folder" else path.parent) in notes[0]


def test_another_writer_holds_a_run_up_for_no_longer_than_its_patience_and_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_PATIENCE_MS", 1)
    monkeypatch.setattr(answers, "_PATIENCE_AT_THE_END_MS", 1)
    notes: list[str] = []
    store = AnswerStore.shared(path, note=notes.append)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store.insert([entry(0)], TEACHER, "asked")
        store.insert([entry(1)], TEACHER, "asked")
        assert store.find_many([(entry(0)[0], 64)]).get(entry(0)[0]) is None, "nothing could be written yet"
        other.execute("COMMIT")
    store.close()
    assert notes == []
    with closing(AnswerStore.shared(path)) as again:
        assert set(again.find_many([(entry(n)[0], 64) for n in range(3)])) == {entry(0)[0], entry(1)[0]}


def test_a_file_that_is_held_throughout_costs_one_wait_and_one_note(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_PATIENCE_MS", 1)
    monkeypatch.setattr(answers, "_PATIENCE_AT_THE_END_MS", 1)
    notes: list[str] = []
    store = AnswerStore.shared(path, note=notes.append)
    tries: list[int] = []
    write = store._write

    def counted(records: Sequence[tuple[object, ...]]) -> None:
        tries.append(len(records))
        write(records)

    monkeypatch.setattr(store, "_write", counted)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(50):
            store.insert([entry(number)], TEACHER, "asked")
        store.close()
    assert tries == [1, 50], "the first, and once more at the end"
    assert len(notes) == 1
    assert "50 answers could not be shared" in notes[0]


def test_writers_in_several_threads_keep_all_their_answers(path: Path) -> None:
    AnswerStore.shared(path).close()
    notes: list[str] = []

    def write(first: int) -> None:
        with closing(AnswerStore.shared(path, note=notes.append)) as store:
            for number in range(first, first + 20):
                store.insert([entry(number)], TEACHER, "asked")

    workers = [threading.Thread(target=write, args=(first,)) for first in (0, 100, 200)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert notes == []
    with closing(AnswerStore.shared(path)) as store:
        assert len(store.find_many([(entry(first + n)[0], 64) for first in (0, 100, 200) for n in range(20)])) == 60


def test_a_file_that_breaks_while_it_is_used_is_given_up_with_one_note(path: Path, tmp_path: Path) -> None:
    fill(path, range(2))
    notes: list[str] = []
    journal = Journal(tmp_path / "journal.db", AnswerStore.shared(path, note=notes.append))
    assert journal.find_answers([entry(0)[:2]], TEACHER)
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE answers")
    assert journal.find_answers([entry(1)[:2]], TEACHER) == {}
    journal.commit_answers([entry(1), entry(2)], TEACHER)
    assert journal.find_answers([entry(2)[:2]], TEACHER), "the run's own journal is another matter"
    journal.close()
    assert len(notes) == 1
    assert "goes on without them" in notes[0]
    assert "\n" not in notes[0]


def test_an_answer_kept_without_a_price_gets_the_one_that_is_known_now(path: Path) -> None:
    fill(path, range(1), cost=None)
    fill(path, range(1, 2), cost=0.25)
    with closing(AnswerStore.shared(path, price=Price(1.0, 2.0).cost)) as store:
        costs = [store.find_many([(entry(n)[0], 64)])[entry(n)[0]].usage.cost_usd for n in range(2)]
    assert costs == [pytest.approx(20e-6), 0.25]
    with closing(AnswerStore.shared(path)) as store:
        assert store.find_many([(entry(0)[0], 64)])[entry(0)[0]].usage.cost_usd is None


def test_many_answers_are_found_in_one_go_and_only_those_that_fit(path: Path) -> None:
    with closing(AnswerStore.shared(path)) as store:
        store.insert([entry(n, finish="length" if n % 2 else "stop") for n in range(1200)], TEACHER, "asked")
        assert len(store.find_many([(entry(n)[0], 64) for n in range(1300)])) == 1200
        fitting = store.find_many([(entry(n)[0], 128) for n in range(1200)])
        assert {n for n in range(1200) if entry(n)[0] in fitting} == set(range(0, 1200, 2)), "a cut answer fits its own limit"
        assert store.find_many([(entry(0)[0], 4)]) == {}, "it has five tokens"


def test_a_file_of_the_first_format_is_brought_up_to_date(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as old:
        old.executescript(ANSWERS_TABLE + "PRAGMA user_version=1;")
        old.execute("INSERT INTO answers VALUES (?,64,'old text','stop',1,1,NULL,'','{}','{}','asked')", (entry(0)[0],))
        old.commit()
    with closing(AnswerStore.shared(path)) as store:
        found = store.find_many([(entry(0)[0], 64)]).get(entry(0)[0])
        assert found is not None
        assert found.text == "old text"
        (use,) = teachers(store)
        assert use.first == use.last > 0
    Journal(path.parent / "journal.db").close()


def test_when_answers_were_of_use_is_written_once_a_run_and_for_them_alone(path: Path, clock: Clock) -> None:
    fill(path, range(5))
    clock.now += 10 * DAY
    failpoints.arm(-1)
    try:
        with closing(AnswerStore.shared(path)) as store:
            for number in (0, 1, 1, 7):
                store.find_many([(entry(number)[0], 64)])
        assert failpoints.passed().count("after commit: shared answers used") == 1
    finally:
        failpoints.arm(0)
    with closing(AnswerStore.shared(path)) as store:
        rows = store.connection.execute("SELECT key, used - created FROM times").fetchall()
    used = {key for key, days in rows if days == 10 * DAY}
    assert used == {entry(0)[0], entry(1)[0]}
    assert all(days == 0 for key, days in rows if key not in used)


# list ----------------------------------------------------------------------------------------


def test_list_counts_answers_tokens_and_dollars_by_teacher(path: Path, capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    fill(path, range(4))
    clock.now += 3 * DAY
    fill(path, range(10, 12), teacher=OTHER, cost=0.001)
    fill(path, range(12, 13), teacher=OTHER, cost=None)
    found = json.loads(stepsynth(capsys, "cache", "list", "--json").out)
    assert found["path"] == str(path)
    assert found["bytes"] >= path.stat().st_size > 0
    assert (found["answers"], found["usd"]) == (7, pytest.approx(2.002))
    first, second = found["teachers"]
    assert (first["model"], first["answers"], first["prompt_tokens"], first["completion_tokens"]) == ("fake", 4, 40, 20)
    assert (second["backend"], second["model"], second["base_url"]) == ("openai", "gpt-4o-mini", "https://api.openai.com/v1")
    assert (second["answers"], second["unpriced"], second["usd"]) == (3, 1, pytest.approx(0.002))
    assert first["first"] < second["first"]
    printed = stepsynth(capsys, "cache", "list").out
    assert "fake" in printed
    assert "gpt-4o-mini" in printed


def test_an_unknown_sum_is_not_listed_as_nothing(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(path, range(2), cost=None)
    assert json.loads(stepsynth(capsys, "cache", "list", "--json").out)["usd"] is None
    assert "unknown" in stepsynth(capsys, "cache", "list").out


@pytest.mark.parametrize("command", [("list",), ("verify",), ("prune", "--all")])
def test_before_the_first_run_there_is_nothing_and_no_file_is_made(
    command: tuple[str, ...], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = stepsynth(capsys, "cache", *command)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out
    assert json.loads(stepsynth(capsys, "cache", *command, "--json").out)["path"] == str(path)
    assert not path.exists()


def test_without_a_file_the_commands_say_why(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPSYNTH_ANSWERS", "off")
    outcome = stepsynth(capsys, "cache", "list")
    assert (outcome.code, outcome.out) == (2, "")
    assert "STEPSYNTH_ANSWERS" in outcome.err


# verify --------------------------------------------------------------------------------------


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(statement, values).rowcount == 1
        connection.commit()


def test_what_runs_really_kept_is_whole(path: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run", "-q").code == 0
    outcome = stepsynth(capsys, "cache", "verify", "--json")
    found = json.loads(outcome.out)
    assert (outcome.code, found["damaged"], found["problems"]) == (0, [], [])
    assert found["checked"] == json.loads(stepsynth(capsys, "cache", "list", "--json").out)["answers"] > 0


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE answers SET request = replace(request, 'text 1.', 'text 9.') WHERE key = ?", "key is not its request's"),
        ('UPDATE answers SET teacher = \'{"backend":"fake","model":"x","base_url":null}\' WHERE key = ?', "key is not"),
        ("UPDATE answers SET teacher = 'x' WHERE key = ?", "teacher cannot be read"),
        ("UPDATE answers SET request = '{' WHERE key = ?", "request cannot be read"),
        ("UPDATE answers SET request = CAST(x'ff00' AS TEXT) WHERE key = ?", "request cannot be read"),
        ("UPDATE answers SET request = '{}' WHERE key = ?", "request cannot be read"),
        ("UPDATE answers SET max_tokens = 65 WHERE key = ?", "limit is not its request's"),
        ("UPDATE answers SET completion_tokens = -1 WHERE key = ?", "token counts are invalid"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_found_and_can_be_removed(
    statement: str, reason: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(path, range(3))
    key = entry(1)[0]
    change(path, statement, key)
    outcome = stepsynth(capsys, "cache", "verify", "--json")
    found = json.loads(outcome.out)
    assert outcome.code == 1
    assert found["checked"] == 3
    assert [damage["key"] for damage in found["damaged"]] == [key]
    assert reason in found["damaged"][0]["reason"]
    assert key[:16] in stepsynth(capsys, "cache", "verify").out
    assert stepsynth(capsys, "cache", "verify", "--remove").code == 0
    again = json.loads(stepsynth(capsys, "cache", "verify", "--json").out)
    assert (again["checked"], again["damaged"]) == (2, [])


@pytest.mark.parametrize("where", ["header", "middle"])
def test_a_damaged_file_is_reported_with_exit_code_1(where: str, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(path, range(200), text="x" * 500)
    data = bytearray(path.read_bytes())
    assert len(data) > 100_000
    start, end = (0, 4096) if where == "header" else (len(data) // 2, len(data) // 2 + 20_000)
    data[start:end] = b"\xff" * (end - start)
    path.write_bytes(data)
    outcome = stepsynth(capsys, "cache", "verify", "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out)["problems"]
    printed = stepsynth(capsys, "cache", "verify")
    assert (printed.code, printed.err) == (1, "")
    # A long path is broken where the line ends.
    assert f"Delete{path}" in "".join(printed.out.split())


# prune ---------------------------------------------------------------------------------------


def left(path: Path) -> set[int]:
    with closing(AnswerStore.shared(path)) as store:
        plain = AnswerStore(store.connection)
        found = plain.find_many([(entry(n)[0], 64) for n in range(300)] + [(entry(n, teacher=OTHER)[0], 64) for n in range(300)])
        times = store.connection.execute("SELECT COUNT(*) FROM times").fetchone()[0]
        assert times == len(found), "times of answers that are gone are gone"
    return {n for n in range(300) if {entry(n)[0], entry(n, teacher=OTHER)[0]} & set(found)}


def test_prune_takes_what_was_of_no_use_for_long(path: Path, clock: Clock) -> None:
    fill(path, range(4))
    clock.now += 20 * DAY
    fill(path, range(4, 6))
    with closing(AnswerStore.shared(path)) as store:
        store.find_many([(entry(0)[0], 64)]).get(entry(0)[0])
    clock.now += 20 * DAY
    with closing(AnswerStore.shared(path)) as store:
        gone = prune(store, older_than=30, now=clock.now)
    assert gone.answers == 3
    assert gone.usd == pytest.approx(1.5)
    assert left(path) == {0, 4, 5}


def test_prune_takes_what_one_model_answered_and_both_conditions_must_hold(path: Path, clock: Clock) -> None:
    fill(path, range(2), teacher=OTHER)
    clock.now += 20 * DAY
    fill(path, range(2, 4), teacher=OTHER)
    fill(path, range(4, 6))
    with closing(AnswerStore.shared(path)) as store:
        assert prune(store, older_than=10, teacher="gpt-4o-mini", now=clock.now).answers == 2
    assert left(path) == {2, 3, 4, 5}
    with closing(AnswerStore.shared(path)) as store:
        assert prune(store, teacher="gpt-4o").answers == 0, "a part of a name is no name"
        assert prune(store, teacher="gpt-4o-mini").answers == 2
    assert left(path) == {4, 5}


def test_prune_to_a_size_takes_the_least_used_and_the_file_shrinks(
    path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(path, range(100), text="x" * 5000)
    clock.now += DAY
    fill(path, range(100, 200), text="y" * 5000)
    assert path.stat().st_size > 1_000_000
    found = json.loads(stepsynth(capsys, "cache", "prune", "--max-size", "0.5", "--json").out)
    assert path.stat().st_size <= 500_000
    assert found["bytes"] <= 500_000
    assert found["freed_bytes"] > 500_000
    kept = left(path)
    assert 40 < len(kept) <= 100
    assert min(kept) >= 100, "the older ones went first"
    assert json.loads(stepsynth(capsys, "cache", "prune", "--max-size", "0.5", "--json").out)["answers"] == 0


def test_a_dry_run_counts_and_touches_nothing(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(path, range(6))
    before = path.read_bytes()
    outcome = stepsynth(capsys, "cache", "prune", "--all", "--dry-run")
    assert "6 answers would be removed" in outcome.out
    assert path.read_bytes() == before
    assert stepsynth(capsys, "cache", "prune", "--all").code == 0
    assert left(path) == set()


def test_prune_needs_to_be_told_what_may_go(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(path, range(1))
    outcome = stepsynth(capsys, "cache", "prune")
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "--older-than" in outcome.err
    assert left(path) == {0}


def test_pruning_while_a_run_reads_frees_the_answers_all_the_same(path: Path) -> None:
    fill(path, range(50), text="x" * 2000)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader, closing(AnswerStore.shared(path)) as store:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM answers").fetchone()
        store.connection.execute("PRAGMA busy_timeout=1")
        assert prune(store, everything=True).answers == 50
    assert left(path) == set()


def test_another_file_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.db"
    fill(other, range(3))
    assert json.loads(stepsynth(capsys, "cache", "list", "--file", other, "--json").out)["answers"] == 3


def test_verify_reads_every_answer_of_the_store(path: Path) -> None:
    fill(path, range(700))
    with closing(AnswerStore.shared(path)) as store:
        assert isinstance(store, SharedAnswers)
        assert verify(store) == (700, [], [])


def test_a_run_directory_finds_the_users_file(path: Path, world: World) -> None:
    directory: Any = RunDirectory(world.folder / "runs" / "x", world.config())
    assert directory.cache_path() == path


def test_a_damaged_journal_still_ends_a_run(tmp_path: Path) -> None:
    """What may not be lost is not given up as easily as what is shared."""
    (tmp_path / "journal.db").write_bytes(b"no database" * 100)
    with pytest.raises(RunError):
        Journal(tmp_path / "journal.db")
