"""S3 with every validation row in it: each feeds the loop and judges it, by cross-fitting.

Mistakes are extrapolated as in S3, and seed rows are written like validation rows where the task allows it
(``method.seed_from``). What differs is who finds the mistakes: the validation rows are dealt into folds, and each
fold is predicted by a student that learnt from the written rows and from the other folds. A prompt shows rows of
one fold only, so that a written row belongs to one fold and can be kept from the student that this fold judges.
"""

from __future__ import annotations

from stepsynth.methods.base import LOOP, REASONS, ROWS, Trains
from stepsynth.methods.s3 import S3

__all__ = ["CrossFit"]


class CrossFit(S3):
    """The default: the loop with every labelled row in it, and a last student from written and labelled rows.

    Its mistakes are those of students that had not seen the rows they got wrong.

    Example:
        >>> CrossFit(rounds=1, seed_rows=120).name
        'crossfit'
    """

    name = "crossfit"
    keys = ROWS | REASONS | LOOP | {"folds", "final"}
    student: Trains = "crossfit"
    checks_labels = False
    seeds_from = "gold"
    leads = True
