"""S3 with cross-fitting: every validation row both feeds the loop and judges it.

Mistakes are extrapolated as in S3, and seed rows are written like validation rows if the task allows it
(``method.seed_from``). The difference is how mistakes are found: the validation rows are dealt into folds, and
each fold is predicted by a student trained on the written rows and the other folds. A prompt shows rows of one
fold only, so every written row belongs to a fold and can be kept from the student that this fold judges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.methods.annotate import annotation
from stepsynth.methods.base import LOOP, REASONS, ROWS, Trains
from stepsynth.methods.s3 import S3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.config import RunConfig
    from stepsynth.methods import MethodContext, Plan

__all__ = ["CrossFit"]


_OF_POOLS = ("pool_rows", "pool_labels", "pool_near_duplicates", "annotate_rows", "annotate_per_mistake")


class CrossFit(S3):
    """The default: all labelled rows feed the loop, and a last student learns from written and labelled rows.

    Mistakes come from students that had not seen the rows they got wrong. With texts without labels (``data.pool``), the
    last student may learn from these, too.

    Examples:
        >>> CrossFit(rounds=1, seed_rows=120).name
        'crossfit'
    """

    name = "crossfit"
    keys = ROWS | REASONS | LOOP | frozenset({"folds", "final", *_OF_POOLS})
    student: Trains = "crossfit"
    checks_labels = False
    seeds_from = "gold"
    takes_pool = True
    self_trains = True
    leads = True

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Refuse texts to label without a pool."""
        super().check(config)
        for key in ("annotate_rows", "annotate_per_mistake"):
            if (wanted := getattr(config.method, key)) and config.data.pool is None:
                raise ValueError(f"method.{key}={wanted} needs texts without labels: name a file in data.pool")

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        """Yield the stages of `S3`, and texts of the pool for the teacher to label: ``annotate_rows`` beside the seed rows.

        Beside rows written from mistakes these are ``annotate_per_mistake`` texts like each of them.
        """
        yield from super().plans(round_number, ctx)
        method = ctx.config.method
        if method.annotate_per_mistake or not round_number:
            plan = annotation(ctx, round_number, method.annotate_rows, method.annotate_per_mistake)
            if plan.targets:
                yield plan
