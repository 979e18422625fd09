"""Scores with their uncertainty: every score has an interval."""

from __future__ import annotations

from stepsynth.evaluation.metrics import evaluate_classification, evaluate_multi_label
from stepsynth.evaluation.seeds import hierarchical_interval, hierarchical_paired
from stepsynth.evaluation.squad import evaluate_extractive_qa
from stepsynth.evaluation.statistics import Interval, PairedResult, holm, mcnemar, paired_difference, shown_p, wilson

__all__ = [
    "Interval",
    "PairedResult",
    "evaluate_classification",
    "evaluate_extractive_qa",
    "evaluate_multi_label",
    "hierarchical_interval",
    "hierarchical_paired",
    "holm",
    "mcnemar",
    "paired_difference",
    "shown_p",
    "wilson",
]
