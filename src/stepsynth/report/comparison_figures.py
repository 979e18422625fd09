"""The figures of a comparison: scores and differences with their intervals, the learning curve.

Each is drawn wide and narrow; the page shows one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.report.drawing import FAINT, INK, PAPER, PLACEHOLDERS, canvas, plain, setting, svg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

__all__ = ["Forest", "Mark", "curve_figure", "forest_figure"]

_MARKERS = "osD^v"
_MOST_NAMED = len(_MARKERS)


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of a forest plot, all values in [-1, 1].

    Attributes:
        name: of the method.
        value: the estimate.
        low: lower end of its interval.
        high: upper end.
        seeds: the value of each seed.
        colour: number of the series colour, from 0.
        solid: whether the point is filled.
    """

    name: str
    value: float
    low: float
    high: float
    seeds: tuple[float, ...]
    colour: int
    solid: bool


@dataclass(frozen=True, slots=True)
class Forest:
    """A forest plot.

    Attributes:
        name: prefix of ids.
        title: read out by screen readers.
        axis: the label of the horizontal axis.
        signed: whether values are differences, with a line at zero.
        marks: from top to bottom.
    """

    name: str
    title: str
    axis: str
    signed: bool
    marks: tuple[Mark, ...]


def forest_figure(forest: Forest, *, narrow: bool) -> str:
    """Return an SVG with one line per method: its interval, its estimate, and small marks for its seeds.

    Args:
        forest: what to draw.
        narrow: the setting for small screens.
    """
    count = max(1, len(forest.marks))
    with setting():
        figure, axes = canvas(3.7 if narrow else 7.2, 0.7 + (0.52 if narrow else 0.42) * count)
        if forest.signed:
            axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
        for place, mark in enumerate(forest.marks):
            _draw(axes, place, mark)
            # On a small screen there is no room for names beside the plot.
            if narrow:
                axes.text(0, place - 0.3, plain(mark.name), transform=axes.get_yaxis_transform(), va="bottom", parse_math=False)
            else:
                text = _interval(mark, signed=forest.signed)
                axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), va="center", parse_math=False)
        axes.set_yticks([] if narrow else range(len(forest.marks)))
        if not narrow:
            axes.set_yticklabels([plain(mark.name) for mark in forest.marks], parse_math=False)
        axes.set_ylim(count - 0.5, -0.75 if narrow else -0.6)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(plain(forest.axis), parse_math=False)
        axes.grid(axis="x", color=FAINT, linewidth=0.7)
        return svg(figure, f"{forest.name}-{'narrow' if narrow else 'wide'}", plain(forest.title))


def curve_figure(
    seeds: Mapping[int, Sequence[tuple[int, float]]],
    forecast: tuple[int, float, float, float] | None,
    *,
    metric: str,
    narrow: bool,
) -> str:
    """Return an SVG of score against rows: one line per seed, and the forecast as a point with its interval.

    Args:
        seeds: seed -> ``(rows, score)``, scores in [0, 1]; more than five seeds share a colour.
        forecast: ``(rows, value, low, high)``.
        metric: name of the vertical axis.
        narrow: the setting for small screens.
    """
    with setting():
        figure, axes = canvas(3.7 if narrow else 7.2, 3.1)
        named = len(seeds) <= _MOST_NAMED
        for place, (seed, points) in enumerate(seeds.items()):
            colour = PLACEHOLDERS[(0, 1, 3, 4, 6)[place] if named else 1]
            axes.plot(
                [rows for rows, _ in points], [100 * score for _, score in points], color=colour,
                marker=_MARKERS[place] if named else ".", markersize=4.5, linewidth=1.4,
                label=f"seed {seed}" if named else "one line per seed" if place == 0 else None,
            )  # fmt: skip
        if forecast:
            rows, value, low, high = forecast
            axes.errorbar(
                [rows], [100 * value], yerr=[[100 * max(0.0, value - low)], [100 * max(0.0, high - value)]],
                color=PLACEHOLDERS[2], marker="D", markersize=6, markerfacecolor=PAPER, linestyle="none",
                elinewidth=1.3, capsize=3, label="forecast, 95 %",
            )  # fmt: skip
        axes.set_xlabel("training rows")
        axes.set_ylabel(f"{plain(metric)}, %", parse_math=False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=4 if narrow else 8, integer=True)
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2 if narrow else 6, frameon=False, handlelength=1.8,
            columnspacing=1.2, borderaxespad=0.2,
        )  # fmt: skip
        return svg(figure, f"curve-{'narrow' if narrow else 'wide'}", f"{plain(metric)} against training rows")


def _draw(axes: Axes, place: int, mark: Mark) -> None:
    colour = PLACEHOLDERS[mark.colour]
    axes.hlines(place, 100 * mark.low, 100 * mark.high, color=colour, linewidth=2.2, zorder=2)
    if len(mark.seeds) > 1:
        values = [100 * value for value in mark.seeds]
        axes.plot(values, [place + 0.2] * len(values), linestyle="none", marker="|", markersize=5, color=colour, zorder=3)
    axes.plot(
        [100 * mark.value], [place], marker="o", markersize=7, color=colour, markeredgewidth=1.6,
        markerfacecolor=colour if mark.solid else PAPER, zorder=4,
    )  # fmt: skip


def _interval(mark: Mark, *, signed: bool) -> str:
    form = "+.1f" if signed else ".1f"
    value, low, high = (format(100 * number, form) for number in (mark.value, mark.low, mark.high))
    return f"{value} [{low}, {high}]"
