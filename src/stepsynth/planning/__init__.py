"""Estimates a run before it begins: requests, tokens, dollars, minutes; a trial says whether to begin it."""

from __future__ import annotations

from stepsynth.planning.making import make_plan

__all__ = ["make_plan"]
