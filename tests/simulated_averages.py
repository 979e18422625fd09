"""Simulated sweeps: how often does the interval of an average over data sets contain the truth?

python tests/simulated_averages.py      # the figures of docs/sweeps.md, a few minutes
"""

from __future__ import annotations

import sys
from itertools import product

import numpy as np

from stepsynth.evaluation.seeds import averaged_paired

DATA_SETS, SEEDS, SPREADS = (2, 3, 6), (2, 3, 5), (0.05, 0.2, 0.5)
ROWS, SWEEPS, DIFFICULTY, EASE, LEAD = 200, 400, 1.5, 1.0, 0.3


def data_set(random: np.random.Generator, seeds: int, spread: float) -> tuple[list[list[float]], list[list[float]], None]:
    """Return the scores of two methods, of which one is better; rows differ in difficulty, seeds in what they do to a method."""
    hard = random.normal(0, DIFFICULTY, ROWS)

    def drawn(lead: float) -> list[list[float]]:
        odds = hard[None, :] + EASE + lead + random.normal(0, spread, seeds)[:, None]
        return [[float(value) for value in row] for row in random.random((seeds, ROWS)) < 1 / (1 + np.exp(-odds))]

    return drawn(LEAD), drawn(0.0), None


def coverage(count: int, seeds: int, spread: float) -> float:
    """Return the share of simulated sweeps whose 95 % interval contains the true average difference.

    Args:
        count: of data sets.
        seeds: of each method on each data set.
        spread: the standard deviation of a seed's skill, in logits.
    """
    random = np.random.default_rng(1)
    hard, first, second = random.normal(0, DIFFICULTY, 400_000), *random.normal(0, spread, (2, 400_000))
    truth = float(np.mean(1 / (1 + np.exp(-(hard + EASE + LEAD + first))) - 1 / (1 + np.exp(-(hard + EASE + second)))))
    found = [averaged_paired([data_set(random, seeds, spread) for _ in range(count)]).ci95 for _ in range(SWEEPS)]
    return float(np.mean([low <= truth <= high for low, high in found]))


def main() -> None:
    """Print the coverage of every case."""
    for count, seeds, spread in product(DATA_SETS, SEEDS, SPREADS):
        sys.stdout.write(f"{count} data sets, {seeds} seeds, spread {spread}: {100 * coverage(count, seeds, spread):.1f} %\n")


if __name__ == "__main__":
    main()
