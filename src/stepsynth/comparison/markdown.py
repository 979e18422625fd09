"""A comparison as Markdown, to paste into a paper, an issue or a README."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.comparison.looks import looks_sentence
from stepsynth.config import FAKE
from stepsynth.evaluation import shown_p
from stepsynth.runtime.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["comparison_markdown", "comparison_rows", "forecast_sentence", "matched", "sealed_rows", "steps_sentence"]

_HEAD = ("method", "rows", "requests", "tokens", "cost", "minutes", "score", "difference", "p (Holm)")


def comparison_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the table as text cells, header first."""
    metric = str(results["metric"]).replace("_", " ")
    shown = {"score": f"{metric} [95 %]", "difference": f"minus {results['reference']}" if results["reference"] else "difference"}
    head = [shown.get(name, name) for name in _HEAD]
    return [tuple(head), *(_row(entry) for entry in results["systems"])]


def comparison_markdown(results: dict[str, Any]) -> str:
    """Render title, table, per-seed scores, forecast and warnings as Markdown."""
    rows = comparison_rows(results)
    seeds = ", ".join(map(str, results["seeds"]))
    teacher = FAKE if results["teacher"]["backend"] == "fake" else f"`{results['teacher']['model']}`"
    lines = [
        f"# {results['task']}: {counted(len(results['systems']), 'method')}{matched(results, ', ')}",
        "",
        f"Teacher {teacher}, student `{results['student']}`, seeds {seeds}, "
        f"{sealed_rows(results)}, the same for every method and seed. Intervals are over seeds and {_units(results)}; "
        "differences are paired by seed and row; p-values are corrected for several comparisons (Holm).",
        "",
        _line(rows[0]),
        "|" + "---|" * len(rows[0]),
        *(_line(row) for row in rows[1:]),
        "",
    ]
    lines += _per_seed(results)
    minutes = results["minutes"]
    lines += [f"Minutes in all: {', '.join(f'{kind} {value:.1f}' for kind, value in minutes.items())}.", ""]
    lines += [found, ""] if (found := steps_sentence(results)) else []
    if answers := [entry for entry in results["systems"] if entry["per_1000_predictions"]["seconds"] is not None]:
        shown = "; ".join(f"{entry['name']} {_prediction(entry)}" for entry in answers)
        lines += [f"1,000 predictions on this machine: {shown}.", ""]
    for text in (looks_sentence(results), forecast_sentence(results["forecast"])):
        lines += [text, ""] if text else []
    lines += [f"- {warning}" for warning in results["warnings"]]
    return "\n".join(lines).rstrip() + "\n"


def matched(results: dict[str, Any], before: str) -> str:
    """Return how methods are matched, after ``before``; empty if no method sets a budget."""
    return f"{before}matched by {results['match']}" if results.get("budget") else ""


def sealed_rows(results: dict[str, Any]) -> str:
    """Return the number of test rows, and of their contexts if rows share some."""
    of = f" of {results['clusters']:,} contexts" if "clusters" in results else ""
    return f"{results['test_rows']:,} sealed test rows{of}"


def _units(results: dict[str, Any]) -> str:
    return "contexts (rows of one context are not independent)" if "clusters" in results else "rows"


def forecast_sentence(forecast: dict[str, Any] | None) -> str:
    """Return the forecast gain of another round in one sentence."""
    if not forecast:
        return ""
    low, high = forecast["gain_ci95"]
    note = f" {forecast['note']}" if forecast["note"] else ""
    return (
        f"Another round ({forecast['rows_now']:,} -> {forecast['rows']:,} rows) is forecast to change s3 by "
        f"{100 * forecast['gain']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}].{note}"
    )


def steps_sentence(results: dict[str, Any]) -> str:
    """Return how long the students were trained: with other numbers of steps, not only their rows differ.

    Empty if nothing was trained, or if an earlier version did not count.
    """
    made = {entry["name"]: [steps for steps in entry.get("steps", ()) if steps] for entry in results["systems"]}
    made = {name: steps for name, steps in made.items() if steps}
    each = {steps for found in made.values() for steps in found}
    if not each:
        return ""
    none = len(made) < len(results["systems"])
    if len(each) == 1:
        return f"{'All students that were trained' if none else 'All students'} made {each.pop():,} optimiser steps."
    return f"Optimiser steps of the students: {'; '.join(f'{name} {_span(steps)}' for name, steps in made.items())}."


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    score, difference = entry["score"], entry["difference"]
    low, high = score["ci95"]
    shown = [f"{100 * score['value']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"]
    if difference:
        low, high = difference["ci95"]
        shown.append(f"{100 * difference['value']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")
        shown.append("" if difference["p_holm"] is None else shown_p(difference["p_holm"]))
    else:
        shown += ["", ""]
    return (
        entry["name"],
        _span(entry["rows"]),
        _span(entry["requests"]),
        _span(entry["tokens"]),
        _cost(entry["usd"]),
        f"{entry['minutes']:.1f}",
        *shown,
    )


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def _cost(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"${sum(known):.2f}" if len(known) == len(values) else "unknown"


def _per_seed(results: dict[str, Any]) -> list[str]:
    head = ["method", *(f"seed {seed}" for seed in results["seeds"])]
    lines = [_line(head), "|" + "---|" * len(head)]
    for entry in results["systems"]:
        by_seed = {each["seed"]: each for each in entry["per_seed"]}
        cells = [f"{100 * by_seed[seed]['value']:.1f}" if seed in by_seed else "" for seed in results["seeds"]]
        lines.append(_line([entry["name"], *cells]))
    return [*lines, ""]


def _prediction(entry: dict[str, Any]) -> str:
    each = entry["per_1000_predictions"]
    cost = "price unknown" if each["usd"] is None else f"${each['usd']:.2f}"
    return f"{each['seconds']:.1f} s, {cost}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
