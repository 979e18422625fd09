"""The table at the end of a cross-fitted run: labels alone, written rows alone, both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.cli.screens import print_table
from stepsynth.evaluation import shown_p
from stepsynth.training import worth_title

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

__all__ = ["print_worth"]

# Shorter than `STUDENTS`, for a column.
_SHORT = {
    "labels": "labels alone",
    "written": "written alone",
    "both": "both",
    "stages": "both kinds",
    "pool": "labels, pool",
    "all": "all three",
    "weighted": "both, weighted",
}


def print_worth(worth: Mapping[str, Any], console: Console) -> None:
    """Print what each kind of rows is worth, where each student is, and the conclusions in words.

    Args:
        worth: from `stepsynth.training.find_worth`.
        console: where to print.
    """
    from rich import box
    from rich.table import Table

    tested = any(entry["test"] for entry in worth["students"])
    # As narrow as it can be, so that no interval is broken on a terminal of 80 columns.
    close: dict[str, Any] = {"box": box.SIMPLE_HEAD, "pad_edge": False, "collapse_padding": True, "show_edge": False}
    table = Table(title=worth_title(worth), title_justify="left", **close)
    head, rows = _cells(worth, tested=tested)
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for entry, row in zip(worth["students"], rows, strict=True):
        table.add_row(*row, style="bold" if entry["chosen"] else "")
    print_table(console, table, [_one_line(name) for name in head], [[_one_line(cell) for cell in row] for row in rows])
    how = "chosen by cross-validation on your labels" if worth["how"] == "cross-validation" else "as method.final says"
    opened = "; the test set was opened once, after that" if tested else ""
    console.print(f"* the final student, {how}{opened}.", style="dim", highlight=False)
    for sentence in worth["words"]:
        console.print(sentence, markup=False, highlight=False)


def _cells(worth: Mapping[str, Any], *, tested: bool) -> tuple[list[str], list[list[str]]]:
    """Return the head and a row per student; cells may have two lines."""
    students = worth["students"]
    stepped = any(entry["steps"] is not None for entry in students)
    head = ["learned from,\nfolder", "rows", *(["steps"] if stepped else []), "cross-\nvalidated"]
    head += [*(["sealed test\n[95 %]"] if tested else []), "minus your\nlabels [95 %]", "p"]
    rows = []
    for entry in students:
        short = _SHORT[entry["student"]].replace("written", worth.get("made", "written").split()[0])
        name = f"{short}{' *' if entry['chosen'] else ''}"
        cells = [f"{name}\nmodels/round-{entry['round']}", f"{entry['rows']:,}"]
        if stepped:
            cells.append("-" if entry["steps"] is None else f"{entry['steps']:,}")
        cells.append(_score(entry["crossfit"], interval=not tested))
        if tested:
            cells.append(_score(entry["test"]))
        rows.append([*cells, *_difference(entry["difference"])])
    return head, rows


def _one_line(text: str) -> str:
    return text.replace("-\n", "-").replace("\n", " ")


def _score(score: Mapping[str, Any] | None, *, interval: bool = True) -> str:
    if score is None:
        return "-"
    low, high = score["ci95"]
    return f"{100 * score['value']:.1f}" + (f"\n[{100 * low:.1f}, {100 * high:.1f}]" if interval else "")


def _difference(found: Mapping[str, Any] | None) -> tuple[str, str]:
    if found is None:
        return "-", "-"
    value, low, high = (f"{100 * number + 0.0:+.1f}" for number in (found["value"], *found["ci95"]))
    return f"{value}\n[{low}, {high}]", shown_p(found["p"])
