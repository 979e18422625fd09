"""Kills runs at fail points and resumes them; run as a program, so that every run starts from a clean process.

    python tests/kill_harness.py FOLDER POINT [POINT ...]      # -1: uninterrupted
    python tests/kill_harness.py FOLDER                        # points are read from standard input

Modules are imported once and each run is a fork, which makes a killed-and-resumed run cost
a second instead of ten. Prints one JSON object per point.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sqlite3
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))

from conditions import THREADS, import_late
from forked import forked
from stepsynth.cli import running
from stepsynth.teachers.fake import FakeTeacher
from stepsynth.types import Request, Response
from world import World


class LoggingTeacher(FakeTeacher):
    """Writes the key of every request to a file before answering, as a server's log would."""

    def __init__(self, log: Path, identity: dict[str, object]) -> None:
        super().__init__(identity=identity)
        self._log = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._teacher_identity = identity

    async def generate(self, request: Request) -> Response:
        os.write(self._log, f"{request.key(self._teacher_identity)}\n".encode())
        return await super().generate(request)


def run_once(world: World, folder: Path, kill_at: int, log: Path) -> tuple[int, list[str]]:
    """Run in a fork; return the signal that ended it (0: none) and the fail points it passed."""

    def work() -> None:
        config = world.config()
        with patch("stepsynth.generation.client.create_teacher", lambda c: LoggingTeacher(log, c.identity())):
            running.run_config(config, folder, quiet=True)

    return forked(work, kill_at)


def committed(folder: Path) -> set[str]:
    """Return the keys of the answers that a killed run left in its journal."""
    path = folder / "journal.db"
    if not path.exists():
        return set()
    connection = sqlite3.connect(path)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'answers'").fetchone():
            return set()
        return {key for (key,) in connection.execute("SELECT key FROM answers")}
    finally:
        connection.close()


def fingerprint(folder: Path) -> dict[str, str]:
    """Return digests of everything that must not depend on kills."""
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("dataset.jsonl", "results.json")}
    connection = sqlite3.connect(folder / "journal.db")
    for table in ("rows", "predictions", "evaluations", "gold", "meta"):
        rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
        found[table] = hashlib.sha256(repr(rows).encode()).hexdigest()
    connection.close()
    for model in sorted((folder / "models").glob("round-*")):
        found[model.name] = hashlib.sha256((model / "done.json").read_bytes()).hexdigest()
    return found


def killed_and_resumed(world: World, root: Path, point: int) -> dict[str, Any]:
    """Kill a run at one point, look, resume it, look again."""
    folder, log = root / f"{point}" / "run", root / f"{point}.log"
    folder.parent.mkdir(parents=True)
    signal_number, passed = run_once(world, folder, point, log)
    before = committed(folder)
    asked_before = log.read_text().split() if log.exists() else []
    if signal_number:
        run_once(world, folder, -1, log)
    asked_after = (log.read_text().split() if log.exists() else [])[len(asked_before) :]
    return {
        "point": point,
        "signal": signal_number,
        "passed": passed,
        "asked_again": sorted(before & set(asked_after)),
        "lost": len(set(asked_before) - before),
        "leftovers": sorted(p.name for p in folder.rglob("*.part")),
        "fingerprint": fingerprint(folder),
    }


def prepare() -> None:
    """Import what a run imports late, and put it out of the sight of the garbage collector, which runs after every training."""
    import torch

    import_late()
    torch.set_num_threads(THREADS)
    gc.collect()
    gc.freeze()


def main() -> None:
    warnings.simplefilter("error")
    prepare()
    root = Path(sys.argv[1])
    for point in map(int, sys.argv[2:] or sys.stdin):
        sys.stdout.write(json.dumps(killed_and_resumed(World(root / "world"), root / "kills", point)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
