"""Figures as inline SVG that follows the page's colours.

Matplotlib draws with placeholder colours, which become CSS variables afterwards: one drawing
serves light and dark. Text stays text, ids are made unique, and nothing in the markup points
outside the page. Each figure exists in a wide and in a narrow setting; the page shows one.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SERIES", "Bar", "Line", "accuracy_figure", "ledger_figure"]

SERIES = 8
"""Colours for stacked segments; the first is for accepted rows."""

_INK, _FAINT, _PAPER = "#fe0101", "#fe0102", "#fe0103"
_VARIABLES = {_INK: "ink", _FAINT: "rule", _PAPER: "paper"}
_PLACEHOLDERS = tuple(f"#fd01{number:02x}" for number in range(1, SERIES + 1))
_VARIABLES.update({colour: f"s{number}" for number, colour in enumerate(_PLACEHOLDERS, start=1)})
# select, harvest, test: told apart by marker and dash as well as by colour.
_STYLES: tuple[tuple[int, str, str], ...] = ((1, "o", "-"), (2, "s", "--"), (0, "D", ":"))


@dataclass(frozen=True, slots=True)
class Line:
    """Scores of one split over the rounds.

    Attributes:
        name: what the legend says.
        points: ``(round, value, low, high)``, values and interval ends in [0, 1].
    """

    name: str
    points: tuple[tuple[int, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """One stacked bar.

    Attributes:
        name: what the axis says.
        segments: counts by colour number (0 is accepted), at most `SERIES` of them.
    """

    name: str
    segments: tuple[int, ...]


def accuracy_figure(lines: Sequence[Line], *, metric: str, narrow: bool) -> str:
    """Return an SVG with one line per split: score against round, 95 % intervals as bars.

    Args:
        lines: at most three; lines without points are left out.
        metric: name of the vertical axis.
        narrow: the setting for small screens.
    """
    shown = [(line, style) for line, style in zip(lines, _STYLES, strict=False) if line.points]
    with _setting():
        figure, axes = _canvas(3.7 if narrow else 7.2, 2.9 if narrow else 3.0)
        for place, (line, (colour, marker, dash)) in enumerate(shown):
            # Side by side, so that no interval hides another.
            shift = (place - (len(shown) - 1) / 2) * 0.06
            rounds = [number + shift for number, *_ in line.points]
            values = [100 * value for _, value, _, _ in line.points]
            below = [100 * max(0.0, value - low) for _, value, low, _ in line.points]
            above = [100 * max(0.0, high - value) for _, value, _, high in line.points]
            axes.errorbar(
                rounds, values, yerr=[below, above], color=_PLACEHOLDERS[colour], marker=marker, markersize=5,
                linestyle=dash, linewidth=1.6, elinewidth=1.1, capsize=2.5, label=_plain(line.name),
            )  # fmt: skip
        numbers = sorted({number for line, _ in shown for number, *_ in line.points})
        short = narrow or len(numbers) > 8
        axes.set_xticks(numbers[:: 1 + len(numbers) // 16])
        axes.xaxis.set_major_formatter("{x:.0f}" if short else "round {x:.0f}")
        axes.set_xlim(min(numbers, default=0) - 0.35, max(numbers, default=0) + 0.35)
        axes.set_xlabel("round" if short else "")
        axes.set_ylabel(f"{_plain(metric)}, %", parse_math=False)
        axes.grid(axis="y", color=_FAINT, linewidth=0.7)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, handlelength=2.4, borderaxespad=0.2)
        return _svg(figure, f"accuracy-{'narrow' if narrow else 'wide'}", f"{_plain(metric)} per round")


def ledger_figure(bars: Sequence[Bar], *, narrow: bool) -> str:
    """Return an SVG with one horizontal bar per stage, cut into accepted rows and reasons.

    Args:
        bars: from top to bottom.
        narrow: the setting for small screens.
    """
    from matplotlib.ticker import MaxNLocator

    with _setting():
        figure, axes = _canvas(3.7 if narrow else 7.2, 0.75 + 0.34 * max(1, len(bars)))
        for place, bar in enumerate(bars):
            left = 0
            for colour, count in zip(_PLACEHOLDERS, bar.segments, strict=False):
                if count:
                    axes.barh(place, count, left=left, height=0.68, color=colour, edgecolor=_PAPER, linewidth=0.6)
                left += count
        axes.set_yticks(range(len(bars)), [_plain(bar.name) for bar in bars], parse_math=False)
        axes.set_ylim(max(1, len(bars)) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel("rows")
        axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 8, integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(axis="x", color=_FAINT, linewidth=0.7)
        return _svg(figure, f"ledger-{'narrow' if narrow else 'wide'}", "Rows accepted and dropped per stage")


@contextmanager
def _setting() -> Iterator[None]:
    """Matplotlib's own defaults, whatever the user's matplotlibrc says, plus ours, for a while."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none", "svg.hashsalt": "stepsynth", "font.size": 9, "legend.fontsize": 9,
                "text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
                "axes.edgecolor": _FAINT, "axes.spines.top": False, "axes.spines.right": False,
                "axes.axisbelow": True, "figure.facecolor": "none", "axes.facecolor": "none",
                "xtick.major.size": 0, "ytick.major.size": 0,
            }
        )  # fmt: skip
        yield


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, prefix: str, title: str) -> str:
    """Draw without dates or creator, then strip all that an inline SVG does not need."""
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', text))
    text = re.sub(r'\sid="([\w.-]+)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", text)
    text = re.sub("#f[de]01[0-9a-f]{2}", lambda found: f"var(--{_VARIABLES[found[0]]})", text)
    text = re.sub(r"(font(?:-family)?: ?[^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1var(--sans)", text)
    viewbox = re.search(r'viewBox="[^"]*"', text)
    opening = f'<svg {viewbox[0] if viewbox else ""} role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
    return re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1).strip()


def _plain(text: str) -> str:
    """Printable ASCII only: the drawing font knows no other script and would warn."""
    return re.sub(r"[^ -~]", "?", text)[:40]
