"""The figures of a run's page: scores per round, accuracy over coverage, rows per stage.

Each is drawn wide and narrow; the page shows one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

from stepsynth.report.drawing import FAINT, INK, KEPT, PAPER, PLACEHOLDERS, canvas, plain, setting, svg
from stepsynth.runtime.remembering import remembered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["Bar", "Line", "accuracy_figure", "coverage_figure", "ledger_figure"]

# For select, harvest, test: they differ in marker and dash as well as in colour.
_STYLES: tuple[tuple[int, str, str], ...] = ((1, "o", "-"), (2, "s", "--"), (0, "D", ":"))


@dataclass(frozen=True, slots=True)
class Line:
    """Scores of one split over the rounds.

    Attributes:
        name: shown in the legend.
        points: ``(round, value, low, high)``, values and interval ends in [0, 1].
    """

    name: str
    points: tuple[tuple[int, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """One stacked bar.

    Attributes:
        name: shown on the axis.
        segments: counts by colour number (0 is accepted), at most `SERIES` of them.
    """

    name: str
    segments: tuple[int, ...]


@remembered(most=KEPT)
def accuracy_figure(lines: Sequence[Line], *, metric: str, narrow: bool) -> str:
    """Return an SVG of score against round: one line per split, with 95 % intervals as bars.

    Args:
        lines: at most three; lines without points are left out.
        metric: name of the vertical axis.
        narrow: the setting for small screens.
    """
    shown = [(line, style) for line, style in zip(lines, _STYLES, strict=False) if line.points]
    with setting():
        figure, axes = canvas(3.7 if narrow else 7.2, 2.9 if narrow else 3.0)
        for place, (line, (colour, marker, dash)) in enumerate(shown):
            # Shifted, so that no interval hides another.
            shift = (place - (len(shown) - 1) / 2) * 0.06
            rounds = [number + shift for number, *_ in line.points]
            values = [100 * value for _, value, _, _ in line.points]
            below = [100 * max(0.0, value - low) for _, value, low, _ in line.points]
            above = [100 * max(0.0, high - value) for _, value, _, high in line.points]
            axes.errorbar(
                rounds, values, yerr=[below, above], color=PLACEHOLDERS[colour], marker=marker, markersize=5,
                linestyle=dash, linewidth=1.6, elinewidth=1.1, capsize=2.5, label=plain(line.name),
            )  # fmt: skip
        numbers = sorted({number for line, _ in shown for number, *_ in line.points})
        short = narrow or len(numbers) > 8
        axes.set_xticks(numbers[:: 1 + len(numbers) // 16])
        axes.xaxis.set_major_formatter("{x:.0f}" if short else "round {x:.0f}")
        axes.set_xlim(min(numbers, default=0) - 0.35, max(numbers, default=0) + 0.35)
        axes.set_xlabel("round" if short else "")
        axes.set_ylabel(f"{plain(metric)}, %", parse_math=False)
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, handlelength=2.4, borderaxespad=0.2)
        return svg(figure, f"accuracy-{'narrow' if narrow else 'wide'}", f"{plain(metric)} per round")


@remembered(most=KEPT)
def coverage_figure(curve: Sequence[tuple[float, float]], marks: Sequence[Mapping[str, Any]], *, narrow: bool) -> str:
    """Return an SVG of the accuracy of answers against the share of rows that are answered.

    Args:
        curve: ``(coverage, accuracy)``, the most certain rows first.
        marks: thresholds to mark with their 95 % intervals, see `stepsynth.evaluation.coverage.coverage_at`.
        narrow: the setting for small screens.
    """
    with setting():
        figure, axes = canvas(3.7 if narrow else 7.2, 2.7 if narrow else 2.8)
        axes.plot(
            [100 * share for share, _ in curve], [100 * right for _, right in curve],
            color=PLACEHOLDERS[1], linewidth=1.6, drawstyle="steps-pre",
        )  # fmt: skip
        for mark in marks:
            share, right, (low, high) = mark["coverage"], mark["accuracy"], mark["ci95"]
            axes.errorbar(
                [100 * share], [100 * right], yerr=[[100 * (right - low)], [100 * (high - right)]],
                color=PLACEHOLDERS[1], marker="o", markersize=5, elinewidth=1.1, capsize=2.5,
            )  # fmt: skip
            axes.annotate(f"{mark['threshold']:g}", (100 * share, 100 * right), (4, 5), textcoords="offset points", color=INK)
        axes.set_xlabel("answered, % of rows")
        axes.set_ylabel("right, % of answers", parse_math=False)
        axes.set_xlim(0, 102)
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        return svg(figure, f"coverage-{'narrow' if narrow else 'wide'}", "Accuracy of answers by the share of rows answered")


def _two_lines(name: str) -> str:
    return "\n".join(wrap(name, 18, max_lines=2, placeholder="…"))


@remembered(most=KEPT)
def ledger_figure(bars: Sequence[Bar], *, narrow: bool) -> str:
    """Return an SVG with one horizontal bar per stage, split into accepted rows and reasons.

    Args:
        bars: from top to bottom.
        narrow: the setting for small screens.
    """
    from matplotlib.ticker import MaxNLocator

    with setting():
        figure, axes = canvas(3.7 if narrow else 7.2, 0.75 + 0.34 * max(1, len(bars)))
        for place, bar in enumerate(bars):
            left = 0
            for colour, count in zip(PLACEHOLDERS, bar.segments, strict=False):
                if count:
                    axes.barh(place, count, left=left, height=0.68, color=colour, edgecolor=PAPER, linewidth=0.6)
                left += count
        axes.set_yticks(range(len(bars)), [_two_lines(plain(bar.name)) for bar in bars], parse_math=False)
        axes.set_ylim(max(1, len(bars)) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel("rows")
        axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 8, integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(axis="x", color=FAINT, linewidth=0.7)
        return svg(figure, f"ledger-{'narrow' if narrow else 'wide'}", "Rows accepted and dropped per stage")
