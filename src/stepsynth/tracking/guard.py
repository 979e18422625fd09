"""Calls a tracker so that it can neither stop, delay without end nor litter a run.

A tracker's calls go to a daemon thread of its own. The run waits for each, but not longer than a limit; Ctrl-C shortens
the wait. While it waits, warnings are off, and what that thread prints is dropped unless it is the program's own tracker.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from stepsynth.errors import StepsynthError
from stepsynth.runtime.shutdown import stop_requested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LIMIT_S", "GaveUp", "Guarded"]

# One call; making a new local MLflow database takes 10 seconds on a slow disk.
LIMIT_S = 60.0
# After Ctrl-C.
_STOPPING_S = 5.0
_TICK_S = 0.05

T = TypeVar("T")


class GaveUp(Exception):
    """A tracker raised something or did not return in time; the text is for the user."""


class Guarded:
    """A thread that makes one tracker's calls.

    Args:
        prints: whether what the tracker prints is shown.
    """

    def __init__(self, *, prints: bool = False) -> None:
        self._prints = prints
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="stepsynth-tracker", daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], T]) -> T:
        """Return the result of a call.

        Raises:
            GaveUp: it failed or took too long; then no other call can be made.
        """
        result: list[T] = []
        failed: list[BaseException] = []
        ended = threading.Event()

        def job() -> None:
            try:
                result.append(work())
            # SystemExit, too: it must not end a thread that others wait for.
            except BaseException as error:
                failed.append(error)
            finally:
                ended.set()

        with _quiet(None if self._prints else self._thread):
            self._jobs.put(job)
            self._await(ended)
        if failed:
            raise GaveUp(_said(failed[0])) from failed[0]
        return result[0]

    def close(self) -> None:
        """Let the thread end after the call that it is in."""
        self._jobs.put(None)

    def _await(self, ended: threading.Event) -> None:
        limit = LIMIT_S
        latest = time.monotonic() + limit
        while not ended.wait(_TICK_S):
            if limit > _STOPPING_S and stop_requested():
                limit = _STOPPING_S
                latest = min(latest, time.monotonic() + limit)
            if time.monotonic() >= latest:
                raise GaveUp(f"it did not answer within {limit:g} s")

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _said(error: BaseException) -> str:
    text = " ".join((str(error) if isinstance(error, StepsynthError) else f"{type(error).__name__}: {error}").split())
    return text if len(text) <= 300 else text[:297] + "..."


class _Sieve:
    """A stream that drops what some threads write."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.dropped: list[threading.Thread | None] = []

    def write(self, text: str) -> int:
        """Write, unless one of those threads does."""
        if threading.current_thread() in self.dropped:
            return len(text)
        return int(self._inner.write(text) or 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


_changing = threading.Lock()
_waiting = 0
_sieves: dict[str, _Sieve] = {}
_caught: list[warnings.catch_warnings[None]] = []


@contextmanager
def _quiet(thread: threading.Thread | None) -> Iterator[None]:
    """Drop all warnings, and a thread's prints; streams and filters belong to the process, so several runs share the state."""
    _hush(thread)
    try:
        yield
    finally:
        _restore(thread)


def _hush(thread: threading.Thread | None) -> None:
    global _waiting
    with _changing:
        if not _waiting:
            for name in ("stdout", "stderr"):
                _sieves[name] = _Sieve(getattr(sys, name))
                setattr(sys, name, _sieves[name])
            _caught.append(warnings.catch_warnings())
            _caught[0].__enter__()
            warnings.simplefilter("ignore")
        _waiting += 1
        for sieve in _sieves.values():
            sieve.dropped.append(thread)


def _restore(thread: threading.Thread | None) -> None:
    global _waiting
    with _changing:
        _waiting -= 1
        for name, sieve in _sieves.items():
            sieve.dropped.remove(thread)
            # Somebody else may have replaced the stream in between; then it is theirs.
            if not _waiting and getattr(sys, name) is sieve:
                setattr(sys, name, sieve._inner)
        if not _waiting:
            _sieves.clear()
            _caught.pop().__exit__(None, None, None)
