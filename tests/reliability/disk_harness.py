"""Runs on disks that are too small, then on the same disks with room; started by ``unshare -rm``.

    unshare -rm python tests/reliability/disk_harness.py WORLD MOUNT KILOBYTES...

Each disk is a tmpfs of its own. Prints a JSON object per size.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from kill_harness import fingerprint, prepare
from stepsynth.cli import main as command_line
from stepsynth.report.verify import verify_run
from world import World


def mount(folder: Path, options: str) -> None:
    """Mount, or change, a disk in memory that only this process and its children see."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


def command(world: World, folder: Path) -> tuple[int, str]:
    """Run ``stepsynth run`` in a fork; return its exit code and what it said on standard error."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            code: object = 1
            try:
                os.dup2(said.fileno(), 2)
                # The folder that `-q` prints is no line of the answer.
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                sys.argv = ["stepsynth", "run", str(world.config_path), "--out", str(folder), "-q", "--set", "cache=null"]
                command_line()
                code = 0
            except SystemExit as stop:
                code = stop.code
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            finally:
                sys.stderr.flush()
                os._exit(code if isinstance(code, int) else 0 if code is None else 1)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode()


def journal_whole(folder: Path) -> bool:
    """Whether SQLite finds nothing wrong with what was left."""
    if not (folder / "journal.db").exists() or not (folder / "journal.db").stat().st_size:
        return True
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def tried(world: World, disk: Path, kilobytes: int) -> dict[str, Any]:
    """Run on a disk of some size, make room, run again."""
    mount(disk, f"size={kilobytes}k")
    try:
        code, said = command(world, disk / "run")
        left = sorted(p.name for p in (disk / "run").rglob("*.part")) if (disk / "run").exists() else []
        mount(disk, "remount,size=262144k")
        found = {"kilobytes": kilobytes, "code": code, "said": said, "parts": left, "whole": journal_whole(disk / "run")}
        again, said = command(world, disk / "run")
        findings = [str(finding) for finding in verify_run(disk / "run")]
        return {**found, "again": again, "said_again": said, "findings": findings, "fingerprint": fingerprint(disk / "run")}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def main() -> None:
    """Try every size."""
    prepare()
    for kilobytes in map(int, sys.argv[3:]):
        sys.stdout.write(json.dumps(tried(World(Path(sys.argv[1])), Path(sys.argv[2]), kilobytes)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
