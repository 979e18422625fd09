"""Self-contained HTML pages: one for a run, made from its journal, one for a comparison, and one for a sweep."""

from __future__ import annotations

from stepsynth.report.comparison import render_comparison
from stepsynth.report.page import render_report
from stepsynth.report.seal import PageState, state_of, without_figures
from stepsynth.report.sweep import render_sweep

__all__ = ["PageState", "render_comparison", "render_report", "render_sweep", "state_of", "without_figures"]
