"""Students at work: trained, examined on gold rows, compared by cross-fitting, and in the end tested on the sealed set."""

from __future__ import annotations

from stepsynth.classroom.crossfit import CrossFit, judged_rounds, trainings
from stepsynth.classroom.training import Classroom, artefacts, best_round, find_choice, find_mistakes
from stepsynth.classroom.worth import find_worth

__all__ = [
    "Classroom",
    "CrossFit",
    "artefacts",
    "best_round",
    "find_choice",
    "find_mistakes",
    "find_worth",
    "judged_rounds",
    "trainings",
]
