"""What the runs of one comparison share when several go on at once: workers, the turn to write rows, students being trained.

A single run has the same object, with nobody to share with.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepsynth.runtime.turns import Once, Turns

if TYPE_CHECKING:
    from stepsynth.training.workers import Workers

__all__ = ["Together"]


@dataclass(frozen=True)
class Together:
    """One run's view of what it shares.

    Attributes:
        workers: where students are trained; ``None`` for this process.
        number: the run's place among those that wait for their turn to write rows.
        turns: only one writes rows at a time, so that no answer is paid for twice; ``None`` if there is no other.
        once: students that somebody trains now.
    """

    workers: Workers | None = None
    number: int = 0
    turns: Turns | None = None
    once: Once = field(default_factory=Once)

    def writing(self) -> AbstractContextManager[None]:
        """Return the turn to write rows, a context manager."""
        return self.turns.taken(self.number) if self.turns else nullcontext()
