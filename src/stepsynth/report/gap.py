"""The part of a run's page that shows how far written rows are from labelled ones, and the card's sentence about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepsynth.report.drawing import FAINT, INK, KEPT, PLACEHOLDERS, panels, setting, svg
from stepsynth.report.scores import mapping
from stepsynth.runtime.remembering import remembered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["gap_drawings", "gap_sentences", "gap_table", "has_figures"]


@dataclass(frozen=True, slots=True)
class _Figure:
    """One row of the table.

    Attributes:
        key: its name in ``results.json``.
        name: its name on the page.
        real: the key of the same figure of the labelled rows, if it describes one side alone.
        drawn: the title of its plot; empty for none.
        digits: how many to show.
    """

    key: str
    name: str
    real: str = ""
    drawn: str = ""
    digits: int = 2


_FIGURES = (
    _Figure("embedding_auc", "Told apart by embeddings (AUC)", drawn="AUC, embeddings"),
    _Figure("surface_auc", "Told apart by their surface (AUC)", drawn="AUC, surface"),
    _Figure("mmd", "Squared MMD", drawn="squared MMD", digits=3),
    _Figure("precision", "Precision"),
    _Figure("recall", "Recall", drawn="recall"),
    _Figure("density", "Density"),
    _Figure("coverage", "Coverage", drawn="coverage"),
    _Figure("vendi", "Vendi score", real="vendi_real", drawn="Vendi score", digits=1),
    _Figure("distinct_1", "Distinct-1", real="distinct_1_real"),
    _Figure("distinct_2", "Distinct-2", real="distinct_2_real"),
    _Figure("agreement", "A probe agrees with the label", real="agreement_real"),
    _Figure("near_real", "Nearly repeat a labelled row"),
    _Figure("near_written", "Nearly repeat a row of their own side", real="repeated_real"),
)


def has_figures(gap: Mapping[str, Any]) -> bool:
    """Whether any round has figures.

    Args:
        gap: from ``results.json``; empty for a run that keeps none.
    """
    return bool(_columns(gap))


def gap_table(gap: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table: ``columns`` (name and rows of a side) and ``lines`` (name, reference and cells as texts).

    Args:
        gap: from ``results.json``.
    """
    columns = _columns(gap)
    floor = mapping(gap.get("floor"))
    lines = []
    for figure in _FIGURES:
        cells = [_shown(figures, figure) for _, figures in columns]
        if any(cells):
            lines.append({"name": figure.name, "reference": _reference(figure, columns, floor), "cells": cells})
    return {"columns": [(name, figures["n"]) for name, figures in columns], "lines": lines, "floor": floor.get("n")}


def gap_drawings(gap: Mapping[str, Any]) -> list[str]:
    """Return small plots of the figures over the rounds, wide and narrow; none with fewer than two rounds.

    Args:
        gap: from ``results.json``.
    """
    rounds = [entry for entry in gap.get("rounds", ()) if entry["all"]]
    shown = [figure for figure in _FIGURES if figure.drawn and any(entry["all"].get(figure.key) is not None for entry in rounds)]
    if len(rounds) < 2 or not shown:
        return []
    return [_drawn(shown, rounds, mapping(gap.get("floor")), narrow=narrow) for narrow in (False, True)]


def gap_sentences(gap: Mapping[str, Any]) -> list[str]:
    """Return what the figures say of all written rows, in sentences for a card; none without figures.

    Args:
        gap: from ``results.json``.
    """
    found = [entry for entry in gap.get("rounds", ()) if entry["all"]]
    if not found:
        return []
    last, floor = found[-1]["all"], mapping(gap.get("floor"))
    words = []
    for key, what in (("embedding_auc", "embeddings"), ("surface_auc", "surface features")):
        if last.get(key) is not None:
            low, high = last[f"{key}_ci95"]
            between = f"; between halves of the labelled rows {floor[key]['mean']:.2f}" if key in floor else ""
            words.append(f"by {what} with an AUC of {last[key]:.2f} [{low:.2f}, {high:.2f}]{between}")
    sentences = [
        f"A classifier tells the written rows from {last['n']:,} labelled ones {', and '.join(words)} (0.5: not at all)."
    ]
    if last.get("vendi") is not None:
        sentences.append(
            f"As many written rows as labelled ones are as varied as {last['vendi']:.0f} wholly different rows (Vendi score), "
            f"the labelled ones as {last['vendi_real']:.0f}."
        )
    if last.get("agreement") is not None:
        sentences.append(
            f"A probe trained on labelled rows gives {100 * last['agreement']:.0f} % of the written rows their label, and "
            f"{100 * last['agreement_real']:.0f} % of labelled rows that it had not seen."
        )
    return sentences if words else sentences[1:]


def _columns(gap: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the sets of rows with figures, by name."""
    found = []
    for entry in gap.get("rounds", ()):
        number = entry["round"]
        found += [(f"Round {number}, new rows", entry["new"])] if entry["new"] else []
        found += [(f"Round {number}, all so far", entry["all"])] if entry["all"] else []
    return found


def _shown(figures: Mapping[str, Any], figure: _Figure) -> tuple[str, str] | None:
    """Return a figure and its interval as texts."""
    value = figures.get(figure.key)
    if value is None:
        return None
    ends = figures.get(f"{figure.key}_ci95")
    return _number(value, figure.digits), _range(ends[0], ends[1], figure.digits) if ends else ""


def _reference(
    figure: _Figure, columns: Sequence[tuple[str, Mapping[str, Any]]], floor: Mapping[str, Any]
) -> tuple[str, str] | None:
    """Return what the figure is between halves of the labelled rows, or of the labelled rows, as texts."""
    if figure.real:
        # The last column has all rows; shorter ones are compared with fewer labelled rows.
        value = columns[-1][1].get(figure.real)
        return None if value is None else (_number(value, figure.digits), "")
    found = floor.get(figure.key)
    return (_number(found["mean"], figure.digits), _range(found["low"], found["high"], figure.digits)) if found else None


def _number(value: float, digits: int) -> str:
    # Adding 0.0 avoids minus zero.
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212")


def _range(low: float, high: float, digits: int) -> str:
    between = " to " if low < 0 else "\u2013"
    return f"{_number(low, digits)}{between}{_number(high, digits)}"


@remembered(most=KEPT)
def _drawn(figures: Sequence[_Figure], rounds: Sequence[Mapping[str, Any]], floor: Mapping[str, Any], *, narrow: bool) -> str:
    """Return one drawing with a small plot per figure."""
    across = 2 if narrow else 3
    down = -(-len(figures) // across)
    with setting():
        canvas, plots = panels(3.7 if narrow else 7.2, 1.55 * down, down, across)
        for figure, axes in zip(figures, plots, strict=False):
            _plot(axes, figure, rounds, floor)
        for axes in plots[len(figures) :]:
            axes.set_axis_off()
        title = "Figures of the gap between written and labelled rows, per round"
        return svg(canvas, f"gap-{'narrow' if narrow else 'wide'}", title)


def _plot(axes: Any, figure: _Figure, rounds: Sequence[Mapping[str, Any]], floor: Mapping[str, Any]) -> None:
    if reference := floor.get(figure.key):
        axes.axhspan(reference["low"], reference["high"], color=FAINT, linewidth=0)
        axes.axhline(reference["mean"], color=INK, linewidth=0.7, linestyle=":")
    elif figure.real:
        axes.axhline(rounds[-1]["all"][figure.real], color=INK, linewidth=0.7, linestyle=":")
    for place, (side, marker, dash) in enumerate((("all", "o", "-"), ("new", "s", "--"))):
        # A figure that grows with the number of rows is drawn for the larger set alone.
        if side == "new" and figure.real:
            continue
        points = [(entry["round"], entry[side]) for entry in rounds if entry[side] and entry[side].get(figure.key) is not None]
        if not points:
            continue
        shift = 0.06 * (2 * place - 1)
        across, values = [number + shift for number, _ in points], [found[figure.key] for _, found in points]
        axes.plot(across, values, color=PLACEHOLDERS[place], marker=marker, markersize=4, linestyle=dash, linewidth=1.4)
        for at, (_, found) in zip(across, points, strict=True):
            if ends := found.get(f"{figure.key}_ci95"):
                axes.plot([at, at], ends, color=PLACEHOLDERS[place], linewidth=1.0)
    numbers = [entry["round"] for entry in rounds]
    axes.set_xticks(numbers[:: 1 + len(numbers) // 8])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_xlim(min(numbers) - 0.35, max(numbers) + 0.35)
    axes.set_title(figure.drawn, fontsize=8, loc="left", color=INK)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.tick_params(labelsize=8)
