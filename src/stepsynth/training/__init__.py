"""Trains students, scores them on gold rows, compares them by cross-fitting, and finally tests them on the sealed set."""

from __future__ import annotations

from stepsynth.training.crossfit import CrossFit, judged_rounds, trainings
from stepsynth.training.rounds import Halves, RoundJudge
from stepsynth.training.runner import StudentRunner, artefacts
from stepsynth.training.together import Together
from stepsynth.training.workers.base import with_half_the_steps
from stepsynth.training.worth import find_worth, worth_title

__all__ = [
    "CrossFit",
    "Halves",
    "RoundJudge",
    "StudentRunner",
    "Together",
    "artefacts",
    "find_worth",
    "judged_rounds",
    "trainings",
    "with_half_the_steps",
    "worth_title",
]
