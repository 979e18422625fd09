"""``compare``: run the cells, summarise them, print one table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from stepsynth.cli.progress_view import open_lines
from stepsynth.cli.running import run_config
from stepsynth.cli.screens import plain_text, print_table
from stepsynth.cli.signals import handle_signals
from stepsynth.comparison.looks import looks_sentence
from stepsynth.comparison.markdown import comparison_rows, forecast_sentence, matched, sealed_rows
from stepsynth.execution import execute, execute_comparison

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.training import Together

__all__ = ["cells", "compare_methods", "print_comparison"]


def compare_methods(
    config: RunConfig,
    methods: str,
    *,
    seeds: int,
    match: str,
    folder: Path,
    reference: str | None = None,
    max_seeds: int | None = None,
    jobs: int | None = None,
    on: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run or resume a comparison; write its numbers, table and page into ``folder``.

    Args:
        config: the task, and the settings for S3.
        methods: see `stepsynth.comparison.parse_systems`.
        seeds: how many, counting up from ``config.seed``.
        match: ``rows``, ``requests``, ``tokens`` or ``usd``.
        folder: gets one run directory per method and seed.
        reference: the method that the others are compared with; see `stepsynth.comparison.choose_reference`.
        max_seeds: how many seeds there may be in the end; see `stepsynth.comparison.looks`.
        jobs: how many students to train at once.
        on: where to train them, see `stepsynth.training.workers.open_workers`.
        quiet: draw nothing.

    Raises:
        UserError: the input is wrong; raised before anything is spent.
    """
    note = (lambda _: None) if quiet else _say
    # Around all cells: a signal at the end of one must keep the next from beginning, and cells that run at once are not in the
    # main thread, which alone can handle signals.
    with handle_signals():
        return execute_comparison(
            config,
            methods,
            seeds=seeds,
            match=match,
            folder=folder,
            reference=reference,
            max_seeds=max_seeds,
            run=cells(quiet=quiet),
            note=note,
            jobs=jobs,
            on=on,
        )


def cells(*, quiet: bool) -> Callable[..., None]:
    """Return the function that runs a cell, alone or as one of several at once; see `execute_comparison`."""

    def run(cell: RunConfig, path: Path, title: str, students: Path, together: Together | None = None) -> None:
        if not quiet:
            _say(title)
        if together is None:
            run_config(cell, path, quiet=quiet, students=students)
            return
        progress = open_lines(f"{title.partition(' (')[0]}: ", quiet=quiet)
        execute(cell, path, progress=progress, students=students, together=together)

    return run


def _say(line: str) -> None:
    sys.stderr.write(f"{plain_text(line)}\n")


def print_comparison(results: dict[str, Any], folder: Path) -> None:
    """Print the table, the forecast, the warnings and the paths of the files."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    head, *rows = [tuple(map(plain_text, row)) for row in comparison_rows(results)]
    title = f"{results['task']}: {sealed_rows(results)}{matched(results, ', ')}"
    table = Table(title=escape(plain_text(title)), title_justify="left")
    for position, name in enumerate(head):
        table.add_column(escape(name), justify="left" if position == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row), style="bold" if row[0] == plain_text(results["reference"] or "") else "")
    console = Console()
    print_table(console, table, head, rows)
    for text in filter(None, (looks_sentence(results), forecast_sentence(results["forecast"]))):
        console.print(text, style="dim", highlight=False)
    for warning in results["warnings"]:
        console.print(f"[yellow]warning:[/yellow] {escape(plain_text(warning))}", highlight=False)
    for name, file in (("numbers", "results.json"), ("table", "comparison.md"), ("report", "comparison.html")):
        console.print(f"{name:8} {folder / file}", soft_wrap=True, highlight=False, markup=False)
