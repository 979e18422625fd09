"""A student of a test's own in the place of the one that `predict` would find."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stepsynth.cli import predicting

__all__ = ["stand_in"]


def stand_in(monkeypatch: pytest.MonkeyPatch, config: Any, student: Any) -> None:
    """Let `predict_file` find this student, of round 0 of a run with this config."""
    found = SimpleNamespace(config=config, folder=None, round=0, load=lambda: student)
    monkeypatch.setattr(predicting, "student_config", lambda folder: config)
    monkeypatch.setattr(predicting, "find_student", lambda *arguments: found)
