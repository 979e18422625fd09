"""`Comparison`: the result of `compare`."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from stepsynth.comparison import comparison_markdown
from stepsynth.comparison.markdown import comparison_rows

if TYPE_CHECKING:
    from pathlib import Path

    import pandas

__all__ = ["Comparison"]


class Comparison:
    """Methods side by side, each with its score and its difference to the reference, with intervals and corrected p-values.

    Attributes:
        path: the folder with ``comparison.html``, ``comparison.md``, ``results.json`` and a run directory per method and seed.
        results: the content of ``results.json``.

    Example:
        >>> comparison.to_pandas()  # doctest: +SKIP
    """

    def __init__(self, path: Path, results: dict[str, Any]) -> None:
        self.path = path
        self.results = results

    @property
    def reference(self) -> str:
        """The method that the others are compared with."""
        return str(self.results["reference"])

    @property
    def warnings(self) -> list[str]:
        """What to know before believing the differences."""
        return list(self.results["warnings"])

    def to_pandas(self) -> pandas.DataFrame:
        """Return a frame with one row per method.

        ``score`` (mean over the seeds) with ``ci_low`` and ``ci_high``; ``difference`` to the reference with its interval and
        ``p`` (with Holm's correction), missing for the reference itself; ``rows`` and ``requests``, means over the seeds.
        """
        import pandas

        return pandas.DataFrame([_numbers(entry) for entry in self.results["systems"]]).set_index("method")

    def report(self) -> Path:
        """Return the path of the page."""
        return self.path / "comparison.html"

    def __str__(self) -> str:
        """Return the table in Markdown, with its warnings."""
        return comparison_markdown(self.results)

    def __repr__(self) -> str:
        return f"Comparison({str(self.path)!r})"

    def _repr_html_(self) -> str:
        from stepsynth.api.html import table

        head, *rows = comparison_rows(self.results)
        return table(head, rows, notes=self.warnings)


def _numbers(entry: dict[str, Any]) -> dict[str, Any]:
    score, difference = entry["score"] or {}, entry.get("difference") or {}
    low, high = score.get("ci95") or (None, None)
    apart_low, apart_high = difference.get("ci95") or (None, None)
    return {
        "method": entry["name"],
        "score": score.get("value"),
        "ci_low": low,
        "ci_high": high,
        "difference": difference.get("value"),
        "difference_low": apart_low,
        "difference_high": apart_high,
        "p": difference.get("p_holm"),
        "rows": fmean(entry["rows"]),
        "requests": fmean(entry["requests"]),
    }
