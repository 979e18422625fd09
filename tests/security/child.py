"""Start ``stepsynth`` as a user would, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from guard import CHILDREN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["start"]


def start(
    *arguments: object,
    code: str = "",
    options: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    umask: int = -1,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``python OPTIONS -m stepsynth ARGUMENTS`` (or ``-c CODE``) with the network guard in it; wait for its end.

    Args:
        arguments: of the command line.
        code: a program to run in place of ``-m stepsynth``.
        options: of the interpreter.
        env: added to this process's environment.
        umask: of the child; -1 keeps this process's.
        cwd: its working directory.
    """
    paths = [str(CHILDREN), *(path for path in sys.path if path and path != str(CHILDREN))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **(env or {})}
    what = ["-c", code] if code else ["-m", "stepsynth"]
    command = [sys.executable, *options, *what, *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        umask=umask,
        cwd=cwd,
        check=False,
        timeout=600,
    )
