"""The results as tables, and docs/benchmarks.md with them in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["fill", "robustness_table", "speed_table"]

_SPEED = (
    "client",
    "rows",
    "in flight",
    "rows/s",
    "efficiency",
    "whole",
    "CPU s per 1,000 rows",
    "peak MB",
    "first request s",
)
_SCENARIOS = ("faults 1%", "faults 10%", "kill -9 half way", "one row added", "max_tokens raised", "system prompt changed")


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [head, ("---",) * len(head), *rows] if rows else []
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def speed_table(found: dict[str, Any]) -> str:
    """Return one row per client, rows and concurrency; best efficiency first within each block."""
    rows = []
    order = sorted(found.get("results", []), key=lambda row: (row["n"], row["concurrency"], -row.get("efficiency", 0.0)))
    for row in order:
        name = f"{row['client']} {row['version']}" if "version" in row else row["client"]
        cells = [name, f"{row['n']:,}", str(row["concurrency"])]
        if "efficiency" not in row:
            rows.append([*cells, f"failed: {row['failed'][0].strip().splitlines()[-1][:80]}", *[""] * 5])
            continue
        cells += [_ranged(row, "rows_per_s", ".0f"), _ranged(row, "efficiency", ".2f"), _ranged(row, "efficiency_whole", ".2f")]
        cells += [_ranged(row, "cpu_s_per_1000", ".2f"), f"{row['rss_mb']:.0f}", f"{row['time_to_first_request_s']:.2f}"]
        rows.append(cells)
    return _table(_SPEED, rows)


def _ranged(row: dict[str, Any], name: str, form: str) -> str:
    low, high = row["range"][name]
    middle = f"{row[name]:{form}}"
    return middle if row["repeats"] == 1 else f"{middle} ({low:{form}} to {high:{form}})"


def robustness_table(found: dict[str, Any]) -> str:
    """Return one row per client, one column per scenario."""
    known = {(row["client"], row["scenario"]): row for row in found.get("robustness", [])}
    clients = list(dict.fromkeys(client for client, _ in known))
    rows = [[client, *(_cell(known.get((client, scenario))) for scenario in _SCENARIOS)] for client in clients]
    return _table(("client", *_SCENARIOS), rows)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["ended"] != "ok":
        return f"**{row['ended']}** after {row['wall_s']:.0f} s"
    lost = f", **{row['lost']:,} lost**" if row["lost"] else ""
    wrong = f", **{row['wrong']:,} wrong**" if row["wrong"] else ""
    came = f"{row['right']:,} of {row['wanted']:,} right{lost}{wrong}"
    if row["scenario"].startswith("faults"):
        return f"{came}, {row['requests']:,} requests"
    if "noticed" in row:
        return f"noticed, {row['requests']:,} requests" if row["noticed"] else f"**{row['stale']:,} stale rows**"
    if "answered_before" in row:
        return f"{row['asked_again']:,} of {row['answered_before']:,} asked again{lost}{wrong}"
    return f"{row['asked_again']:,} asked again{lost}{wrong}"


def fill(page: Path, found: dict[str, Any]) -> str:
    """Write the tables between their marks in the page, and return them.

    Raises:
        SystemExit: the page lacks a mark.
    """
    text = page.read_text(encoding="utf-8")
    tables = {"speed": speed_table(found), "robustness": robustness_table(found), "conditions": _conditions(found)}
    for name, table in tables.items():
        text = _placed(text, name, table, page)
    page.write_text(text, encoding="utf-8")
    return "\n\n".join(tables.values())


def _placed(text: str, name: str, table: str, page: Path) -> str:
    """Return the text with a table between its marks."""
    before, mark, rest = text.partition(f"<!-- client: {name} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not end:
        raise SystemExit(f"{page} has no '<!-- client: {name} -->' with an '<!-- end -->' behind it.")
    return f"{before}{mark}{table}\n{end}{after}"


def _conditions(found: dict[str, Any]) -> str:
    machine, top = found["machine"], found.get("ceiling")
    said = f"Measured on {machine['cores']} cores ({machine['cpu']}), Python {machine['python']}."
    if top:
        said += f" The server alone: {top['rows_per_s']:,.0f} answers a second without latency, the bare client beside it,"
        said += f" {top['server_cpu_ms']:.2f} ms of its CPU time per answer."
    return said
