"""The table at the end of a cross-fitted run: labels alone, written rows alone, both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

__all__ = ["print_worth"]


_SHORT = {"labels": "labels alone", "written": "written alone", "both": "both", "stages": "both, staged"}


def print_worth(worth: Mapping[str, Any], console: Console) -> None:
    """Print what each kind of rows is worth, with the conclusions in words.

    Args:
        worth: from `stepsynth.training.find_worth`.
        console: where to print.
    """
    from rich import box
    from rich.table import Table

    students = worth["students"]
    tested = any(entry["test"] for entry in students)
    table = Table(title="What your labels and the written rows are worth", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("learnt from")
    for name in ("rows", *(["steps"] if any(entry["steps"] is not None for entry in students) else [])):
        table.add_column(name, justify="right")
    for name in ("cross-\nvalidated", *(["sealed test\n[95 %]"] if tested else []), "minus your\nlabels [95 %]", "p"):
        table.add_column(name, justify="right")
    for entry in students:
        cells = [f"{_SHORT[entry['student']]}{' *' if entry['chosen'] else ''}", f"{entry['rows']:,}"]
        if any(other["steps"] is not None for other in students):
            cells.append("-" if entry["steps"] is None else f"{entry['steps']:,}")
        cells.append(_score(entry["crossfit"], interval=not tested))
        if tested:
            cells.append(_score(entry["test"]))
        table.add_row(*cells, *_difference(entry["difference"]), style="bold" if entry["chosen"] else "")
    console.print(table)
    how = "chosen by cross-validation on your labels" if worth["how"] == "cross-validation" else "as method.final says"
    opened = "; the test set was opened once, after that" if tested else ""
    console.print(f"* the final student, {how}{opened}.", style="dim", highlight=False)
    for sentence in worth["words"]:
        console.print(sentence, markup=False, highlight=False)


def _score(score: Mapping[str, Any] | None, *, interval: bool = True) -> str:
    if score is None:
        return "-"
    low, high = score["ci95"]
    return f"{100 * score['value']:.1f}" + (f"\n[{100 * low:.1f}, {100 * high:.1f}]" if interval else "")


def _difference(found: Mapping[str, Any] | None) -> tuple[str, str]:
    if found is None:
        return "-", "-"
    value, low, high = (f"{100 * number + 0.0:+.1f}" for number in (found["value"], *found["ci95"]))
    return f"{value}\n[{low}, {high}]", f"{found['p']:.3f}"
