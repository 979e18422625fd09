"""Render requests from a task and read labels from answers; both are pure functions."""

from __future__ import annotations

from stepsynth.prompts.answers import read_answer
from stepsynth.prompts.form import described_form
from stepsynth.prompts.rendering import Prompts
from stepsynth.tasks.capable import CAPABLE_TEMPLATES
from stepsynth.tasks.templates import DEFAULT_TEMPLATES

__all__ = ["CAPABLE_TEMPLATES", "DEFAULT_TEMPLATES", "Prompts", "described_form", "read_answer"]
