"""Self-contained HTML pages: one for a run, made from its journal, and one for a comparison."""

from __future__ import annotations

from stepsynth.report.comparison import render_comparison
from stepsynth.report.page import render_report

__all__ = ["render_comparison", "render_report"]
