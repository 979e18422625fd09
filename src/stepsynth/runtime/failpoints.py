"""Named places where a test can kill the process or make the disk fail, to show that nothing is lost there.

``STEPSYNTH_FAILPOINT=k`` kills the process with SIGKILL at the k-th place that it passes (counted
from 1). ``STEPSYNTH_FAILPOINT=k:enospc`` simulates a full disk from the k-th place on: every write
fails there as the operating system or SQLite would make it fail; ``k:eio`` is a broken disk,
``k:edquot`` an exhausted quota. A place's name instead of k means the first time that it is passed.
Without the variable a place costs one comparison.
"""

from __future__ import annotations

import errno
import os
import signal

__all__ = ["arm", "fail_point", "passed"]

# Fault -> error number and SQLite's message.
_FAULTS = {
    "enospc": (errno.ENOSPC, "database or disk is full"),
    "edquot": (errno.EDQUOT, "database or disk is full"),
    "eio": (errno.EIO, "disk I/O error"),
}
_KILL = "kill"

_passed: list[str] = []


def _parsed(value: str) -> tuple[int | str, str]:
    place, _, fault = value.rpartition(":")
    if fault not in (_KILL, *_FAULTS):
        place, fault = value, _KILL
    return (int(place) if place.lstrip("-").isdigit() else place) or 0, fault


_fail_at, _fault = _parsed(os.environ.get("STEPSYNTH_FAILPOINT", ""))


def arm(fail_at: int | str, fault: str = _KILL) -> None:
    """Restart the count.

    Args:
        fail_at: the place (from 1, or its name) to fail at; -1 only counts, 0 turns fail points off.
        fault: ``kill`` (at that place), or ``enospc``, ``edquot``, ``eio`` (from that place on).

    Raises:
        ValueError: an unknown fault.
    """
    global _fail_at, _fault
    _passed.clear()
    if fault not in (_KILL, *_FAULTS):
        raise ValueError(f"{fault!r} is not a fault; known: {_KILL}, {', '.join(_FAULTS)}")
    _fail_at, _fault = fail_at, fault


def passed() -> tuple[str, ...]:
    """Names of the places passed since `arm`, oldest first."""
    return tuple(_passed)


def fail_point(name: str) -> None:
    """Mark a place just before or just after a commit or a rename.

    Raises:
        OSError: an injected disk fault before a rename.
        sqlite3.OperationalError: the same before a commit.
    """
    global _fail_at
    if _fail_at == 0:
        return
    _passed.append(name)
    if _fail_at == name:
        _fail_at = len(_passed)
    if not isinstance(_fail_at, int) or not 0 < _fail_at <= len(_passed):
        return
    if _fault == _KILL and len(_passed) == _fail_at:
        os.kill(os.getpid(), signal.SIGKILL)
    # Nothing is written after a commit or a rename.
    if _fault != _KILL and not name.startswith("after "):
        _break(name)


def _break(name: str) -> None:
    number, said = _FAULTS[_fault]
    if name.startswith("before commit"):
        import sqlite3

        raise sqlite3.OperationalError(said)
    raise OSError(number, os.strerror(number))
