"""R5, R14: answers outlive every defect behind them, and one process at a time writes to a run."""

from __future__ import annotations

import json
import os
import resource
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from loopback import LoopbackServer, completion
from reliability.runs import copied, go_on
from stepsynth.config import TeacherConfig, parse_config
from stepsynth.filters import FilterPipeline
from stepsynth.filters.normalise import clean
from stepsynth.generation import StageGenerator, TeacherClient
from stepsynth.journal import Journal
from stepsynth.run import RunDirectory
from stepsynth.runtime.progress import SilentProgress
from stepsynth.types import Message, Request, Sampling
from world import World

BROKEN = '{"text": "half of a JSON object\u2028'


class Plan:
    """Rows for two labels."""

    stage = "round-0/seed"
    kind = "seed"
    targets = {"a": 40, "b": 40}  # noqa: RUF012

    def request(self, label: str, number: int, index: int) -> Request:
        """Ask for the n-th text of a label."""
        return Request((Message("user", f"{label} {number}"),), Sampling(), 0, self.stage, index, label)


def config(base_url: str) -> TeacherConfig:
    found = parse_config(
        {
            "task": {"name": "t", "instruction": "Decide.", "labels": {"a": "", "b": ""}},
            "data": {"validation": {"path": "v.csv"}},
            "teacher": {"backend": "openai", "model": "loopback", "base_url": base_url, "concurrency": 8},
        }
    )
    return found.teacher


def test_r05_bodies_that_no_parser_understands_are_kept_and_a_mended_parser_asks_nothing_again(tmp_path: Path) -> None:
    bodies: list[str] = []

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        asked = body["messages"][-1]["content"]
        number = int(asked.split()[-1])
        text = BROKEN if number % 5 == 0 else f"A text of kind {asked} that is long enough."
        value = completion(text, body)
        bodies.append(json.dumps(value))
        return value

    def defective(text: str, **options: Any) -> str:
        return str(json.loads(text)["text"]) if text.startswith("{") else clean(text, **options)

    from stepsynth.config import BudgetConfig

    pipeline = FilterPipeline.for_rationales(Plan.targets)
    with LoopbackServer(answer) as server:
        teacher = config(server.base_url)
        with closing(Journal(tmp_path / "journal.db")) as journal:
            generator = StageGenerator(
                TeacherClient(teacher, journal, BudgetConfig()), journal, max_overgeneration=2, progress=SilentProgress()
            )
            with (
                patch("stepsynth.generation.candidates.clean", defective),
                pytest.raises(ValueError, match=r"delimiter|Unterminated"),
            ):
                generator.run(Plan(), 0, pipeline, [])
        asked = len(server.completions)
        assert asked >= 8, "the defect shows when answers are there"
        assert sum(BROKEN[:20] in json.loads(body)["choices"][0]["message"]["content"] for body in bodies) >= 0.1 * asked
        with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
            kept = [raw for (raw,) in connection.execute("SELECT raw FROM answers")]
        assert sorted(kept) == sorted(bodies), "every body is there, byte for byte"
        with closing(Journal(tmp_path / "journal.db")) as journal:
            StageGenerator(
                TeacherClient(teacher, journal, BudgetConfig()), journal, max_overgeneration=2, progress=SilentProgress()
            ).run(Plan(), 0, pipeline, [])
            rows = journal.rows()
        prompts = [seen.json["messages"][-1]["content"] for seen in server.completions]
        assert not set(prompts[:asked]) & set(prompts[asked:]), "no answer that is there is asked for again"
        assert len(set(prompts)) == len(prompts) == len(rows)
        assert sum(not row.reason for row in rows) == 80


def test_r14_a_second_process_ends_at_once_names_the_first_and_asks_nothing(calm: Path, world: World, tmp_path: Path) -> None:
    run = copied(calm, tmp_path)
    with LoopbackServer(models=None) as server:
        world_config = tmp_path / "config.yaml"
        text = world.config_path.read_text().replace("path: validation", f"path: {world.folder}/validation")
        world_config.write_text(text.replace("path: test", f"path: {world.folder}/test"))
        with closing(RunDirectory.open(run, world.config())):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            # The server is where any request would go; the run that is refused does not get that far.
            teacher = {"teacher.backend": "openai", "teacher.model": "x", "teacher.base_url": server.base_url}
            sets = [piece for key, value in teacher.items() for piece in ("--set", f"{key}={value}")]
            command = [sys.executable, "-m", "stepsynth", "run", str(world_config), "--out", str(run), "-q", *sets]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 2, done.stderr
        assert f"in use by pid {os.getpid()} on {socket.gethostname()}" in done.stderr
        assert done.stderr.count("\n") == 1
        assert server.requests == []
        # Of the processor, so that a busy machine does not decide.
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_r14_the_lock_of_a_dead_process_is_no_obstacle(calm: Path, world: World, tmp_path: Path) -> None:
    run = copied(calm, tmp_path)
    program = """
import os, signal, sys
from pathlib import Path
from stepsynth.run import RunDirectory
directory = RunDirectory.open(Path(sys.argv[1]), RunDirectory.read(Path(sys.argv[1])).config)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program, str(run)], check=False).returncode == -9
    left = (run / "lock").read_text()
    assert left.startswith("pid ")
    _, teacher = go_on(world.config(), run)
    assert teacher.calls == []
    assert (run / "lock").read_text() == f"pid {os.getpid()} on {socket.gethostname()}\n" != left
