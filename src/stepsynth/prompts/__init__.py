"""Requests from a task, and labels from answers; pure in both directions."""

from __future__ import annotations

from stepsynth.prompts.answers import read_answer
from stepsynth.prompts.rendering import Prompts
from stepsynth.prompts.templates import DEFAULT_TEMPLATES

__all__ = ["DEFAULT_TEMPLATES", "Prompts", "read_answer"]
