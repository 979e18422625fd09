"""How a notebook shows a run or a comparison: a small table and a bar per score, without scripts or anything to load."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.api.run import Run

__all__ = ["run_as_html", "table"]

_WIDTH = 160


def run_as_html(run: Run, problem: str = "") -> str:
    """Return a table of a run's students with scores and intervals, and the number of rows kept.

    Args:
        run: the run.
        problem: shown instead of the table.
    """
    title = f"<strong>{escape(run.config.task.name)}</strong> <code>{escape(str(run.path))}</code>"
    if problem:
        return f"<div><p>{title}</p><p>{escape(problem)}</p></div>"
    stages = next(iter(run.results["methods"].values()))["stages"]
    asked, kept = (
        sum(stage[name] for stage in stages if stage["kind"] != StageKind.RATIONALES) for name in ("requested", "accepted")
    )
    scores = [entry for entry in run.scores if any(entry[split] for split in ("crossfit", "select", "test"))]
    head = ("student", "folder", "rows", "validation", "sealed test", "")
    rows = []
    for entry in scores:
        judged = entry["crossfit"] or entry["select"]
        name = f"{entry['student'] or 'round ' + str(entry['round'])}{' *' if entry['best'] else ''}"
        rows.append(
            (
                name,
                entry["folder"] or "",
                f"{entry['rows']:,}",
                _percent(judged),
                _percent(entry["test"]),
                _bar(entry["test"] or judged),
            )
        )
    state = "" if run.finished else " The run is not finished: make the same call to resume."
    notes = [f"{kept:,} of {asked:,} written rows are in the data set. * the final student.{state}"]
    return f"<div><p>{title}</p>{table(head, rows, notes=notes, raw_last=True)}</div>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, notes: Sequence[str] = (), raw_last: bool = False) -> str:
    """Return an HTML table with notes below it.

    Args:
        head: names of the columns.
        rows: cells; escaped here.
        notes: one paragraph each.
        raw_last: whether the last cell of each row is already HTML.
    """
    cells = "".join(f"<th style='text-align:left'>{escape(name)}</th>" for name in head)
    lines = [f"<tr>{cells}</tr>"]
    for row in rows:
        shown = [cell if raw_last and place == len(row) - 1 else escape(cell) for place, cell in enumerate(row)]
        lines.append("<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in shown) + "</tr>")
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<table>{''.join(lines)}</table>{said}"


def _percent(score: dict[str, Any] | None) -> str:
    if not score:
        return ""
    low, high = score["ci95"]
    return f"{100 * score['value']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _bar(score: dict[str, Any] | None) -> str:
    """Draw a score from 0 to 1 as an SVG bar with its 95 % interval."""
    if not score:
        return ""
    value, low, high = (min(max(x, 0.0), 1.0) * _WIDTH for x in (score["value"], *score["ci95"]))
    return (
        f"<svg width='{_WIDTH}' height='14' role='img' aria-label='{escape(_percent(score))}'>"
        f"<rect width='{_WIDTH}' height='14' fill='#8883' /><rect width='{value:.1f}' height='14' fill='#3b7dd8' />"
        f"<line x1='{low:.1f}' x2='{high:.1f}' y1='7' y2='7' stroke='currentColor' stroke-width='2' /></svg>"
    )
