"""What a run tells while it works; the command line draws it, a library call may ignore it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "SilentProgress"]


class Progress(Protocol):
    """Where a run reports to; every call is cheap and may be ignored."""

    def start(self, stage: str, target: int, unit: str) -> None:
        """Begin a stage with ``target`` things (``rows``, ``steps``) to do."""
        ...

    def advance(self, done: int, *, answers: int = 0) -> None:
        """Say how many of the stage's things are done, and how many answers came so far."""
        ...

    def finish(self, summary: str) -> None:
        """End the stage with one line about it."""
        ...

    def note(self, message: str) -> None:
        """Say something that the user should read, now."""
        ...


class SilentProgress:
    """Says nothing."""

    def start(self, stage: str, target: int, unit: str) -> None:
        """Ignore."""

    def advance(self, done: int, *, answers: int = 0) -> None:
        """Ignore."""

    def finish(self, summary: str) -> None:
        """Ignore."""

    def note(self, message: str) -> None:
        """Ignore."""
