"""R11, R12: a full or broken disk costs nothing but time, and no reader ever sees half a file."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kill_harness import committed, fingerprint
from reliability.runs import go_on
from stepsynth.config import RunConfig
from stepsynth.errors import RunError
from stepsynth.report.verify import verify_run
from stepsynth.runtime import failpoints
from stepsynth.runtime.files import disk_errors, write_atomic, write_out
from stepsynth.teachers.fake import FakeTeacher
from world import World

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm(0)


@pytest.fixture(scope="package")
def short(world: World) -> RunConfig:
    """A run of one round."""
    return world.config("method.rounds=0", "cache=null")


@pytest.fixture(scope="package")
def short_calm(short: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], list[str]]:
    """What that run ends with, and the places where it writes."""
    folder = tmp_path_factory.mktemp("short") / "run"
    failpoints.arm(-1)
    go_on(short, folder)
    places = list(dict.fromkeys(name for name in failpoints.passed() if name.startswith("before ")))
    failpoints.arm(0)
    return fingerprint(folder), places


@pytest.mark.parametrize("fault", ["enospc", "eio"])
def test_r11_an_error_at_every_write_in_turn_is_one_line_and_the_run_ends_as_if_there_had_been_none(
    short: RunConfig, short_calm: tuple[dict[str, str], list[str]], tmp_path: Path, fault: str
) -> None:
    """Each attempt comes as far as the next place that writes, and no write after it succeeds either."""
    (calm, places), run = short_calm, tmp_path / "run"
    for place in places:
        before = committed(run)
        teacher = FakeTeacher(identity=short.teacher.identity())
        failpoints.arm(place, fault)
        with pytest.raises(RunError) as caught:
            go_on(short, run, teacher)
        failpoints.arm(0)
        assert "\n" not in str(caught.value)
        assert re.search("disk|No space|Input/output", str(caught.value)), caught.value
        assert caught.value.hint
        assert not before & set(teacher.calls), "what was committed is not asked for again"
        assert not list(run.rglob("*.part")), "what could not be written takes no room"
        if (run / "config.json").exists() and (run / "journal.db").exists():
            # What could not be written is missing; nothing else is wrong.
            assert {finding.kind for finding in verify_run(run)} <= {"derived"}
    go_on(short, run)
    assert fingerprint(run) == calm
    assert verify_run(run) == []


def test_r11_a_place_is_meant_by_its_number_or_its_name() -> None:
    """Disk errors last from that place on, before what writes and never after it."""
    for meant in (3, "before commit: b"):
        failpoints.arm(meant, "eio")
        failpoints.fail_point("before commit: a")
        failpoints.fail_point("after commit: a")
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            failpoints.fail_point("before commit: b")
        failpoints.fail_point("after commit: b")
        with pytest.raises(OSError, match="Input/output error"):
            failpoints.fail_point("before rename: c")


def test_r11_the_variable_names_place_and_fault() -> None:
    program = (
        "from stepsynth.runtime.failpoints import fail_point\nfor name in ('x', 'before commit: y'):\n    fail_point(name)\n"
    )
    ends = {
        "2": -9,
        "before commit: y": -9,
        "2:enospc": 1,
        "before commit: y:eio": 1,
        "3": 0,
        "": 0,
    }
    for value, code in ends.items():
        environment = {**os.environ, "STEPSYNTH_FAILPOINT": value}
        done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, env=environment)
        assert done.returncode == code, value


def test_r11_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="enospc"):
        failpoints.arm(1, "fire")


def can_mount(folder: Path) -> bool:
    program = f"mount -t tmpfs -o size=64k tmpfs '{folder}'"
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(["unshare", "-rm", "sh", "-c", program], check=False, capture_output=True).returncode
    )


def small_disks(world: World, tmp_path: Path, sizes: list[int]) -> list[dict[str, object]]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("this system lets nobody mount a small disk")
    harness = Path(__file__).with_name("disk_harness.py")
    command = ["unshare", "-rm", sys.executable, str(harness), str(world.folder), str(disk), *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_small_disks(found: list[dict[str, object]], calm: Path) -> None:
    for disk in found:
        said = str(disk["said"])
        where = f"{disk['kilobytes']} KB: {said}"
        assert disk["code"] == 2, where
        assert said.startswith("stepsynth: "), where
        assert said.count("\n") == 1, where
        assert "full" in said or "No space" in said or "disk I/O" in said, where
        assert disk["whole"], where
        assert disk["parts"] == [], where
        assert (disk["again"], disk["said_again"]) == (0, ""), where
        assert disk["findings"] == [], where
        assert disk["fingerprint"] == fingerprint(calm), where


def test_r11_on_a_disk_that_is_really_full_nothing_is_lost(calm: Path, world: World, tmp_path: Path) -> None:
    check_small_disks(small_disks(world, tmp_path, [500]), calm)


@pytest.mark.slow
def test_r11_on_disks_of_any_size_nothing_is_lost(calm: Path, world: World, tmp_path: Path) -> None:
    check_small_disks(small_disks(world, tmp_path, [64, 96, *range(128, 1000, 64)]), calm)


def test_r11_a_write_beyond_the_file_size_limit_leaves_the_old_file(tmp_path: Path) -> None:
    """Works where nobody may mount: the kernel refuses to let any file grow over the limit."""
    program = """
import resource, sys
from pathlib import Path
from stepsynth.errors import RunError
from stepsynth.runtime.files import write_atomic
path = Path(sys.argv[1])
write_atomic(path, "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomic(path, "new" * 4096)
except RunError as error:
    print(error)
"""
    path = tmp_path / "results.json"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert "cannot be written: File too large. Make room" in done.stdout
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_a_file_that_the_user_named_keeps_its_permissions(tmp_path: Path) -> None:
    """A new one is for its owner only."""
    path = tmp_path / "out.csv"
    write_out(path, "new")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o664)
    write_out(path, "again")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("again", 0o664)


def test_r11_a_full_database_is_one_line_and_keeps_what_was_committed(tmp_path: Path) -> None:
    """SQLite's own SQLITE_FULL, whatever the disk."""
    from stepsynth.journal import Journal
    from stepsynth.types import Message, Request, Response, Sampling

    teacher: dict[str, object] = {"backend": "fake"}

    def answer(number: int, size: int) -> tuple[str, Request, Response]:
        request = Request((Message("user", str(number)),), Sampling(), 0, "round-0/seed", number, "a")
        return request.key(teacher), request, Response("x" * size)

    with closing(Journal(tmp_path / "journal.db")) as journal:
        journal.commit_answers([answer(0, 100)], teacher)
        journal._connection.execute("PRAGMA max_page_count=20")
        with pytest.raises(RunError, match=r"database or disk is full.*disk is not full, then run it again"):
            journal.commit_answers([answer(number, 50_000) for number in range(1, 9)], teacher)
        assert journal.totals().requests == 1
        journal._connection.execute("PRAGMA max_page_count=100000")
        journal.commit_answers([answer(number, 50_000) for number in range(1, 9)], teacher)
        assert journal.totals().requests == 9


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "x"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
    ],
)
def test_r11_every_librarys_word_for_a_full_disk_is_understood(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(RunError, match="No space left on device"), disk_errors(tmp_path / "model"):
        raise error


@pytest.mark.parametrize(
    "error", [OSError("no such model"), PermissionError(13, "denied"), ValueError("os error 2"), KeyboardInterrupt()]
)
def test_r11_other_errors_stay_what_they_are(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value is error


def test_r12_a_thousand_rewrites_show_no_reader_half_a_file(tmp_path: Path) -> None:
    """The reader is another process, so nothing of this one hides a torn file from it."""
    contents = ["".join(f"{number}:{i}\n" for i in range(3000)) for number in range(3)]
    program = """
import sys
whole = {open(path).read() for path in sys.argv[2:]}
seen = set()
reads = 0
print("ready", flush=True)
while (text := open(sys.argv[1]).read()) != "end":
    assert text in whole, f"read {len(text)} characters"
    seen.add(text)
    reads += 1
print(reads, len(seen))
"""
    samples = []
    for number, content in enumerate(contents):
        samples.append(tmp_path / f"sample-{number}")
        samples[-1].write_text(content)
    path = tmp_path / "results.json"
    write_atomic(path, contents[0])
    command = [sys.executable, "-c", program, str(path), *map(str, samples)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for number in range(1000):
            # In one piece and in many.
            write_atomic(path, contents[number % 3] if number % 2 else iter(contents[number % 3].splitlines(keepends=True)))
        write_atomic(path, "end")
        out, error = reader.communicate()
    assert not error
    reads, kinds = map(int, out.split())
    assert reads > 100
    assert kinds == 3
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_r12_a_writer_that_fails_half_way_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    def pieces() -> Iterator[str]:
        yield "new"
        raise sqlite3.OperationalError("disk I/O error")

    write_atomic(tmp_path / "dataset.jsonl", "old")
    with pytest.raises(sqlite3.OperationalError):
        write_atomic(tmp_path / "dataset.jsonl", pieces())
    assert (tmp_path / "dataset.jsonl").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["dataset.jsonl"]
