"""``sweep``: check everything, run the comparisons, print one table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepsynth.cli.options import Jobs, Json, On, Overrides, Quiet, print_json
from stepsynth.cli.progress_view import dollars
from stepsynth.cli.screens import plain_text, print_table
from stepsynth.runtime.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["print_sweep", "sweep"]

_FAILED = 1


def sweep(
    file: Annotated[Path, typer.Argument(metavar="SWEEP", help="A YAML file with data sets, methods and seeds.")],
    out: Annotated[Path | None, typer.Option(help="Folder; default: the file's out, else runs/<name> beside the file.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the cells and what they may ask for; run nothing.")
    ] = False,
    jobs: Jobs = None,
    on: On = None,
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run data sets x settings x methods x seeds, one comparison after another; resumes where it stopped."""
    from stepsynth.cli.comparing import cells
    from stepsynth.cli.signals import handle_signals
    from stepsynth.sweeps import SweepProblems, check_sweep, failures_of, plan_sweep, read_sweep, refuse_together, run_sweep

    note = (lambda _: None) if quiet or as_json else _say
    try:
        spec = read_sweep(file, out=out, overrides=overrides or ())
        refuse_together(spec, jobs, on)
        checked = check_sweep(spec, note, fetch=not dry_run)
    except SweepProblems as error:
        for line in error.problems:
            _say(f"stepsynth: {line}")
        raise typer.Exit(2) from None
    if dry_run:
        planned = plan_sweep(spec, checked)
        print_json(planned) if as_json else _print_plan(planned)
        return
    with handle_signals():
        results = run_sweep(spec, run=cells(quiet=quiet or as_json), note=note, checked=checked, jobs=jobs, on=on)
    if as_json:
        print_json(results)
    elif quiet:
        typer.echo(str(spec.folder))
    else:
        print_sweep(results, spec.folder)
    if failed := failures_of(results):
        for line in failed:
            _say(f"stepsynth: {line}")
        _say(f"stepsynth: {len(failed)} of {len(spec.parts)} comparisons failed. The same command goes on with what is missing.")
        raise typer.Exit(_FAILED)


def _say(line: str) -> None:
    sys.stderr.write(f"{plain_text(line)}\n")


def print_sweep(results: dict[str, Any], folder: Path) -> None:
    """Print the averages, the scores, what is missing, the warnings and the paths of the files."""
    from rich.console import Console
    from rich.markup import escape

    from stepsynth.sweeps.tables import average_rows, score_rows, state_lines

    console = Console()
    for average in results["averages"]:
        at = f", {average['setting']}" if average["setting"] else ""
        _table(console, f"{results['sweep']}: averages{at}", average_rows(results, average), results["reference"])
        _table(console, f"{results['sweep']}: scores{at}", score_rows(results, average["setting"]), results["reference"])
    for line in state_lines(results):
        console.print(plain_text(line), style="yellow", markup=False, highlight=False, soft_wrap=True)
    for warning in results["warnings"]:
        console.print(f"[yellow]warning:[/yellow] {escape(plain_text(warning))}", highlight=False)
    for name, file in (("numbers", "sweep.json"), ("cells", "sweep.csv"), ("table", "sweep.md"), ("report", "sweep.html")):
        console.print(f"{name:8} {folder / file}", soft_wrap=True, highlight=False, markup=False)


def _print_plan(planned: dict[str, Any]) -> None:
    from rich.console import Console

    from stepsynth.sweeps.tables import title_of

    console = Console()
    rows = [("comparison", "methods", "cells", "finished", "requests", "dollars")]
    for entry in planned["comparisons"]:
        most = entry["at_most"]
        counts = (str(len(entry["methods"])), str(entry["cells"]), str(entry["finished"]))
        rows.append((title_of(entry), *counts, f"{most['requests']:,}", _dollars(most["usd"])))
    _table(console, f"{planned['sweep']}: {counted(planned['seeds'], 'seed')}; requests and dollars at most", rows, None)
    most = planned["at_most"]
    console.print(
        f"{planned['cells']} cells, {planned['finished']} finished. What is left may ask for at most {most['requests']:,} "
        f"requests and {most['tokens']:,} tokens: {_dollars(most['usd'])}.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        "That is if students get every row wrong and most answers are dropped. Answers that are known, or that cells share, "
        "are not asked for again; attempts that are repeated come on top.",
        style="dim",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"{'folder':8} {planned['folder']}", soft_wrap=True, highlight=False, markup=False)


def _dollars(usd: float | None) -> str:
    return "unknown" if usd is None else "free" if usd == 0 else f"${dollars(usd)}"


def _table(console: Any, title: str, rows: Sequence[tuple[str, ...]], reference: str | None) -> None:
    from rich.cells import cell_len
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return
    head, *lines = [tuple(map(plain_text, row)) for row in rows]
    table = Table(title=escape(plain_text(title)), title_justify="left")
    for position, name in enumerate(head):
        # A terminal with less room than this gets lines in the place of a table.
        width = max(cell_len(line[position]) for line in (head, *lines))
        table.add_column(escape(name), justify="left" if position == 0 else "right", no_wrap=True, min_width=width)
    for line in lines:
        table.add_row(*map(escape, line), style="bold" if line[0] == plain_text(reference or "") else "")
    print_table(console, table, head, lines)
