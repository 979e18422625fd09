"""What happens to rows when things go wrong, and what is paid for twice.

Every scenario is a start or two of one client; what the server counted is the measure, not what
the client says. `scenarios` returns one record per client and scenario.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.clients.running import Outcome, Task, run_client
from benchmarks.clients.server import Server
from benchmarks.clients.truth import answer_text

__all__ = ["FAULT_RATES", "scenarios"]

FAULT_RATES = (0.01, 0.1)
_RAISED_TOKENS = 128


def scenarios(server: Server, task: Task, latency: float, only: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Run the scenarios for one client.

    Args:
        server: counts and spoils.
        task: client, rows and concurrency; the state folder is emptied between scenarios.
        latency: of the server, in seconds.
        only: parts of the names of those that are wanted; all when empty.
    """
    half = replace(task, n=task.n // 2)
    planned: dict[str, Callable[[], dict[str, Any]]] = {
        f"faults {rate:.0%}": partial(_faults, server, task, latency, rate) for rate in FAULT_RATES
    }
    planned["kill -9 half way"] = partial(_killed, server, task, latency)
    changes = {
        "one row added": (replace(half, n=half.n + 1), 1),
        "max_tokens raised": (replace(half, max_tokens=_RAISED_TOKENS), 0),
        "system prompt changed": (replace(half, style="B"), half.n),
    }
    for name, (changed, new) in changes.items():
        planned[name] = partial(_changed, server, half, changed, latency, name, new)
    for name, start in planned.items():
        if not only or any(part in name for part in only):
            yield start()


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _record(server: Server, task: Task, scenario: str, outcome: Outcome, **more: object) -> dict[str, Any]:
    """Return what every scenario reports."""
    counts = server.counts()
    right, wrong = outcome.judged(task.style)
    return {
        "client": task.client,
        "scenario": scenario,
        "ended": outcome.ended,
        "wanted": task.n,
        "rows": len(outcome.rows),
        "lost": max(0, task.n - len(outcome.rows)),
        "right": right,
        "wrong": wrong,
        "requests": counts["requests"],
        "faults": counts["faults"],
        "wall_s": round(outcome.wall_s, 3),
        "said": outcome.tail[-300:],
        **more,
    }


def _faults(server: Server, task: Task, latency: float, rate: float) -> dict[str, Any]:
    """Ask for n rows while a share of the answers is spoilt."""
    _fresh(task.state)
    server.reset(latency, fault_rate=rate)
    return _record(server, task, f"faults {rate:.0%}", run_client(replace(task, complete=True)))


def _killed(server: Server, task: Task, latency: float) -> dict[str, Any]:
    """Kill the client with half of the rows answered; the same command again."""
    _fresh(task.state)
    server.reset(latency)
    first = run_client(task, kill_when=lambda: server.counts()["rows_answered"] >= task.n // 2)
    counts = server.counts()
    answered = set(counts["answered"])
    server.reset(latency)
    second = run_client(task)
    asked = server.counts()["asked"]
    again = sum(count for row, count in asked.items() if row in answered)
    more = {"first": first.ended, "answered_before": len(answered), "asked_again": again}
    return _record(server, task, "kill -9 half way", second, **more)


def _changed(server: Server, task: Task, changed: Task, latency: float, scenario: str, new: int) -> dict[str, Any]:
    """Start again with a change, of which ``new`` requests are the least that it needs."""
    _fresh(task.state)
    server.reset(latency)
    first = run_client(task)
    server.reset(latency)
    second = run_client(changed)
    asked = sum(server.counts()["asked"].values())
    more: dict[str, object] = {"first": first.ended, "asked_again": max(0, asked - new)}
    if changed.style != task.style:
        stale = sum(text.strip() == answer_text(row, task.style) for row, text in second.rows.items())
        more |= {"stale": stale, "noticed": second.ended == "ok" and not stale and bool(second.rows)}
    return _record(server, changed, scenario, second, **more)
