"""`Comparison`: the result of `compare`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from stepsynth.api.files import absolute_path
from stepsynth.comparison import comparison_markdown
from stepsynth.comparison.markdown import comparison_rows
from stepsynth.errors import RunError
from stepsynth.runtime.files import write_atomic

if TYPE_CHECKING:
    import pandas

__all__ = ["Comparison"]

# What results of another form raise where they are used.
_UNREADABLE = (AttributeError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError)


class Comparison:
    """Methods side by side, each with its score and its difference to the reference, with intervals and corrected p-values.

    Attributes:
        path: the folder with ``comparison.html``, ``comparison.md``, ``results.json`` and a run directory per method and seed.
        results: the content of ``results.json``.

    Examples:
        >>> Comparison.load("runs/compare-tickets").to_pandas()  # doctest: +SKIP
    """

    def __init__(self, path: Path, results: dict[str, Any]) -> None:
        self.path = path
        self.results = results

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Comparison:
        """Return the comparison in a folder, as `compare` and ``stepsynth compare`` left it.

        Args:
            path: the folder.

        Raises:
            RunError: there is none, or it has not come to its end yet.
        """
        folder = absolute_path(path, "the path of the comparison", "Give the folder of a comparison.", RunError)
        found = cls(folder, _read_results(folder))
        try:
            # Whatever is missing or of another type in an edited file shows here, not when the comparison is used.
            found._try()
        except _UNREADABLE:
            raise _not_a_comparison(folder, "is not that of a comparison") from None
        return found

    def _try(self) -> None:
        """Make everything that is made from the results."""
        if not self.results["systems"]:
            raise ValueError("no method")
        _ = str(self), self._repr_html_(), self.reference, [_numbers(entry) for entry in self.results["systems"]]

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
        """Return the path of the page, which is written again if it is missing.

        Raises:
            RunError: it is missing and cannot be written.
        """
        page = self.path / "comparison.html"
        if not page.is_file():
            from stepsynth.report import render_comparison

            try:
                write_atomic(page, render_comparison(self.results))
            except RunError:
                raise
            except OSError as error:
                said = f"{str(page)!r} is missing and cannot be written: {error.strerror}."
                raise RunError(said, hint="Make its folder writable.") from None
            # The page shows more than the table does, and its template has errors of its own.
            except Exception:
                raise _not_a_comparison(self.path, "is not that of a comparison") from None
        return page

    def __str__(self) -> str:
        """Return the table in Markdown, with its warnings."""
        return comparison_markdown(self.results)

    def __repr__(self) -> str:
        return f"Comparison({str(self.path)!r})"

    def _repr_html_(self) -> str:
        from stepsynth.api.html import table

        head, *rows = comparison_rows(self.results)
        return table(head, rows, notes=self.warnings)


def _read_results(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise RunError(f"there is no comparison at {str(folder)!r}: {what}.", hint="Give the folder of a comparison.")
    if (folder / "config.json").is_file():
        raise RunError(f"{str(folder)!r} is a run, not a comparison.", hint="Read it with Run.load.")
    try:
        found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        begun = any(folder.glob("*/config.json"))
        what = "it has no results.json yet" if begun else "the folder has no results.json"
        hint = "The call or command that began it goes on with it." if begun else "Give the folder of a comparison."
        raise RunError(f"there is no finished comparison at {str(folder)!r}: {what}.", hint=hint) from None
    except (OSError, ValueError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise _not_a_comparison(folder, f"cannot be read: {said}") from None
    if not isinstance(found, dict):
        raise _not_a_comparison(folder, "is not that of a comparison")
    return found


def _not_a_comparison(folder: Path, said: str) -> RunError:
    hint = "The same comparison again writes it anew: nothing is asked for twice."
    return RunError(f"{str(folder / 'results.json')!r} {said}.", hint=hint)


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
