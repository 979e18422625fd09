"""R3, R15, R18, R22: what interrupts a run does not show in it, what changes it is refused, and every row is accounted for."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from command import stepsynth
from kill_harness import fingerprint
from loopback import Fault, LoopbackServer
from reliability.runs import copied, go_on
from stepsynth.journal import Journal
from stepsynth.teachers.fake import FakeTeacher
from world import LABELS, World

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[2]


def test_r03_a_run_killed_here_and_there_ends_byte_identical(world: World, calm: Path, tmp_path: Path) -> None:
    """A few places for each pull; `tests/test_kill.py` kills at all of them, `benchmarks/kills.py` anywhere."""
    (tmp_path / "world").symlink_to(world.folder)
    harness = ROOT / "tests" / "kill_harness.py"
    done = subprocess.run(
        [sys.executable, str(harness), str(tmp_path), "6", "29"], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [outcome["signal"] for outcome in outcomes] == [9, 9]
    for outcome in outcomes:
        assert outcome["asked_again"] == []
        assert outcome["leftovers"] == []
        assert outcome["fingerprint"] == fingerprint(calm)


KILLED = """
import sys
from pathlib import Path
from stepsynth.runtime import failpoints
from stepsynth.config import parse_config
from stepsynth.generation import TeacherClient
from stepsynth.journal import Journal
from stepsynth.run import RunDirectory
from stepsynth.teachers.fake import FakeTeacher
from stepsynth.types import Example, Message, Request, Response, Sampling

run, cycle, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
big = "\\u05d0b\\u00e9 " * (size // 4)
config = parse_config({
    "task": {"name": "t", "instruction": "Decide.", "labels": {"a": "", "b": ""}},
    "data": {"validation": {"path": "v.csv"}}, "teacher": {"backend": "fake", "concurrency": 4}, "cache": None,
})
directory = RunDirectory.open(run, config)
journal = Journal(directory.journal_path)
if journal.meta("validation_sha256") is None:
    journal.start({"validation_sha256": "x"}, {"harvest": [Example("harvest-0", big, "a", big)]})
teacher = FakeTeacher(lambda request: Response(big + request.messages[0].content, raw=big), identity=config.teacher.identity())
requests = [Request((Message("user", f"{i}{big}"),), Sampling(), 0, "round-0/seed", i, "a") for i in range(30)]
failpoints.arm(2 * cycle)
client = TeacherClient(config.teacher, journal, config.budget, teacher=teacher)
for i in range(6 * cycle - 6, 30):
    client.run(requests[: i + 1])
"""


def big_fields(run: Path) -> dict[str, str]:
    with closing(sqlite3.connect(run / "journal.db")) as connection:
        rows = [
            *connection.execute("SELECT key, text, raw, request FROM answers"),
            *connection.execute("SELECT id, text, context FROM gold"),
        ]
    return {str(name): hashlib.sha256(repr(values).encode()).hexdigest() for name, *values in rows}


def test_r15_a_field_of_100_kb_is_the_same_after_five_kills(tmp_path: Path) -> None:
    run, seen = tmp_path / "run", dict[str, str]()
    for cycle in range(1, 6):
        done = subprocess.run([sys.executable, "-c", KILLED, str(run), str(cycle), "100000"], check=False, capture_output=True)
        assert done.returncode == -9, done.stderr.decode()[-2000:]
        found = big_fields(run)
        assert {name: found[name] for name in seen} == seen
        seen = found
    assert len(seen) > 3
    with closing(Journal(run / "journal.db")) as journal:
        (gold,) = journal.gold("harvest")
        assert gold.text == gold.context == "\u05d0b\u00e9 " * 25_000


def test_r15_making_derived_files_again_leaves_their_source_alone(calm: Path, world: World, tmp_path: Path) -> None:
    run = copied(calm, tmp_path)
    before = (run / "journal.db").read_bytes()
    for name in ("dataset.jsonl", "results.json", "report.html"):
        (run / name).write_text("nonsense")
    _, teacher = go_on(world.config(), run)
    assert teacher.calls == []
    assert fingerprint(run) == fingerprint(calm)
    with closing(sqlite3.connect(run / "journal.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    tables = ("answers", "rows", "gold", "stages")
    assert [contents(run, table) for table in tables] == [contents(calm, table) for table in tables]
    assert before


def contents(run: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(run / "journal.db")) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()


@pytest.mark.parametrize(
    "change", ["seed=3", "method.rows_per_mistake=2", "student.epochs=3", "teacher.sampling.temperature=0.1"]
)
def test_r18_a_change_that_could_change_the_result_is_refused_with_the_key_and_both_values(
    calm: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    run = copied(calm, tmp_path)
    before = fingerprint(run)
    key, _, value = change.partition("=")
    found = stepsynth(capsys, "run", world.config_path, "--out", run, "-q", "--set", change)
    assert found.code == 2
    assert re.search(rf"{re.escape(key)} was \S+, is {re.escape(value)}", found.err), found.err
    assert found.err.count("\n") == 1
    assert fingerprint(run) == before


def test_r18_changed_gold_rows_are_refused(calm: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(calm, tmp_path)
    with (world.folder / "validation.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    changed = tmp_path / "validation.csv"
    with changed.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([*rows[:-1], ["another text", rows[-1][1]]])
    found = stepsynth(capsys, "run", world.config_path, "--out", run, "-q", "--set", f"data.validation.path={changed}")
    assert found.code == 2
    assert "validation rows are not those" in found.err


@pytest.mark.parametrize(
    "change", ["teacher.concurrency=1", "teacher.timeout_s=5", "teacher.attempts=2", "budget.requests=100000"]
)
def test_r18_a_change_that_cannot_change_the_result_goes_on(calm: Path, world: World, tmp_path: Path, change: str) -> None:
    run = copied(calm, tmp_path)
    _, teacher = go_on(world.config(change), run)
    assert teacher.calls == []
    assert fingerprint(run) == fingerprint(calm)


def at(server: LoopbackServer, *changes: str) -> list[str]:
    """Return the settings by which the world's config asks a server."""
    teacher = {"backend": "openai", "model": "loopback", "base_url": server.base_url, "api_key_env": "null", "concurrency": 2}
    settings = [*(f"teacher.{name}={value}" for name, value in teacher.items()), *changes]
    return [word for setting in settings for word in ("--set", setting)]


def test_r09_a_whole_command_keeps_to_its_cap_where_a_server_lists_no_models(
    loopback: LoopbackServer, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback.list_fault = Fault.status(404)
    found = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run", "-q", *at(loopback, "budget.requests=9"))
    assert found.code == 2
    assert "budget.requests" in found.err
    assert len(loopback.completions) == 9


def test_r18_a_run_that_obtained_nothing_takes_over_a_changed_config_and_one_with_answers_does_not(
    loopback: LoopbackServer, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback.list_fault = Fault.status(403)
    out = ["run", world.config_path, "--out", tmp_path / "run", "-q"]
    wrong = stepsynth(capsys, *out, *at(loopback, "teacher.model=lopback"))
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "lopback" in wrong.err
    refused = len(loopback.completions)
    right = stepsynth(capsys, *out, *at(loopback, "budget.requests=9"))
    assert "budget.requests" in right.err
    assert [seen.json["model"] for seen in loopback.completions[refused:]] == ["loopback"] * 9
    again = stepsynth(capsys, *out, *at(loopback, "teacher.model=lopback"))
    assert "teacher.model was 'loopback', is 'lopback'" in again.err
    assert len(loopback.completions) == refused + 9
    with closing(Journal(tmp_path / "run" / "journal.db")) as journal:
        assert journal.totals().requests == 9


def test_r18_a_run_whose_only_request_may_have_been_billed_keeps_its_config(
    loopback: LoopbackServer, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loopback.faults = lambda _: Fault("reset")
    out = ["run", world.config_path, "--out", tmp_path / "run", "-q"]
    assert stepsynth(capsys, *out, *at(loopback, "teacher.attempts=1")).code == 2
    changed = stepsynth(capsys, *out, *at(loopback, "teacher.sampling.temperature=0.1"))
    assert "teacher.sampling.temperature was" in changed.err


@pytest.fixture(scope="module")
def faulty(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FakeTeacher]:
    """A run whose teacher declines, cuts off and says nothing, and of which some requests fail for good."""
    config = world.config("teacher.attempts=1", "method.rounds=1")
    faults = {"transient": 0.1, "refusal": 0.1, "empty": 0.1, "truncated": 0.1}
    folder = tmp_path_factory.mktemp("faulty") / "run"
    teacher = FakeTeacher(identity=config.teacher.identity(), faults=faults)
    go_on(config, folder, teacher)
    return folder, teacher


def test_r22_requested_rows_are_accepted_dropped_or_failed_everywhere(faulty: tuple[Path, FakeTeacher]) -> None:
    run, teacher = faulty
    results = json.loads((run / "results.json").read_text())
    (method,) = results["methods"].values()
    with closing(Journal(run / "journal.db")) as journal:
        planned = Counter((row.stage, row.reason) for row in journal.rows())
    stages = {stage["stage"]: stage for stage in method["stages"]}
    assert {stage for stage, _ in planned} == set(stages)
    for name, stage in stages.items():
        assert stage["requested"] == sum(count for (of, _), count in planned.items() if of == name)
        assert stage["accepted"] == planned[name, ""]
        assert stage["dropped"] == {reason: count for (of, reason), count in planned.items() if of == name and reason}
        assert stage["requested"] == stage["accepted"] + sum(stage["dropped"].values())
    reasons = {reason for _, reason in planned}
    assert {"failed", "refusal", "empty"} <= reasons
    # One attempt each, so every request is a row, and nothing else is.
    assert len(teacher.calls) == sum(stage["requested"] for stage in stages.values())
    whole = Counter[str]()
    for stage in stages.values():
        whole.update(stage["dropped"] if stage["kind"] != "rationales" else {})
    assert method["dropped"] == dict(whole)


def test_r22_the_page_shows_the_same_numbers(faulty: tuple[Path, FakeTeacher]) -> None:
    run, _ = faulty
    (method,) = json.loads((run / "results.json").read_text())["methods"].values()
    text = (run / "report.html").read_text(encoding="utf-8")
    section = text[text.index('<section id="ledger">') : text.index('<section id="rows">')]
    table = section[section.index("<table>") : section.index("</table>")]
    head = cells(table[: table.index("</thead>")])
    for stage in method["stages"]:
        (line,) = [part for part in table.split("<tr>") if f"<bdi>{stage['stage']}</bdi>" in part]
        shown = dict(zip(head, cells(line), strict=True))
        assert (shown["Requested"], shown["Accepted"]) == (str(stage["requested"]), str(stage["accepted"]))
        assert shown["Dropped"] == str(sum(stage["dropped"].values()))
        assert all(shown[reason] == str(count) for reason, count in stage["dropped"].items())
        assert shown["Adds up"] == "yes"


def cells(html: str) -> list[str]:
    return [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", html)]


def test_r22_status_shows_the_same_numbers(faulty: tuple[Path, FakeTeacher], capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = faulty
    (method,) = json.loads((run / "results.json").read_text())["methods"].values()
    shown = {stage["stage"]: stage for stage in json.loads(stepsynth(capsys, "status", run, "--json").out)["stages"]}
    for stage in method["stages"]:
        assert shown[stage["stage"]] | stage == shown[stage["stage"]]


def test_r10_refusals_empty_and_cut_off_answers_never_become_rows_and_never_block(faulty: tuple[Path, FakeTeacher]) -> None:
    run, _ = faulty
    with closing(sqlite3.connect(run / "journal.db")) as connection:
        ends = dict(connection.execute("SELECT key, finish_reason FROM answers"))
        texts = dict(connection.execute("SELECT key, text FROM answers"))
    bad = {key for key, end in ends.items() if end == "refusal" or not texts[key].strip()}
    assert len(bad) > 10, "the teacher did misbehave"
    with closing(Journal(run / "journal.db")) as journal:
        rows = journal.rows()
        assert journal.meta("finished")
        missing = [info["missing"] for _, _, kind, info, _ in journal.stages() if kind not in ("train", "test")]
    accepted = {row.key for row in rows if not row.reason}
    assert not accepted & bad
    for row in rows:
        if not row.reason and row.kind != "rationales" and ends[row.key] == "length":
            assert re.search(r"[.!?]['\")]*$", row.text), "what was cut off ends with a whole sentence or is dropped"
    assert not any(missing), "every stage has all its rows"
    assert Counter(row.label for row in rows if not row.reason and row.kind == "seed") == dict.fromkeys(LABELS, 10)
