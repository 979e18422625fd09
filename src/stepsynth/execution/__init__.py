"""One attempt at a run or a comparison, from config to written files; the caller handles signals, logs and the display.

results = execute(config, Path("runs/tickets"))
results = execute_comparison(config, "gold,zerogen,s3", seeds=3, match="rows", folder=folder, run=run_cell)
"""

from __future__ import annotations

from stepsynth.execution.comparisons import CheckedComparison, check_comparison, execute_comparison
from stepsynth.execution.runs import execute, rebuild

__all__ = ["CheckedComparison", "check_comparison", "execute", "execute_comparison", "rebuild"]
