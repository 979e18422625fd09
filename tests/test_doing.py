"""What a run is doing now, as `status` tells it from another shell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from stepsynth.cli.running import print_status, read_status
from stepsynth.config import parse_config
from stepsynth.journal import Journal
from stepsynth.run import RunDirectory
from stepsynth.run.doing import Doing, read_doing
from stepsynth.run.pausing import PauseNotes
from stepsynth.runtime.progress import SilentProgress


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lock").write_text("pid 7 on a-machine\n")
    return tmp_path


def test_the_stage_and_how_far_it_is_stand_in_the_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("stepsynth.run.doing.time.monotonic", lambda: clock[0])
    notes = PauseNotes(SilentProgress(), folder)
    notes.start("round-0/extrapolate", 120, "rows")
    notes.advance(3)
    found = read_doing(folder, "pid 7 on a-machine")
    assert found is not None
    # Reports come many times a second; the file is written every two seconds.
    assert (found["stage"], found["done"], found["target"], found["unit"]) == ("round-0/extrapolate", 0, 120, "rows")
    clock[0] += 3
    notes.advance(74)
    found = read_doing(folder, "pid 7 on a-machine")
    assert found is not None
    assert found["done"] == 74
    assert 0 <= found["seconds"] < 60
    notes.finish("done")
    assert read_doing(folder, "pid 7 on a-machine") is None
    assert (folder / "lock").read_text() == "pid 7 on a-machine\n"


def test_what_a_killed_process_was_doing_is_not_read(folder: Path) -> None:
    Doing(folder).start("round-0/seed", 5, "rows")
    assert read_doing(folder, None) is None


@pytest.mark.parametrize(
    "second",
    [
        "",
        "{",
        "[]",
        '{"stage": "x"}',
        "\udc80",
        "null",
        "x" * 5000,
        '{"stage": "x", "done": 1e999, "target": 1, "unit": "", "since": 1}',
    ],
)
def test_a_damaged_line_is_none(folder: Path, second: str) -> None:
    (folder / "lock").write_bytes(b"pid 7 on a-machine\n" + second.encode("utf-8", "surrogateescape"))
    assert read_doing(folder, "pid 7 on a-machine") is None


def test_a_lock_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    doing = Doing(tmp_path / "missing")
    doing.start("round-0/seed", 5, "rows")
    doing.advance(2)
    doing.end()


def test_another_process_is_named_without_its_second_line(tmp_path: Path) -> None:
    values = {"task": {"name": "t", "instruction": "Decide.", "labels": ["a", "b"]}, "data": {"validation": {"path": "v.csv"}}}
    with closing(RunDirectory.open(tmp_path / "run", parse_config(values))) as directory:
        Doing(directory.path).start("round-0/seed", 5, "rows")
        code = "import sys, pathlib, stepsynth.run as run\nprint(run.RunDirectory.read(pathlib.Path(sys.argv[1])).holder())"
        said = subprocess.run(
            [sys.executable, "-c", code, str(directory.path)], capture_output=True, text=True, check=True
        ).stdout
        assert said.startswith(f"pid {os.getpid()} on ")
        assert len(said.splitlines()) == 1
        assert json.loads((directory.path / "lock").read_text().splitlines()[1])["stage"] == "round-0/seed"


def test_status_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"task": {"name": "t", "instruction": "Decide.", "labels": ["a", "b"]}, "data": {"validation": {"path": "v.csv"}}}
    with closing(RunDirectory.open(tmp_path / "run", parse_config(values))) as directory:
        Journal(directory.journal_path).close()
        Doing(directory.path).start("round-0/seed", 1200, "rows")
        found = read_status(directory.path)
        print_status(found)
    said = capsys.readouterr().out
    assert f"run: running (pid {os.getpid()} on " in said
    assert re.search(r"^now round-0/seed: 0 of 1,200 rows, 0:0\d so far$", said, re.MULTILINE)
    assert "requested" not in said, "an empty table says nothing"
    assert found["now"]["target"] == 1200
