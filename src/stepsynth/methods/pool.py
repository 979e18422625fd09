"""Self-training: real texts without labels get those of a student, and a second student learns from them, too.

The teacher is not asked. A student of the labelled rows labels the texts of ``data.pool``; another learns from these
texts, then from the labelled rows (Scudder 1965; Lee 2013, "Pseudo-label"). By cross-fitting, no labelled row judges a
student that learned from it, or from texts that a student of it has labelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.methods.base import Trains
from stepsynth.methods.baselines import Gold

if TYPE_CHECKING:
    from stepsynth.config import RunConfig

__all__ = ["SelfTraining"]


class SelfTraining(Gold):
    """Your labelled rows and texts without labels (``data.pool``), without a teacher.

    Examples:
        >>> SelfTraining(pool_rows=2000).values
        {'name': 'pool', 'pool_rows': 2000}
    """

    name = "pool"
    keys = frozenset({"seed_rows", "pool_rows", "pool_labels", "pool_near_duplicates", "folds", "final"})
    student: Trains = "crossfit"
    checks_labels = False
    takes_pool = True
    needs_pool = True
    self_trains = True

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Refuse a final student of written rows, of which there are none."""
        super().check(config)
        if config.method.final not in ("auto", "labels", "pool"):
            raise ValueError(
                f"method.final={config.method.final!r} does not go with method.name={cls.name}, which has no written rows: "
                "write auto, labels or pool"
            )
