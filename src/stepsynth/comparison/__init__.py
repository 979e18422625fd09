"""Comparison: methods x seeds at a matched budget, and which of their differences are established."""

from __future__ import annotations

from stepsynth.comparison.cell import Cell, CellRound, read_cell
from stepsynth.comparison.cells import Match, cell_folder, check_known, plan_cells, run_cells
from stepsynth.comparison.folder import refuse_others
from stepsynth.comparison.looks import check_max_seeds, look, read_looks
from stepsynth.comparison.markdown import comparison_markdown
from stepsynth.comparison.summary import summarise
from stepsynth.comparison.systems import System, choose_reference, parse_systems

__all__ = [
    "Cell",
    "CellRound",
    "Match",
    "System",
    "cell_folder",
    "check_known",
    "check_max_seeds",
    "choose_reference",
    "comparison_markdown",
    "look",
    "parse_systems",
    "plan_cells",
    "read_cell",
    "read_looks",
    "refuse_others",
    "run_cells",
    "summarise",
]
