"""A sweep's table as text: Markdown, and one line of CSV per cell."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from stepsynth.evaluation import shown_p
from stepsynth.runtime.counting import counted
from stepsynth.runtime.spreadsheets import safe_cell
from stepsynth.sweeps.spec import comparison_title

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["average_rows", "detail_rows", "score_rows", "state_lines", "sweep_csv", "sweep_markdown", "title_of"]

_CELL = ("method", "seed", "state", "metric", "score", "round", "rows", "accepted_rows", "requests", "tokens", "usd", "minutes")
CSV_COLUMNS = ("data_set", "setting", *_CELL, "folder")


def average_rows(results: dict[str, Any], average: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the averages of one setting as text cells, header first."""
    reference = results["reference"]
    others = any(entry["difference"] and entry["difference"]["other_data_sets_ci95"] for entry in average["systems"])
    head = ["method", "data sets", "score [95 %]"]
    if reference:
        head += [f"minus {reference} [95 %]", *(["on other data sets [95 %]"] if others else []), "ahead on", "behind on"]
    rows = [(*head, "mean rank", "best on")]
    for entry in average["systems"]:
        cells = [entry["name"], str(entry["data_sets"]), _score(entry["score"])]
        if reference:
            found = entry["difference"]
            cells.append(_points(found) if found else "")
            if others:
                apart = found and found["other_data_sets_ci95"]
                cells.append(_points({"value": found["value"], "ci95": apart}) if apart else "")
            cells += [_count(found, "ahead") if found else "", _count(found, "behind") if found else ""]
        rows.append((*cells, f"{entry['rank']:.2f}", str(entry["best_on"])))
    return rows


def score_rows(results: dict[str, Any], setting: str | None) -> list[tuple[str, ...]]:
    """Return methods x data sets as text cells, header first: the score and, in brackets, the points to the reference."""
    own = [entry for entry in results["comparisons"] if entry["setting"] == setting and entry["systems"]]
    if not own:
        return []
    by_name = [{system["name"]: system for system in entry["systems"]} for entry in own]
    rows: list[tuple[str, ...]] = [("method", *(entry["data_set"] for entry in own))]
    for name in results["methods"]:
        rows.append((name, *(_short(found.get(name)) for found in by_name)))
    return rows


def detail_rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return one line per comparison and method as text cells, header first."""
    reference = results["reference"] or "the reference"
    settings = bool(results["settings"])
    head = ["data set", *(["setting"] if settings else []), "method", "rows", "requests", "cost", "score [95 %]"]
    rows = [(*head, f"minus {reference} [95 %]", "p (Holm)")]
    for entry in results["comparisons"]:
        for system in entry["systems"]:
            found = system["difference"]
            cells = [entry["data_set"], *([entry["setting"] or ""] if settings else []), system["name"]]
            cells += [_span(system["rows"]), _span(system["requests"]), _cost(system["usd"]), _score(system["score"])]
            known = found and found["p_holm"] is not None
            rows.append((*cells, _points(found) if found else "", shown_p(found["p_holm"]) if known else ""))
    return rows


def state_lines(results: dict[str, Any]) -> list[str]:
    """Return a sentence for every comparison that is not finished."""
    lines = []
    for entry in results["comparisons"]:
        if entry["state"] == "finished":
            continue
        done = sum(cell["state"] == "finished" for cell in entry["cells"])
        said = f": {entry['problem']}" if entry["problem"] else "."
        lines.append(f"{title_of(entry)} {entry['state']}, {done} of {len(entry['cells'])} cells are there{said}")
    return lines


def title_of(entry: Mapping[str, Any]) -> str:
    """Return a comparison's name."""
    return comparison_title(entry["data_set"], entry["setting"])


def sweep_markdown(results: dict[str, Any]) -> str:
    """Render a sweep as Markdown."""
    counts = [(len(results["data_sets"]), "data set"), (len(results["settings"]), "setting")]
    counts += [(len(results["methods"]), "method"), (results["seeds"], "seed")]
    said = ", ".join(counted(count, what) for count, what in counts if count)
    lines = [f"# {results['sweep']}: {said}", ""]
    if unfinished := state_lines(results):
        lines += ["## Not finished", "", *(f"- {line}" for line in unfinished), ""]
    for average in results["averages"]:
        at = f", {average['setting']}" if average["setting"] else ""
        lines += [f"## Averages{at}", "", *_table(average_rows(results, average)), ""]
        lines += [f"## Scores{at}", "", *_table(score_rows(results, average["setting"])), ""]
    if results["averages"]:
        lines += [reading(results), "", "## Every comparison", "", *_table(detail_rows(results)), ""]
    lines += [f"- {warning}" for warning in results["warnings"]]
    for entry in results["comparisons"]:
        lines += [f"- {title_of(entry)}: {warning}" for warning in entry["warnings"]]
    return "\n".join(lines).rstrip() + "\n"


def reading(results: dict[str, Any]) -> str:
    """Return how the averages are to be read."""
    said = "Every data set has the same weight. Intervals of averages are over other seeds and other test rows of these data sets"
    if results["reference"]:
        said += (
            "; differences are paired by data set, seed and row. In brackets: on how many data sets the difference is "
            "established (p below 0.05 after Holm's correction within its comparison)"
        )
    return f"{said}. Mean rank: 1 is the highest score of a data set."


def sweep_csv(results: dict[str, Any]) -> str:
    """Return one line per cell, finished or not."""
    text = io.StringIO()
    # With this line ending, a lone CR inside a cell is quoted, too.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(CSV_COLUMNS)
    for entry in results["comparisons"]:
        for cell in entry["cells"]:
            values = {**cell, "data_set": entry["data_set"], "setting": entry["setting"]}
            writer.writerow([safe_cell("" if values[key] is None else str(values[key])) for key in CSV_COLUMNS])
    return text.getvalue()


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def _score(found: dict[str, Any]) -> str:
    low, high = found["ci95"]
    return f"{100 * found['value']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _points(found: dict[str, Any]) -> str:
    low, high = found["ci95"]
    return f"{_signed(found['value'])} [{_signed(low)}, {_signed(high)}]"


def _signed(value: float) -> str:
    # Adding 0.0 avoids minus zero.
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _short(system: dict[str, Any] | None) -> str:
    if system is None:
        return ""
    apart = f" ({_signed(system['difference']['value'])})" if system["difference"] else ""
    return f"{100 * system['score']['value']:.1f}{apart}"


def _count(found: dict[str, Any], side: str) -> str:
    return f"{found[f'{side}_on']} ({found[f'established_{side}_on']})"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def _cost(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"${sum(known):.2f}" if len(known) == len(values) else "unknown"
