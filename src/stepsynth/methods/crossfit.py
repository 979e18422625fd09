"""S3 with every validation row in it: each feeds the loop and judges it, by cross-fitting.

Mistakes are extrapolated as in S3, and seed rows are written like validation rows where the task allows it
(``method.seed_from``). What differs is who finds the mistakes: the validation rows are dealt into folds, and each
fold is predicted by a student that learnt from the written rows and from the other folds. A prompt shows rows of
one fold only, so that a written row belongs to one fold and can be kept from the student that this fold judges.
"""

from __future__ import annotations

from stepsynth.methods.s3 import S3

__all__ = ["CrossFit"]


class CrossFit(S3):
    """The loop of S3 whose mistakes are those of students that had not seen the rows they got wrong."""

    student = "crossfit"
