"""Forecasts the gain from more written rows by a line over the logarithm of the rows.

    score of seed s with n rows = a_s + b * log(n)

Learning curves of fine-tuned models are close to such a line if the rows grow by a small factor (Figueroa
et al. 2012 fit richer curves, which three or four rounds cannot tell apart). Far beyond the largest
measured number of rows it is a guess, and `Forecast.note` says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.evaluation.clusters import Clusters
from stepsynth.evaluation.seeds import weighted_quantile
from stepsynth.evaluation.statistics import Interval, as_matrix, plain, resampled_means

if TYPE_CHECKING:
    from stepsynth.evaluation.statistics import Array

__all__ = ["Curve", "CurvePoint", "Forecast", "fit_curve", "forecast"]

FAR = 4


@dataclass(frozen=True)
class CurvePoint:
    """One trained student.

    Attributes:
        seed: its training seed.
        rows: number of rows that it was trained on, at least 1.
        scores: score in [0, 1] per gold row; the same gold rows at all points.
    """

    seed: int
    rows: int
    scores: Sequence[float]


@dataclass(frozen=True)
class Curve:
    """A line over the natural logarithm of the rows.

    Attributes:
        intercepts: seed -> score at one row, in the order of the points.
        slope: gain per factor of e.
        residual_sd: spread around the line, ``None`` if it goes through all points.
    """

    intercepts: dict[int, float]
    slope: float
    residual_sd: float | None

    def at(self, rows: int) -> float:
        """Return the mean of the seeds' scores at a number of rows, in [0, 1]."""
        mean = sum(self.intercepts.values()) / len(self.intercepts)
        return min(1.0, max(0.0, mean + self.slope * math.log(rows)))


@dataclass(frozen=True)
class Forecast:
    """A student's forecast score with more rows.

    Attributes:
        value: the expected score, in [0, 1].
        ci95: 95 % prediction interval of one newly trained student's score.
        gain: value minus the line at the largest measured number of rows.
        gain_ci95: 95 % interval of the gain.
        note: what the numbers do not cover; empty if nothing.
    """

    value: float
    ci95: Interval
    gain: float
    gain_ci95: Interval
    note: str


def fit_curve(points: Sequence[CurvePoint]) -> Curve:
    """Fit the line by least squares, with one slope and an intercept per seed.

    Args:
        points: students with at least two different numbers of rows, for at least one seed.

    Raises:
        ValueError: too few numbers of rows, or points with different gold rows.
    """
    import numpy as np

    design, scores = _design(points), as_matrix([point.scores for point in points]).mean(axis=1)
    solution = np.linalg.lstsq(design, scores, rcond=None)[0]
    freedom = design.shape[0] - design.shape[1]
    spread = math.sqrt(float(((scores - design @ solution) ** 2).sum()) / freedom) if freedom else None
    seeds = _seeds(points)
    return Curve(dict(zip(seeds, solution[:-1].tolist(), strict=True)), float(solution[-1]), spread)


def forecast(points: Sequence[CurvePoint], rows: int, seed: int = 0, clusters: Clusters = None) -> Forecast:
    """Forecast the score of a student trained on ``rows`` rows.

    The uncertainty has up to three parts: the gold rows (bootstrap), the training's part of the
    spread around the line that the gold rows do not explain (few degrees of freedom, so Student's
    quantile), and the spread of the seeds' intercepts.

    Args:
        points: see `fit_curve`.
        rows: the number of rows, at least 1.
        seed: for the resampling.
        clusters: the cluster of each gold row.

    Raises:
        ValueError: as for `fit_curve`, or ``rows < 1``.
    """
    import numpy as np

    if rows < 1:
        raise ValueError(f"a forecast needs at least one row to train on, not {rows!r}")
    curve, design = fit_curve(points), _design(points)
    seeds, largest = len(curve.intercepts), max(point.rows for point in points)
    target = np.append(np.full(seeds, 1 / seeds), math.log(rows))
    step = np.append(np.zeros(seeds), math.log(rows / largest))
    inverse = np.linalg.pinv(design.T @ design)
    resampled = resampled_means(as_matrix([point.scores for point in points]), np.random.default_rng(seed), clusters)
    fits = resampled @ design @ inverse
    training, freedom = _training_variance(curve, design, resampled, fits)
    value_parts = [(float((fits @ target).var()), math.inf), (training * (1 + float(target @ inverse @ target)), freedom)]
    if seeds > 1:
        intercepts = float(np.var(list(curve.intercepts.values()), ddof=1))
        value_parts.append((intercepts * (1 + 1 / seeds), seeds - 1))
    gain_parts = [(float((fits @ step).var()), math.inf), (training * float(step @ inverse @ step), freedom)]
    value, half = curve.at(rows), weighted_quantile(value_parts, 0.975)
    gain, gain_half = value - curve.at(largest), weighted_quantile(gain_parts, 0.975)
    return Forecast(
        plain(value),
        (plain(max(0.0, value - half)), plain(min(1.0, value + half))),
        plain(gain),
        (plain(max(-1.0, gain - gain_half)), plain(min(1.0 - curve.at(largest), gain + gain_half))),
        _note(curve, points, rows),
    )


def _seeds(points: Sequence[CurvePoint]) -> list[int]:
    return list(dict.fromkeys(point.seed for point in points))


def _design(points: Sequence[CurvePoint]) -> Array:
    import numpy as np

    seeds = _seeds(points)
    sizes = {seed: {point.rows for point in points if point.seed == seed} for seed in seeds}
    if any(point.rows < 1 for point in points) or max((len(known) for known in sizes.values()), default=0) < 2:
        found = sorted(set().union(*sizes.values()))
        raise ValueError(f"a curve needs one seed with at least two numbers of rows, none below 1; found {found!r}")
    return np.array([[*(float(point.seed == seed) for seed in seeds), math.log(point.rows)] for point in points])


def _training_variance(curve: Curve, design: Array, resampled: Array, fits: Array) -> tuple[float, float]:
    """Return the variance around the line that gold rows do not explain, and its degrees of freedom."""
    freedom = design.shape[0] - design.shape[1]
    if curve.residual_sd is None:
        return 0.0, math.inf
    # A bootstrap sample has the rows' noise twice: once as drawn, once as observed.
    twice = float(((resampled - fits @ design.T) ** 2).sum(axis=1).mean()) / freedom
    return max(0.0, 2 * curve.residual_sd**2 - twice), freedom


def _note(curve: Curve, points: Sequence[CurvePoint], rows: int) -> str:
    measured = [point.rows for point in points]
    notes = []
    if len(curve.intercepts) == 1:
        notes.append("One training seed: the interval leaves out what another seed would change.")
    if len(set(measured)) == 2:
        notes.append("Two numbers of rows: whether the curve bends cannot be seen.")
    if rows > FAR * max(measured) or FAR * rows < min(measured):
        notes.append(f"{rows:,} rows are far from the {min(measured):,} to {max(measured):,} that were measured.")
    return " ".join(notes)
