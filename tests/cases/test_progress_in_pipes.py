"""Progress where nobody watches: whole lines in a file or a pipe, no blank ones and no bars, from the command and from Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stepsynth.api.progress import open_progress
from world import build_world

_PYTHON = "import sys, stepsynth as ss; ss.load_config(sys.argv[1]).run('out', progress=True)"


@pytest.mark.parametrize("command", [["-m", "stepsynth", "run"], pytest.param(["-c", _PYTHON], marks=pytest.mark.slow)])
def test_a_log_of_a_run_has_lines_and_nothing_else(tmp_path: Path, command: list[str]) -> None:
    world = build_world(tmp_path)
    world.write_config({"method.rounds": 0, "method.rationales": 0, "method.seed_rows": 12, "student.epochs": 1, "cache": None})
    program = [sys.executable, *command, str(world.config_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, cwd=tmp_path, env=_environment())
    assert "seed rows: 12 rows accepted" in done.stderr
    for printed in (done.stderr, done.stdout):
        assert "\r" not in printed
        assert "\x1b" not in printed
        assert all(line.strip() for line in printed.splitlines())


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_every_way_of_telling_says_the_same(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="stepsynth")
    for progress in (True, None):
        with open_progress(progress) as shown:
            shown.start("round-0/seed", 1200, "rows")
            shown.finish("1,200 rows accepted")
            shown.note("A note.")
    lines = ["round-0/seed: 0 / 1,200 rows", "round-0/seed: 1,200 rows accepted", "A note."]
    assert capsys.readouterr().err.splitlines() == lines
    assert [record.getMessage() for record in caplog.records] == lines
