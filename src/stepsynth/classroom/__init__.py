"""Students at work: trained, examined on gold rows, compared by cross-fitting, and in the end tested on the sealed set."""

from __future__ import annotations

from stepsynth.classroom.crossfit import CrossFit, judged_rounds, trainings
from stepsynth.classroom.rounds import Halves, RoundJudge
from stepsynth.classroom.training import Classroom, artefacts, with_half_the_steps
from stepsynth.classroom.worth import find_worth

__all__ = [
    "Classroom",
    "CrossFit",
    "Halves",
    "RoundJudge",
    "artefacts",
    "find_worth",
    "judged_rounds",
    "trainings",
    "with_half_the_steps",
]
