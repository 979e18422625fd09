"""When to stop adding rounds: when two in a row gained nothing that rows alone would not explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepsynth.evaluation.statistics import Interval, as_matrix, paired_difference, paired_p_value, plain

__all__ = ["Gain", "gains", "should_stop"]

PATIENCE = 2


@dataclass(frozen=True)
class Gain:
    """What a round gained over an earlier one on the same rows.

    Attributes:
        difference: mean of the later minus mean of the earlier, in [-1, 1].
        ci95: 95 % interval of the difference.
        p_value: one-sided, of no gain.
    """

    difference: float
    ci95: Interval
    p_value: float


def gains(previous: Sequence[float], latest: Sequence[float], seed: int = 0) -> Gain:
    """Compare a round with an earlier one.

    The test is McNemar's exact one, asked in one direction, where rows are right or wrong, and a
    sign-flip permutation test otherwise.

    Args:
        previous: per row of the select half, the score of the earlier round's student.
        latest: the same of the later round.
        seed: of the resampling.

    Raises:
        ValueError: no rows, not equally many, or a score outside [0, 1].
    """
    result = paired_difference(latest, previous, seed)
    differences = as_matrix([latest]) - as_matrix([previous])
    return Gain(result.difference, result.ci95, plain(paired_p_value(differences, seed, "greater")))


def should_stop(rounds: Sequence[Sequence[float]], level: float = 0.05) -> bool:
    """Return whether the last two rounds each failed to gain on the best round before them.

    With no true gain a single round claims one with probability ``level`` at most, and the loop
    goes on because of such a claim about as rarely. A true gain that the select half is too small
    to show is stopped as well: see `stepsynth.evaluation.power.detectable_difference`.

    Args:
        rounds: per round from 0 on, per row of the select half, the score; rows in one order.
        level: one-sided significance level of a gain.

    Returns:
        ``False`` before there were two rounds after round 0.

    Raises:
        ValueError: no rounds, no rows, rounds of different rows, or a score outside [0, 1].
    """
    scores = as_matrix(rounds)
    if len(scores) <= PATIENCE:
        return False
    means = scores.mean(axis=1)
    for latest in range(len(scores) - PATIENCE, len(scores)):
        best = int(means[:latest].argmax())
        if paired_p_value(scores[latest] - scores[best], 0, "greater") <= level:
            return False
    return True
