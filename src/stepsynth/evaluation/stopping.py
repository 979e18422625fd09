"""Decides when to stop adding rounds: when two in a row gained nothing beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepsynth.evaluation.statistics import Interval, as_matrix, paired_difference, paired_p_value, plain

__all__ = ["Gain", "gains", "should_stop"]

PATIENCE = 2


@dataclass(frozen=True)
class Gain:
    """A round's gain over an earlier one on the same rows.

    Attributes:
        difference: mean of the later minus mean of the earlier, in [-1, 1].
        ci95: 95 % interval of the difference.
        p_value: one-sided, for the hypothesis of no gain.
    """

    difference: float
    ci95: Interval
    p_value: float


def gains(previous: Sequence[float], latest: Sequence[float], seed: int = 0) -> Gain:
    """Compare a round with an earlier one.

    The test is McNemar's exact one (one-sided) if rows are right or wrong, otherwise a sign-flip
    permutation test.

    Args:
        previous: score of the earlier round's student per row of the select half.
        latest: the same for the later round.
        seed: for the resampling.

    Raises:
        ValueError: no rows, different numbers of rows, or a score outside [0, 1].
    """
    result = paired_difference(latest, previous, seed)
    differences = as_matrix([latest]) - as_matrix([previous])
    return Gain(result.difference, result.ci95, plain(paired_p_value(differences, seed, "greater")))


def should_stop(rounds: Sequence[Sequence[float]], level: float = 0.05) -> bool:
    """Whether each of the last two rounds failed to gain on the best round before it.

    Without a true gain, a single round claims one with probability ``level`` at most, so the loop
    rarely continues because of a false claim. It also stops if the select half is too small to show
    a true gain: see `stepsynth.evaluation.power.detectable_difference`.

    Args:
        rounds: scores per round, from 0 on, and row of the select half; rows in a fixed order.
        level: one-sided significance level of a gain.

    Returns:
        ``False`` until there are two rounds after round 0.

    Raises:
        ValueError: no rounds, no rows, rounds with different rows, or a score outside [0, 1].
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
