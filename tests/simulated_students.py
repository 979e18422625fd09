"""Simulated tests of trained students: rows differ in difficulty, seeds and methods in skill, all as logits."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from stepsynth.comparison import look
from stepsynth.evaluation import hierarchical_paired

DIFFICULTY, EASE, PREFERENCE = 1.5, 1.0, 0.5
Array = np.ndarray[Any, np.dtype[np.float64]]


def right(random: np.random.Generator, logits: Array) -> Array:
    """Draw right and wrong answers with these chances."""
    return (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float64)


def expected(ease: float, spread: float) -> float:
    """Return the accuracy over all rows and seeds: a logistic-normal mean, by Gauss and Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    return float((weights / (1 + np.exp(-(ease + spread * nodes)))).sum() / weights.sum())


def one_method(random: np.random.Generator, runs: int, seeds: int, rows: int, seed_sd: float) -> tuple[Array, float]:
    """Return runs x seeds x rows of answers, and the true accuracy."""
    logits = EASE + random.normal(0, DIFFICULTY, (runs, 1, rows)) + random.normal(0, seed_sd, (runs, seeds, 1))
    return right(random, np.broadcast_to(logits, (runs, seeds, rows))), expected(EASE, float(np.hypot(DIFFICULTY, seed_sd)))


def two_methods(
    random: np.random.Generator, runs: int, seeds: int, rows: int, seed_sd: float, effect: float
) -> tuple[Array, Array, float]:
    """Return two methods' answers on the same rows, with the true difference; half of a seed's variance is shared."""
    shared = random.normal(0, DIFFICULTY, (runs, 1, rows)) + random.normal(0, seed_sd * 0.5**0.5, (runs, seeds, 1))
    sides = [
        right(
            random,
            EASE
            + shift
            + shared
            + random.normal(0, PREFERENCE, (runs, 1, rows))
            + random.normal(0, seed_sd * 0.5**0.5, (runs, seeds, 1)),
        )
        for shift in (effect, 0.0)
    ]
    spread = float(np.sqrt(DIFFICULTY**2 + PREFERENCE**2 + seed_sd**2))
    return sides[0], sides[1], expected(EASE + effect, spread) - expected(EASE, spread)


def two_methods_on_passages(
    random: np.random.Generator, runs: int, seeds: int, passages: int, seed_sd: float, passage_sd: float
) -> tuple[Array, Array, tuple[int, ...]]:
    """Return two equally good methods' answers to questions about passages, and the passage of each question.

    Passages have one to nine questions. They differ in difficulty, and in which method they suit: both by ``passage_sd``.
    """
    sizes = np.resize([1, 2, 4, 5, 6, 9], passages)
    places = np.repeat(np.arange(passages), sizes)
    rows = len(places)
    shared = random.normal(0, DIFFICULTY, (runs, 1, rows)) + random.normal(0, passage_sd, (runs, 1, passages))[..., places]
    sides = [
        right(
            random,
            EASE
            + shared
            + random.normal(0, passage_sd, (runs, 1, passages))[..., places]
            + random.normal(0, seed_sd, (runs, seeds, 1)),
        )
        for _ in range(2)
    ]
    return sides[0], sides[1], tuple(places.tolist())


def claims_over_looks(
    random: np.random.Generator, runs: int, counts: tuple[int, ...], seed_sd: float, rows: int
) -> dict[str, float]:
    """Return how often two equally good methods are called different when seeds are added until they are.

    Args:
        random: the random generator.
        runs: how many comparisons.
        counts: the numbers of seeds at which one looks.
        seed_sd: of a seed's skill, in logits.
        rows: how many test rows.

    Returns:
        The share of comparisons with a claim at any look: with p-values as if each look were the only one (``uncorrected``),
        with the looks announced (``planned``) and without that (``unplanned``).
    """
    a, b, _ = two_methods(random, runs, counts[-1], rows, seed_sd, 0.0)
    claimed = dict.fromkeys(("uncorrected", "planned", "unplanned"), 0)
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        p_values = [hierarchical_paired(x[:count], y[:count], 0).p_value for count in counts]
        claimed["uncorrected"] += min(p_values) < 0.05
        for name, max_seeds in (("planned", counts[-1]), ("unplanned", None)):
            looks: dict[str, Any] = {}
            for count, p_value in zip(counts, p_values, strict=True):
                looks = look({"seeds": list(range(count)), "systems": [{"difference": {"p_holm": p_value}}]}, looks, max_seeds)
                if looks["systems"][0]["difference"]["p_holm"] < 0.05:
                    claimed[name] += 1
                    break
    return {name: count / runs for name, count in claimed.items()}


def main() -> None:
    """Print the tables of docs/statistics.md: coverage with and without clusters, and false claims over looks."""
    for passages in (20, 42):
        for seeds in (1, 3):
            seed_sd = 0.2 if seeds > 1 else 0.0
            a, b, places = two_methods_on_passages(np.random.default_rng(0), 500, seeds, passages, seed_sd, 1.5)
            held = []
            for clusters in (None, places):
                found = [hierarchical_paired(x, y, 0, clusters).ci95 for x, y in zip(a.tolist(), b.tolist(), strict=True)]
                held.append(f"{100 * np.mean([low <= 0 <= high for low, high in found]):.1f}")
            sys.stdout.write(f"{passages} passages, seeds: {seeds}; rows {held[0]}, clusters {held[1]}\n")
    for seed_sd in (0.06, 0.2, 0.4, 0.8):
        sys.stdout.write(f"{seed_sd}: {claims_over_looks(np.random.default_rng(3), 1000, (3, 5, 10), seed_sd, 200)}\n")


if __name__ == "__main__":
    main()
