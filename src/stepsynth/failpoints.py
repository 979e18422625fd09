"""Named places where a test may kill the process, to show that nothing is lost there.

``STEPSYNTH_FAILPOINT=k`` ends the process with SIGKILL at the k-th place that it passes
(counted from 1). Without the variable a place costs one integer comparison.
"""

from __future__ import annotations

import os
import signal

__all__ = ["arm", "fail_point", "passed"]

_passed: list[str] = []
_kill_at = int(os.environ.get("STEPSYNTH_FAILPOINT") or 0)


def arm(kill_at: int) -> None:
    """Start counting anew and kill at the ``kill_at``-th place; -1 counts without killing."""
    global _kill_at
    _passed.clear()
    _kill_at = kill_at


def passed() -> tuple[str, ...]:
    """Names of the places passed since `arm`, oldest first."""
    return tuple(_passed)


def fail_point(name: str) -> None:
    """Mark a place: just before or just after a commit or a rename."""
    if _kill_at == 0:
        return
    _passed.append(name)
    if len(_passed) == _kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
