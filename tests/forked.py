"""Work in a fork of this process, killed at a fail point: imports are paid for once."""

from __future__ import annotations

import os
from collections.abc import Callable

from stepsynth.runtime import failpoints

__all__ = ["forked"]


def forked(work: Callable[[], object], kill_at: int) -> tuple[int, list[str]]:
    """Do some work in a fork.

    Args:
        work: what is done.
        kill_at: number of the fail point at which the fork is killed; -1 for none.

    Returns:
        The signal that ended it (0: none) and the fail points that it passed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            failpoints.arm(kill_at)
            work()
            os.write(writer, "\n".join(failpoints.passed()).encode())
            status = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        passed = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"a fork failed (killed at {kill_at})")
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), passed
