"""Scores with their uncertainty: no number leaves without an interval."""

from __future__ import annotations

from stepsynth.evaluation.metrics import evaluate_classification
from stepsynth.evaluation.statistics import (
    Interval,
    PairedResult,
    hierarchical_interval,
    hierarchical_paired,
    paired_difference,
    wilson,
)

__all__ = [
    "Interval",
    "PairedResult",
    "evaluate_classification",
    "hierarchical_interval",
    "hierarchical_paired",
    "paired_difference",
    "wilson",
]
