"""Contracts as tests for authors of plug-ins: derive a class, define what it needs, and pytest finds the tests."""

from __future__ import annotations

from stepsynth.testing.families import FamilyContract
from stepsynth.testing.methods import MethodContract
from stepsynth.testing.students import StudentContract
from stepsynth.testing.teachers import TEMPLATE_LIKE, TeacherContract, make_request
from stepsynth.testing.trackers import TrackerContract

__all__ = [
    "TEMPLATE_LIKE",
    "FamilyContract",
    "MethodContract",
    "StudentContract",
    "TeacherContract",
    "TrackerContract",
    "make_request",
]
