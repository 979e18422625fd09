"""Clients in environments of their own: made on demand, started, watched, and their rows judged."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.clients.truth import answer_text

__all__ = ["OWN", "Outcome", "Task", "available", "interpreter", "make_environment", "run_client"]

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "benchmarks" / "clients"
# These need nothing but the environment that the benchmark itself runs in.
OWN = ("asyncio", "stepsynth")
_LOOK_EVERY_S = 0.25
_TAIL = 1500


def available() -> list[str]:
    """Return the names of all clients."""
    return sorted([*OWN, *(path.stem.removeprefix("requirements-") for path in CLIENTS.glob("requirements-*.txt"))])


def interpreter(client: str, environments: Path) -> Path:
    """Return a client's Python."""
    return Path(sys.executable) if client in OWN else make_environment(client, CLIENTS, environments)


def make_environment(name: str, folder: Path, environments: Path) -> Path:
    """Return the Python of an environment; it is made unless it is there with these very packages.

    Args:
        name: of the environment, and of what it holds: ``requirements-NAME.txt``, exact with ``constraints-NAME.txt``.
        folder: where those files are.
        environments: where environments are kept.

    Raises:
        SystemExit: pip failed; the message holds the end of what it said.
    """
    wanted, pinned = folder / f"requirements-{name}.txt", folder / f"constraints-{name}.txt"
    asked = wanted.read_bytes() + (pinned.read_bytes() if pinned.exists() else b"")
    mark, digest = environments / name / ".packages", hashlib.sha256(asked).hexdigest()
    python = environments / name / "bin" / "python"
    if mark.exists() and mark.read_text(encoding="utf-8") == digest:
        return python
    print(f"{name}: making {environments / name}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(environments / name)], check=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)]
    command += ["-c", str(pinned)] if pinned.exists() else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: its packages cannot be installed.\n{done.stderr[-_TAIL:]}")
    mark.write_text(digest, encoding="utf-8")
    return python


@dataclass(frozen=True)
class Task:
    """One start of a client; see `benchmarks.clients.common.Job`."""

    client: str
    python: Path
    base_url: str
    state: Path
    n: int
    concurrency: int
    style: str = "A"
    max_tokens: int = 64
    complete: bool = False
    timeout_s: float = 600.0


@dataclass
class Outcome:
    """How it ended and what it took.

    Attributes:
        ended: ``ok``, ``crashed``, ``hung`` (ended after its time) or ``killed`` (as was asked for).
        rows: row -> text that came out.
        line: what the client printed of itself.
        cpu_s: CPU time of the process and of the children it waited for.
        rss_mb: most memory of the whole process tree; shared pages count once.
        wall_s: from start to exit.
        started: time of the machine's monotonic clock.
        tail: the end of its output, where it did not end well.
    """

    ended: str
    cpu_s: float
    rss_mb: float
    wall_s: float
    started: float
    rows: dict[int, str] = field(default_factory=dict)
    line: dict[str, Any] = field(default_factory=dict)
    tail: str = ""

    def judged(self, style: str) -> tuple[int, int]:
        """Return (rows with the right text, rows with another)."""
        right = sum(text.strip() == answer_text(row, style) for row, text in self.rows.items())
        return right, len(self.rows) - right


def run_client(task: Task, kill_when: Callable[[], bool] | None = None) -> Outcome:
    """Start a client, wait for it and read its rows.

    Args:
        task: what to do.
        kill_when: asked every 20 ms; the client and its children are killed (-9) once it is true.
    """
    task.state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        out, log = Path(scratch) / "rows.jsonl", Path(scratch) / "log"
        with log.open("wb") as output:
            started = time.monotonic()
            process = subprocess.Popen(
                _command(task, out),
                cwd=ROOT,
                env=_environment(task),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            ended, used, peak = _wait(process, started + task.timeout_s, kill_when)
        wall = time.monotonic() - started
        cpu, memory = used.ru_utime + used.ru_stime, max(peak, used.ru_maxrss / 1024)
        outcome = Outcome(ended, cpu, memory, wall, started)
        said = log.read_text(encoding="utf-8", errors="replace").rstrip()
        if ended == "ok":
            outcome.line = json.loads(said.splitlines()[-1])
            outcome.rows = {row["row"]: row["text"] for row in map(json.loads, out.read_text(encoding="utf-8").splitlines())}
        else:
            outcome.tail = said[-_TAIL:]
        return outcome


def _command(task: Task, out: Path) -> list[str]:
    given = ["--base-url", task.base_url, "--n", str(task.n), "--concurrency", str(task.concurrency)]
    given += ["--style", task.style, "--max-tokens", str(task.max_tokens), "--out", str(out), "--state", str(task.state)]
    given += ["--complete"] if task.complete else []
    return [str(task.python), "-m", f"benchmarks.clients.{task.client.replace('-', '_')}", *given]


def _environment(task: Task) -> dict[str, str]:
    """Return the environment: what a library keeps in the home folder lies in the state folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    source = {"PYTHONPATH": str(ROOT / "src")} if task.client in OWN else {}
    return {**kept, **source, "HOME": str(task.state), "PYTHONUNBUFFERED": "1"}


def _wait(process: subprocess.Popen[bytes], deadline: float, kill_when: Callable[[], bool] | None) -> tuple[str, Any, float]:
    """Wait for the end; return how it ended, what it used and the most memory of its tree in MB."""
    memory = _Memory(process.pid)
    memory.start()
    ended = ""
    if kill_when is not None:
        threading.Thread(target=_kill_when, args=(process.pid, kill_when, memory), daemon=True).start()
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), _kill_group, (process.pid,))
    timer.start()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    timer.cancel()
    memory.stop()
    # Children that a crashed or killed parent left behind.
    _kill_group(process.pid)
    if process.returncode == 0:
        ended = "ok"
    elif process.returncode == -signal.SIGKILL:
        ended = "hung" if time.monotonic() >= deadline else "killed"
    else:
        ended = "crashed"
    return ended, used, memory.peak


def _kill_when(pid: int, kill_when: Callable[[], bool], memory: _Memory) -> None:
    while memory.running:
        if kill_when():
            _kill_group(pid)
            return
        time.sleep(0.02)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class _Memory(threading.Thread):
    """Looks at the memory of a process tree now and then: proportional set sizes, added up."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._end = threading.Event()
        self.peak = 0.0

    @property
    def running(self) -> bool:
        return not self._end.is_set()

    def run(self) -> None:
        while not self._end.wait(_LOOK_EVERY_S):
            self.peak = max(self.peak, sum(map(_pss_mb, _tree(self._pid))))

    def stop(self) -> None:
        self._end.set()
        self.join()


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            for thread in os.listdir(f"/proc/{parent}/task"):
                children = Path(f"/proc/{parent}/task/{thread}/children").read_text(encoding="ascii").split()
                found += map(int, children)
        except OSError:
            continue
    return found


def _pss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0.0
