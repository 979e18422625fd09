"""`runs`: the runs below a folder, as a list that a notebook shows as a table."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from stepsynth.api.files import absolute_path
from stepsynth.api.html import table
from stepsynth.errors import RunError
from stepsynth.report.listing import list_runs, pick_runs

if TYPE_CHECKING:
    import pandas

__all__ = ["HEAD", "RunList", "list_line", "runs"]


HEAD = ("run", "state", "method", "teacher", "rounds", "rows", "score [95 %]", "requests", "tokens", "dollars", "changed (UTC)")


class RunList(list[dict[str, Any]]):
    """Runs, a dict each."""

    def to_pandas(self) -> pandas.DataFrame:
        """Return a frame with a row per run; ``score`` is split into ``score``, ``ci_low`` and ``ci_high``."""
        import pandas

        return pandas.DataFrame([{**entry, **_numbers(entry)} for entry in self])

    def _repr_html_(self) -> str:
        return table(HEAD, [list_line(entry) for entry in self], notes=[] if self else ["There are no runs."])


def runs(
    folder: str | os.PathLike[str] = ".", *, sort: str = "name", method: str | None = None, state: str | None = None
) -> RunList:
    """Return the runs below a folder, those of comparisons too. Nothing is locked or changed.

    Args:
        folder: where to look.
        sort: ``name``, ``task``, ``method``, ``teacher``, ``state``; or ``date``, ``score``, ``rounds``, ``rows``, ``requests``,
            ``tokens``, ``cost``, the newest or largest first.
        method: only runs of this method.
        state: only runs in this state: ``finished``, ``working``, ``interrupted``, ``failed`` (an error ended it) or ``broken``
            (its files cannot be read; ``problem`` says why).

    Returns:
        A list of dicts, see `stepsynth.report.listing.list_runs`. A notebook shows it as a table; ``to_pandas()`` gives a frame.

    Raises:
        RunError: there is no such folder.
        ConfigError: there is no such key or state.

    Examples:
        >>> [entry["name"] for entry in runs("runs", sort="score")]  # doctest: +SKIP
        ['tickets', 'compare-tickets/s3-0']
    """
    place = absolute_path(folder, "the folder", "Give a folder with runs.", RunError)
    return RunList(pick_runs(list_runs(place), sort=sort, method=method, state=state))


def list_line(entry: dict[str, Any]) -> list[str]:
    """Return a run as the cells of a table."""
    score, tokens, cost = entry["score"], entry["tokens"], entry["cost_usd"]
    said = ""
    if score:
        low, high = score["ci95"]
        said = f"{100 * score['value']:.1f} [{100 * low:.1f}, {100 * high:.1f}] {score['on']}"
    state = entry["state"] if not entry["problem"] else f"{entry['state']}: {entry['problem']}"
    counts = ["" if entry[key] is None else f"{entry[key]:,}" for key in ("rounds", "rows")]
    dollars = "" if tokens is None else "unknown" if cost is None else f"{cost:.2f}"
    spent = [
        "" if entry["requests"] is None else f"{entry['requests']:,}",
        f"{sum(tokens.values()):,}" if tokens else "",
        dollars,
    ]
    date = (entry["date"] or "")[:16].replace("T", " ")
    return [entry["name"], state, entry["method"] or "", entry["teacher"] or "", *counts, said, *spent, date]


def _numbers(entry: dict[str, Any]) -> dict[str, Any]:
    score = entry["score"] or {}
    low, high = score.get("ci95") or (None, None)
    tokens = entry["tokens"]
    numbers = {"score": score.get("value"), "ci_low": low, "ci_high": high, "on": score.get("on")}
    return numbers | {"tokens": tokens and sum(tokens.values())}
