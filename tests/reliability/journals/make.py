"""Writes the journal of a run of today as SQL text, once for each release that changes what a run leaves.

    python tests/reliability/journals/make.py NAME METHOD

A small run with the fake teacher is killed before the last round's rows are committed; what it left is
written as ``NAME.sql`` (the journal), ``NAME-answers.sql`` (the shared answers) and ``NAME.json`` (its
config). A file that is there already is never written again: it was made by the release that had that
form, and every later one must read it. ``schema-1`` is an ``s3`` run of version 0.1.0, ``before-plugins`` a
``crossfit`` run of 0.2.0.dev0 from before families, methods and students could be plug-ins.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

# Behind the caller's own path, so that an older release can write its own.
sys.path.append(str(Path(__file__).parents[2]))

from stepsynth.config import RunConfig, parse_config
from world import build_world

__all__ = ["config"]

# What the release that made them did, and they say nothing of.
BEFORE = {"head": "fresh", "keep": "best", "precision": "float32", "min_steps": 0}
HERE = Path(__file__).parent
KILL_BEFORE = "before commit: stage round-1/extrapolate"


def config(method: str = "s3") -> RunConfig:
    """Return the run's config; its files are looked for in the working directory."""
    checked = {"label_check": "none"} if method == "s3" else {"folds": 2}
    return parse_config(
        {
            "task": {
                "name": "invented",
                "instruction": "Decide what kind of text this is.",
                "labels": {"kalm": "about kalm", "rund": "about rund", "spitz": "about spitz"},
            },
            "data": {"validation": {"path": "validation.csv"}, "test": {"path": "test.csv"}},
            "teacher": {"backend": "fake", "model": "fake"},
            "student": {**BEFORE, "model": "student", "epochs": 2, "batch_size": 16, "learning_rate": 3e-3, "max_length": 32},
            "method": {"name": method, "seed_rows": 12, "rounds": 1, "rows_per_mistake": 1, "rationales": 2, **checked},
            "cache": "answers.db",
        }
    )


def dumped(path: Path) -> str:
    """Return a database as SQL text, its schema version included."""
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return "\n".join([*connection.iterdump(), f"PRAGMA user_version={version};", ""])


def killed_run(folder: Path, method: str) -> None:
    """Run in a fork that ends with SIGKILL; nothing is closed, nothing is tidied."""
    child = os.fork()
    if child == 0:
        from stepsynth.cli.running import run_config

        def stop(name: str) -> None:
            if name == KILL_BEFORE:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            with patch("stepsynth.journal.database.fail_point", stop):
                run_config(config(method), folder, quiet=True)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise SystemExit("the run was not killed")


def main() -> None:
    """Write the files of one run of today, unless they are there."""
    called, method = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        world = build_world(Path(name) / "world", validation=8, test=6)
        os.chdir(world.folder)
        run = Path("runs") / "run"
        run.parent.mkdir()
        killed_run(run, method)
        files = {
            f"{called}.sql": dumped(run / "journal.db"),
            f"{called}-answers.sql": dumped(run.parent / "answers.db"),
            f"{called}.json": (run / "config.json").read_text(encoding="utf-8"),
        }
    for file, content in files.items():
        if not (HERE / file).exists():
            (HERE / file).write_text(content, encoding="utf-8")
            sys.stdout.write(f"{file}: {len(content):,} characters\n")


if __name__ == "__main__":
    main()
