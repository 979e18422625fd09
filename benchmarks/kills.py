"""Random ``kill -9`` on a run over a real server that misbehaves: what is lost, what is paid for twice?

    python benchmarks/kills.py                                      # 2,000 rows, 30 % faults, 20 kills
    python benchmarks/kills.py --rows 60 --rounds 3 --kills 200 --faults 0   # many kills, three rounds
    python benchmarks/kills.py --json

A run of the fake task is first left alone, then done again and killed at random moments until it has
been killed as often as asked for (a run that ends earlier is followed by another one from nothing).
The server is a process of its own on 127.0.0.1 that logs every request before it answers and, in the
second part, spoils that share of the requests: 429, 500, 503, reset and closed connections, time-outs,
half bodies, broken JSON. Exit code 1 when anything was lost: a data set or results that differ by a
byte, a committed answer that was asked for again, more requests wasted per kill than were in flight or
waiting for their commit, a finding of ``verify_run``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from loopback import Fault, LoopbackServer, Seen
from stepsynth.teachers.chat import request_seed
from world import LABELS, World, build_world

__all__ = ["Figures", "measure", "table"]

ROOT = Path(__file__).resolve().parents[1]

# Answers wait for their commit in groups of 64, or as many as come in a quarter of a second while another group is written.
COMMIT_GROUP, COMMIT_S = 64, 0.25
AMBIGUOUS = ("reset", "close", "truncated", "malformed", "hang")
STATUSES = (429, 500, 503)
MOST_FAULTS = 3


@dataclass
class Figures:
    """What happened.

    Attributes:
        rows: rows of the data set.
        rounds: rounds of extrapolation.
        concurrency: most requests in flight.
        calm_requests: requests of the run that was left alone.
        kills: processes killed.
        runs: runs that were killed and in the end completed.
        requests: requests of those runs that reached the server.
        faults: of these, spoilt by the server, by kind.
        sent_twice: answers that were on their way when the process was killed, and were asked for again.
        most_sent_twice: of one kill.
        allowed_per_kill: in flight or waiting for their commit, at most.
        asked_again: requests for answers that had been committed.
        rows_lost: rows of the data set that a killed run did not end with, or had besides.
        same_files: whether all their data sets, results and models were byte-identical.
        findings: what `stepsynth.report.verify.verify_run` found wrong.
        seconds: that the killed runs took.
    """

    rows: int
    rounds: int
    concurrency: int
    calm_requests: int = 0
    kills: int = 0
    runs: int = 0
    requests: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    sent_twice: int = 0
    most_sent_twice: int = 0
    allowed_per_kill: int = 0
    asked_again: int = 0
    rows_lost: int = 0
    same_files: bool = True
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing was lost and no more was wasted than is allowed."""
        kept = self.same_files and not self.rows_lost and not self.findings
        return kept and not self.asked_again and self.most_sent_twice <= self.allowed_per_kill


# the server ----------------------------------------------------------------------------


class Server:
    """A loopback server in a process of its own; its log is a file with a line per request."""

    def __init__(self, folder: Path, latency: float, seed: int) -> None:
        self.log, self._mode = folder / "requests.log", folder / "mode"
        self.log.touch()
        self.spoil(0.0, 0)
        reader, writer = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                os.close(reader)
                # Ends with its parent, whatever ends that.
                threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()
                with LoopbackServer(faults=self._fault, labels=LABELS, latency=latency) as server:
                    self._descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND)
                    self._seed, self._counts = seed, Counter[tuple[str, str]]()
                    os.write(writer, server.base_url.encode())
                    os.close(writer)
                    threading.Event().wait()
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            self.base_url = pipe.read()

    def spoil(self, rate: float, run: int) -> None:
        """Spoil this share of the requests from now on; a run's faults do not depend on another's."""
        part = self._mode.with_suffix(".part")
        part.write_text(json.dumps([rate, run]))
        part.replace(self._mode)

    def seen(self) -> list[tuple[str, str]]:
        """Return identity and fault of every request so far."""
        return [(line[:64], line[65:]) for line in self.log.read_text().splitlines()]

    def stop(self) -> None:
        """End it."""
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)

    def _watch(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    def _fault(self, seen: Seen) -> Fault | None:
        body = seen.json
        name = identity([[turn["role"], turn["content"]] for turn in body["messages"]], body.get("seed", 0))
        rate, run = json.loads(self._mode.read_text())
        count = self._counts[f"{run}", name]
        self._counts[f"{run}", name] += 1
        dice = random.Random(f"{self._seed}/{run}/{name}/{count}")
        fault: Fault | None = None
        kind: int | str = ""
        if count < MOST_FAULTS and dice.random() < rate:
            # A request whose fate is unclear is tried once more only, so that comes first or never.
            kind = dice.choice((*STATUSES, *AMBIGUOUS) if count == 0 else STATUSES)
            fault = Fault.status(kind, {"Retry-After": "0"}) if isinstance(kind, int) else Fault(kind)
        os.write(self._descriptor, f"{name} {kind}\n".encode())
        return fault


def identity(messages: list[list[str]], seed: int) -> str:
    """Return what a request is known by to both sides: the server never sees its key."""
    return hashlib.sha256(json.dumps([messages, seed]).encode()).hexdigest()


def committed(run: Path) -> set[str]:
    """Return the identities of the answers in a run's journal."""
    if not (run / "journal.db").exists():
        return set()
    with closing(sqlite3.connect(run / "journal.db")) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'answers'").fetchone():
            return set()
        answers = connection.execute("SELECT key, request FROM answers").fetchall()
    return {identity(json.loads(request)["messages"], request_seed(key)) for key, request in answers}


# the runs ------------------------------------------------------------------------------


def life(world: World, run: Path, seconds: float | None) -> bool:
    """Run in a fork; kill it after some seconds. Return whether it was killed."""
    from stepsynth.cli import running

    child = os.fork()
    if child == 0:
        code = 1
        try:
            running.run_config(world.config("cache=null"), run, quiet=True)
            code = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, 0 if deadline is None else os.WNOHANG)
        if ended:
            break
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None
        else:
            time.sleep(0.005)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a run failed where it should have gone on")
    return os.WIFSIGNALED(status)


def files(run: Path) -> dict[str, str]:
    """Return digests of what must not depend on kills."""
    paths = [run / "dataset.jsonl", run / "results.json", *sorted(run.glob("models/round-*/done.json"))]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def measure(rows: int, rounds: int, kills: int, faults: float, *, concurrency: int, latency: float, seed: int) -> Figures:
    """Run, kill, count."""
    waiting = max(COMMIT_GROUP, round(2 * COMMIT_S * concurrency / latency))
    figures = Figures(rows, rounds, concurrency, allowed_per_kill=concurrency + waiting)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Before anything with threads of its own is loaded, since it forks.
        server = Server(folder, latency, seed)
        try:
            _measure(figures, folder, server, kills, faults, random.Random(seed))
        finally:
            server.stop()
    return figures


def _measure(figures: Figures, folder: Path, server: Server, kills: int, faults: float, dice: random.Random) -> None:
    _load()
    world = build_world(folder / "world")
    teacher = {"backend": "openai", "model": "loopback", "base_url": server.base_url, "concurrency": figures.concurrency}
    changes = {"teacher": {**teacher, "timeout_s": 2.0, "attempts": 8}}
    world.write_config({**changes, "method.seed_rows": figures.rows, "method.rounds": figures.rounds})
    calm = folder / "calm" / "run"
    calm.parent.mkdir()
    started = time.monotonic()
    life(world, calm, None)
    alone = time.monotonic() - started
    figures.calm_requests = len(server.seen())
    figures.rows = sum(1 for _ in (calm / "dataset.jsonl").open(encoding="utf-8"))
    started, first = time.monotonic(), figures.calm_requests
    # So that as many kills as asked for fall on each run, whatever is done again after a kill.
    longest = 2 * alone / max(kills, 1) + 0.3 * alone
    while figures.runs == 0 or figures.kills < kills:
        figures.runs += 1
        run = folder / f"torn-{figures.runs}" / "run"
        run.parent.mkdir()
        server.spoil(faults, figures.runs)
        while life(world, run, dice.uniform(0, longest) if figures.kills < kills else None):
            figures.kills += 1
            first = _account(figures, server, run, first)
        first = _account(figures, server, run, first)
        _compare(figures, calm, run)
    figures.seconds = round(time.monotonic() - started, 1)
    spoilt = server.seen()[figures.calm_requests :]
    figures.requests, figures.faults = len(spoilt), dict(Counter(kind for _, kind in spoilt if kind).most_common())


_known: dict[Path, set[str]] = {}


def _account(figures: Figures, server: Server, run: Path, first: int) -> int:
    """Count what one process asked for against what was known before it and is known after it."""
    time.sleep(0.05)  # what the dead process sent is on its way to the log
    seen = server.seen()
    asked = seen[first:]
    before, after = _known.get(run, set()), committed(run)
    figures.asked_again += sum(name in before for name, _ in asked)
    lost = sum(not kind and name not in after for name, kind in asked)
    figures.sent_twice += lost
    figures.most_sent_twice = max(figures.most_sent_twice, lost)
    _known[run] = after
    return len(seen)


def _compare(figures: Figures, calm: Path, run: Path) -> None:
    from stepsynth.report.verify import verify_run

    due, have = (Counter((folder / "dataset.jsonl").read_bytes().splitlines()) for folder in (calm, run))
    figures.rows_lost += sum(((due - have) + (have - due)).values())
    figures.same_files &= files(calm) == files(run)
    figures.findings += [str(finding) for finding in verify_run(run)]


def _load() -> None:
    """Import once what every fork needs."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer  # noqa: F401

    import stepsynth.report
    import stepsynth.students.classifier  # noqa: F401

    torch.set_num_threads(1)


def table(figures: Figures) -> str:
    """Return the figures as lines for people."""
    faults = ", ".join(f"{count:,} x {kind}" for kind, count in figures.faults.items()) or "none"
    lines = {
        "rows of the data set": f"{figures.rows:,}",
        "kill -9 survived": f"{figures.kills:,} (over {figures.runs:,} runs, {figures.seconds:,.0f} s)",
        "requests": f"{figures.requests:,} ({figures.calm_requests:,} when left alone)",
        "spoilt by the server": f"{sum(figures.faults.values()):,} ({faults})",
        "sent twice": f"{figures.sent_twice:,}, {figures.most_sent_twice:,} at one kill ({figures.allowed_per_kill:,} allowed)",
        "committed answers asked again": f"{figures.asked_again:,}",
        "rows lost": f"{figures.rows_lost:,}",
        "files byte-identical": "yes" if figures.same_files else "NO",
        "findings of verify": "; ".join(figures.findings) or "none",
    }
    return "\n".join(f"{name:30} {value}" for name, value in lines.items())


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="seed rows of the run")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of extrapolation after them")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--faults", type=float, default=0.3, help="share of the requests that the server spoils")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds per answer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args()
    figures = measure(o.rows, o.rounds, o.kills, o.faults, concurrency=o.concurrency, latency=o.latency, seed=o.seed)
    found = {**asdict(figures), "good": figures.good, "seed": o.seed}
    out = ROOT / "benchmarks" / "results" / f"kills-{o.rows}-{o.rounds}-{o.kills}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1) if o.json else table(figures))
    sys.exit(0 if figures.good else 1)


if __name__ == "__main__":
    main()
