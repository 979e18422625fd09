"""Self-contained HTML pages: one for a run, made from its journal, and one for a comparison."""

from __future__ import annotations

from stepsynth.report.comparison import render_comparison
from stepsynth.report.page import render_report
from stepsynth.report.seal import PageState, state_of, without_figures

__all__ = ["PageState", "render_comparison", "render_report", "state_of", "without_figures"]
