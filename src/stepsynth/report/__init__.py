"""The report: one self-contained page about a run, made from its journal."""

from __future__ import annotations

from stepsynth.report.page import render_report

__all__ = ["render_report"]
