"""What is asked of a real server: stepsynth's commands about the shipped example, a kill, and requests that it should refuse."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.servers.kinds import RealServer

__all__ = ["Commands", "checked", "killed", "refusals", "small_run", "variant"]

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "examples" / "shop" / "config.yaml"
VARIABLE = "REAL_SERVER_KEY"
CONCURRENCY = 2
# A smaller run than the example's: the seed rows of the paper's method, and a student that takes seconds to train.
SMALL = {
    "method.name": "s3",
    "method.rationales": 1,
    "method.seed_rows": 6,
    "method.rounds": 0,
    "method.max_overgeneration": 2,
    "data.validation.sample": 24,
    "data.validation.seed": 0,
    "data.test.sample": 60,
    "data.test.seed": 0,
    "student.head": "probe",
    "student.max_length": 48,
    "teacher.sampling.max_tokens": 32,
    "cache": "null",
}


# Without reasons the prompts of a label are the same, so that one request can ask for several rows.
VARIANTS: dict[str, dict[str, object]] = {
    "json": {
        "method.name": "zerogen",
        "method.seed_rows": 12,
        "teacher.structured": "json",
        "teacher.rows_per_request": 2,
    },
    "logprobs": {"teacher.logprobs": "true", "method.second_reading": "drop"},
}


NOTHING: Mapping[str, object] = {}


class Commands:
    """stepsynth's commands with a real server as their teacher.

    Args:
        server: a started server.
        work: for run directories.
        timeout: seconds for one command.
    """

    def __init__(self, server: RealServer, work: Path, timeout: float) -> None:
        self.server, self.work, self.timeout = server, work, timeout
        self.teacher: dict[str, Any] = {
            "backend": "openai",
            "model": server.model,
            "base_url": server.base_url,
            "concurrency": CONCURRENCY,
            "timeout_s": 300,
        }
        if server.key:
            self.teacher["api_key_env"] = VARIABLE

    def line(self, command: str, *more: str, settings: Mapping[str, object] = NOTHING) -> list[str]:
        """Return a command line."""
        given = {**{f"teacher.{name}": value for name, value in self.teacher.items()}, **SMALL, **settings}
        where = ["models", "check", "--config"] if command == "check" else [command]
        sets = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
        return [sys.executable, "-m", "stepsynth", *where, str(CONFIG), "--json", *more, *sets]

    def environment(self, key: str | None = None) -> dict[str, str]:
        """Return the environment: what a server refuses is found out anew by every command."""
        own = {"PYTHONPATH": str(ROOT / "src"), "STEPSYNTH_ANSWERS": "off", VARIABLE: key or self.server.key or "none"}
        return {**os.environ, **own}

    def ask(
        self, command: str, *more: str, settings: Mapping[str, object] = NOTHING, key: str | None = None, fails: bool = False
    ) -> tuple[dict[str, Any], str, float, int]:
        """Run a command; return what it printed, its messages, its seconds and the completions that it asked for.

        Raises:
            SystemExit: it failed, and was not expected to; the message is what it said.
        """
        before, started = self.server.completions(), time.monotonic()
        done = subprocess.run(
            self.line(command, *more, settings=settings),
            capture_output=True,
            text=True,
            env=self.environment(key),
            timeout=self.timeout,
            check=False,
        )
        seconds = time.monotonic() - started
        if done.returncode and not fails:
            raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}\n{done.stdout[-500:]}")
        # Some servers write their log a moment later.
        time.sleep(1)
        asked = self.server.completions() - before
        print(f"{self.server.name}, {command}: {seconds:.0f} s, {asked} completions", file=sys.stderr, flush=True)
        text = done.stdout.strip()
        return json.loads(text) if text.startswith("{") else {}, done.stderr.strip(), seconds, asked


def checked(commands: Commands) -> dict[str, str]:
    """Return what ``models check`` finds, with every setting in use."""
    settings = {
        "teacher.sampling.min_p": 0.1,
        "teacher.sampling.repetition_penalty": 1.3,
        "teacher.structured": "json",
        "teacher.logprobs": "true",
    }
    found, _, _, _ = commands.ask("check", settings=settings, fails=True)
    lines = {name: f"{entry['state']}: {entry['found']}" for name, entry in found["findings"].items()}
    # How long it took says nothing about the server.
    findings = {name: line for name, line in lines.items() if name not in {"server", "parallel", "speed"}}
    if found["problem"]:
        findings["problem"] = _without_places(found["problem"], commands.server)
    return findings


def small_run(commands: Commands) -> dict[str, Any]:
    """Plan, run, and run again.

    Raises:
        SystemExit: a command failed, the second run asked for answers that the first had bought, or the
            server's count is not the run's.
    """
    plan, _, plan_s, planned = commands.ask("plan")
    out = ["--out", str(commands.work / "run")]
    results, _, run_s, asked = commands.ask("run", *out)
    _, _, again_s, again = commands.ask("run", *out)
    used = next(iter(results["methods"].values()))
    if again or not asked:
        raise SystemExit(f"the run asked {asked} times and, finished, {again} times more.")
    if asked != used["requests"]:
        raise SystemExit(f"the server answered {asked} times, the run counts {used['requests']}.")
    return {
        "plan_s": round(plan_s, 1),
        "run_s": round(run_s, 1),
        "again_s": round(again_s, 1),
        "completions": {"plan": planned, "run": asked, "again": again},
        "planned": {name: plan[name] for name in ("requests", "tokens", "minutes")},
        "used": {name: used[name] for name in ("requests", "tokens", "rows", "stages")},
    }


def killed(commands: Commands, after: int) -> dict[str, int]:
    """Kill a run (-9) once it has so many answers, resume it, and count.

    Raises:
        SystemExit: a kept answer was asked for again, or more was asked twice than was in flight.
    """
    folder, server = commands.work / "killed", commands.server
    before = server.completions()
    out = ["--out", str(folder)]
    process = subprocess.Popen(
        commands.line("run", *out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=commands.environment(),
        start_new_session=True,
    )
    until = time.monotonic() + commands.timeout
    while time.monotonic() < until and process.poll() is None and _kept(folder) < after:
        time.sleep(0.05)
    if process.poll() is not None:
        raise SystemExit("the run ended before it was killed.")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = _kept(folder)
    # What was in flight may still be answered.
    time.sleep(3)
    asked_before = server.completions() - before
    _, _, _, asked_after = commands.ask("run", *out)
    _, _, _, again = commands.ask("run", *out)
    in_the_end = _kept(folder)
    found = {
        "asked before the kill": asked_before,
        "kept at the kill": kept,
        "asked after": asked_after,
        "kept in the end": in_the_end,
        "asked when finished": again,
    }
    if asked_after != in_the_end - kept or asked_before - kept > CONCURRENCY or again:
        raise SystemExit(f"answers were bought twice: {found}")
    return found


def variant(commands: Commands, name: str) -> dict[str, Any]:
    """Run with JSON and two rows per request, or with log-probabilities for second readings."""
    folder, settings = commands.work / name, VARIANTS[name]
    results, said, _, asked = commands.ask("run", "--out", str(folder), settings=settings)
    used, kept = next(iter(results["methods"].values())), _kept(folder)
    found = {"completions": asked, "answers": kept, "tokens": used["tokens"], "rows": used["rows"]}
    if name == "logprobs":
        return {**found, "with log-probabilities": _with_probability(folder)}
    return found if asked < kept else {**found, "said": said[-600:]}


def refusals(commands: Commands) -> dict[str, str]:
    """Return what stepsynth says to requests that a server should refuse."""
    found: dict[str, str] = {}
    for name, changes, key in (
        ("another model", {"teacher.model": "no-such-model"}, None),
        ("a wrong key", {}, "a-wrong-key"),
    ):
        if name == "a wrong key" and not commands.server.key:
            continue
        told, said, _, _ = commands.ask("check", settings=changes, key=key, fails=True)
        found[name] = told.get("problem") or ("taken" if told.get("works") else said)
    os.environ[VARIABLE] = commands.server.key or "none"
    for name, words, limit in (("a prompt that is too long", 6000, 8), ("more tokens than there is room", 1, 100_000)):
        found[name] = asyncio.run(_answer(commands.teacher, "word " * words, limit))
    return {name: _without_places(line, commands.server) for name, line in found.items()}


def _without_places(line: str, server: RealServer) -> str:
    """Return a line without the port and the folder, which differ from machine to machine."""
    line = line.replace(server.base_url, "SERVER")
    return line.replace(server.model, "MODEL") if "/" in server.model else line


async def _answer(teacher: Mapping[str, Any], text: str, limit: int) -> str:
    """Return how an answer ended, or the error."""
    from dataclasses import replace

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.teachers import AsyncTeacher, answer_of, create_teacher
    from stepsynth.testing import make_request

    asked = make_request(text)
    asked = replace(asked, sampling=replace(asked.sampling, max_tokens=limit))
    # Stopped by its own end of text, or else within a few words.
    own = create_teacher(TeacherConfig(**{**teacher, "options": {"stop": ["\n", "."]}}))
    assert isinstance(own, AsyncTeacher)
    try:
        return f"answered, {(await answer_of(own, asked)).finish_reason}"
    except TeacherError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        await own.close()


def _journals(folder: Path) -> list[Path]:
    return sorted(folder.rglob("journal.db"))


def _asked_of(folder: Path, query: str) -> int:
    count = 0
    for path in _journals(folder):
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                count += connection.execute(query).fetchone()[0]
        except sqlite3.OperationalError:
            # It is being made.
            continue
    return count


def _kept(folder: Path) -> int:
    """Return how many answers a run directory holds."""
    return _asked_of(folder, "SELECT count(*) FROM answers")


def _with_probability(folder: Path) -> int:
    return _asked_of(folder, "SELECT count(*) FROM answers WHERE raw LIKE '%\"logprob\"%'")
