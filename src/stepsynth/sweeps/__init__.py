"""Sweeps: data sets x settings, each a comparison of methods x seeds, and one table over all of them.

    spec = read_sweep(Path("sweep.yaml"))
    results = run_sweep(spec, run=run_cell)

A comparison is made by `stepsynth.execution.execute_comparison`, so everything that it promises holds here, too.
"""

from __future__ import annotations

from stepsynth.sweeps.checking import check_sweep
from stepsynth.sweeps.forecast import plan_sweep
from stepsynth.sweeps.reading import read_sweep
from stepsynth.sweeps.running import failures_of, refuse_together, run_sweep
from stepsynth.sweeps.spec import Part, SweepProblems, SweepSpec
from stepsynth.sweeps.stored import read_stored_sweep
from stepsynth.sweeps.tables import average_rows, detail_rows, state_lines, sweep_markdown

__all__ = [
    "Part",
    "SweepProblems",
    "SweepSpec",
    "average_rows",
    "check_sweep",
    "detail_rows",
    "failures_of",
    "plan_sweep",
    "read_stored_sweep",
    "read_sweep",
    "refuse_together",
    "run_sweep",
    "state_lines",
    "sweep_markdown",
]
