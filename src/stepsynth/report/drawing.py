"""Drawings as inline SVG that follow the page's colours.

Matplotlib draws with placeholder colours, which are then replaced by CSS variables, so that one
drawing serves light and dark mode. Text stays text, ids are unique, and nothing in the markup
points outside the page.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FAINT", "INK", "KEPT", "PAPER", "PLACEHOLDERS", "SERIES", "canvas", "panels", "plain", "setting", "svg"]

SERIES = 8
"""Colours for stacked segments; the first is for accepted rows."""

KEPT = 16
"""Drawings of one kind that a process keeps: a page is drawn when a run ends, when it is verified, and when it is asked for."""

INK, FAINT, PAPER = "#fe0101", "#fe0102", "#fe0103"
PLACEHOLDERS = tuple(f"#fd01{number:02x}" for number in range(1, SERIES + 1))
_VARIABLES = {INK: "ink", FAINT: "rule", PAPER: "paper"}
_VARIABLES.update({colour: f"s{number}" for number, colour in enumerate(PLACEHOLDERS, start=1)})


@contextmanager
def setting() -> Iterator[None]:
    """Use matplotlib's defaults plus ours for a while, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none", "svg.hashsalt": "stepsynth", "font.size": 9, "legend.fontsize": 9,
                "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
                "axes.edgecolor": FAINT, "axes.spines.top": False, "axes.spines.right": False,
                "axes.axisbelow": True, "figure.facecolor": "none", "axes.facecolor": "none",
                "xtick.major.size": 0, "ytick.major.size": 0,
            }
        )  # fmt: skip
        yield


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of the given size in inches, with one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def panels(width: float, height: float, down: int, across: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of the given size in inches, with a grid of axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(down, across, squeeze=False).flat)


def svg(figure: Figure, prefix: str, title: str) -> str:
    """Return a figure as an `<svg>` element without dates, creator or anything else that an inline SVG does not need.

    Args:
        figure: drawn with the placeholder colours.
        prefix: prefix of all ids, unique on the page.
        title: read out by screen readers.
    """
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


def plain(text: str) -> str:
    """Return a text in printable ASCII: the drawing font has no other script, and matplotlib would warn."""
    return re.sub(r"[^ -~]", "?", text)[:40]
