"""``compare``: run the cells, summarise them, print one table."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, cast, get_args

from stepsynth.cli.running import run_config
from stepsynth.cli.screens import print_table
from stepsynth.compare import Match, choose_reference, comparison_markdown, parse_systems, plan_cells, run_cells, summarise
from stepsynth.compare.markdown import comparison_rows, forecast_sentence
from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.inputs import check_inputs
from stepsynth.report import render_comparison
from stepsynth.run import RunDirectory, write_atomic
from stepsynth.settling import settle
from stepsynth.teachers.prices import price_of

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.config import RunConfig, TeacherConfig

__all__ = ["compare_methods", "print_comparison"]


def compare_methods(
    config: RunConfig,
    methods: str,
    *,
    seeds: int,
    match: str,
    folder: Path,
    reference: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run, or go on with, a comparison; write its numbers, table and page into ``folder``.

    Args:
        config: the task and how S3 is run.
        methods: see `stepsynth.compare.parse_systems`.
        seeds: how many, from ``config.seed`` on.
        match: ``rows``, ``requests``, ``tokens`` or ``usd``.
        folder: gets one run directory per method and seed.
        reference: the method that the others are compared with; see `stepsynth.compare.choose_reference`.
        quiet: draw nothing.

    Raises:
        UserError: what is wrong with the input, before anything is spent.
    """
    if match not in get_args(Match):
        raise ConfigError(f"--match is {match!r}.", hint=did_you_mean(match, get_args(Match)))
    # All cells have one teacher: that of the first cell that there is.
    begun = next((RunDirectory.began_with(found.parent) for found in sorted(folder.glob("*/config.json"))), None)
    settled = settle(config, begun, None if quiet else _say, fetch=True)
    # What seed rows are written from depends on the method: it is settled with each cell.
    config = settled.model_copy(update={"method": settled.method.model_copy(update={"seed_from": config.method.seed_from})})
    systems = parse_systems(methods, config)
    compared_with = choose_reference(systems, reference)
    planned = list(plan_cells(config, systems, seeds))
    if match == "usd":
        for teacher in [config.teacher, *(changed.teacher for _, changed, _ in planned)]:
            _check_price(teacher)
    for offset in range(seeds):
        check_inputs(config.model_copy(update={"seed": config.seed + offset}))
    for system, changed, seed in planned:
        if system.changes and seed == config.seed:
            check_inputs(changed)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"cannot write into {str(folder)!r}: {error.strerror}.", hint="Name another folder.") from None

    def run(cell: RunConfig, path: Path, title: str) -> None:
        if not quiet:
            sys.stderr.write(f"{title}\n")
        run_config(cell, path, quiet=quiet, students=folder / "students")

    cells = run_cells(config, systems, seeds=seeds, match=cast("Match", match), folder=folder, run=run)
    results = summarise(cells, config, cast("Match", match), compared_with)
    write_atomic(folder / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_atomic(folder / "comparison.md", comparison_markdown(results))
    write_atomic(folder / "comparison.html", render_comparison(results))
    return results


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _check_price(teacher: TeacherConfig) -> None:
    price = price_of(teacher)
    if price is None or price.free:
        found = "none is known" if price is None else "there is nothing to pay"
        raise ConfigError(
            f"--match usd needs a price, and {found} for {teacher.model!r}.",
            hint="Match rows, requests or tokens, or set teacher.price.",
        )


def print_comparison(results: dict[str, Any], folder: Path) -> None:
    """Print the table, the forecast, the warnings and where everything is."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    head, *rows = comparison_rows(results)
    title = f"{results['task']}: matched by {results['match']}, {results['test_rows']:,} sealed test rows"
    table = Table(title=escape(title), title_justify="left")
    for position, name in enumerate(head):
        table.add_column(escape(name), justify="left" if position == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row), style="bold" if row[0] == results["reference"] else "")
    console = Console()
    print_table(console, table, head, rows)
    if text := forecast_sentence(results["forecast"]):
        console.print(text, style="dim", highlight=False)
    for warning in results["warnings"]:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False)
    for name, file in (("numbers", "results.json"), ("table", "comparison.md"), ("page", "comparison.html")):
        console.print(f"{name:8} {folder / file}", soft_wrap=True, highlight=False, markup=False)
