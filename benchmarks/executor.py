"""From request to committed answer: stepsynth and its peers against one server, in one run.

    python benchmarks/executor.py --clients stepsynth,aiohttp,asyncio,openai --n 2000 --concurrency 64,256 --repeats 3
    python benchmarks/executor.py --clients stepsynth,openai,distilabel --robustness
    python benchmarks/executor.py --table

A loopback server in a process of its own answers after 200 ms, counts what it is asked and knows
the right answer to every row. Each client is a script in ``benchmarks/clients`` with an
environment of its own. Repeats are interleaved: every client once, then every client again.

- wall: from the first request that reaches the server until the client has its rows on disk;
- efficiency: rows x latency / (concurrency x wall), so 1 is what the server makes possible;
- whole: the same with the wall from the start of the process to its exit;
- CPU seconds are those of the client with its children, memory that of its whole process tree;
- time to first request: from the start of the process until the server sees a request.

Results are merged into ``benchmarks/results/executor.json``: a client, number of rows and
concurrency that are measured again replace what stood there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Python puts only the folder of a started file on its path.
sys.path.insert(0, str(ROOT))

from benchmarks.clients.robustness import scenarios  # noqa: E402
from benchmarks.clients.running import Task, available, interpreter, run_client  # noqa: E402
from benchmarks.clients.server import Server  # noqa: E402
from benchmarks.clients.tables import fill, robustness_table, speed_table  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "executor.json"
PAGE = ROOT / "docs" / "benchmarks.md"
# Baselines without attempts of their own: that they lose rows to faults is no news.
BASELINES = ("aiohttp", "asyncio")
ROBUST_CONCURRENCY = 64


def ceiling(server: Server, options: argparse.Namespace) -> dict[str, float]:
    """Return what the server itself can do: answers without latency, asked for by the cheapest client."""
    server.reset(0.0)
    state = options.work / "ceiling"
    task = Task("asyncio", Path(sys.executable), server.base_url, state, max(500, options.n[0]), 64, timeout_s=options.timeout)
    outcome = run_client(task)
    counts = server.counts()
    wall = outcome.line["finished"] - counts["first_request"]
    each = counts["cpu_s"] / counts["requests"]
    return {"rows_per_s": counts["requests"] / wall, "server_cpu_ms": 1000 * each, "one_core_per_s": 1 / each}


def measure(server: Server, task: Task, latency: float, jitter: float) -> dict[str, Any]:
    """Start one client on a fresh state and return what it took."""
    shutil.rmtree(task.state, ignore_errors=True)
    server.reset(latency, jitter=jitter)
    outcome = run_client(task)
    counts = server.counts()
    right, wrong = outcome.judged(task.style)
    found: dict[str, Any] = {"ended": outcome.ended, "rows": len(outcome.rows), "right": right, "wrong": wrong}
    found |= {"requests": counts["requests"], "peak_in_flight": counts["peak_in_flight"], "said": outcome.tail}
    if outcome.ended == "ok":
        wall = outcome.line["finished"] - counts["first_request"]
        possible = right * latency / task.concurrency
        found |= {
            "version": outcome.line["version"],
            "rows_per_s": right / wall,
            "efficiency": possible / wall,
            "efficiency_whole": possible / outcome.wall_s,
            "wall_s": wall,
            "whole_s": outcome.wall_s,
            "cpu_s": outcome.cpu_s,
            "cpu_s_per_1000": 1000 * outcome.cpu_s / max(right, 1),
            "rss_mb": outcome.rss_mb,
            "time_to_first_request_s": counts["first_request"] - outcome.started,
            "server_busy": counts["cpu_s"] / wall,
        }
    return found


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of the repeats that ended well, their ranges, and how many ended otherwise."""
    good = [run for run in runs if run["ended"] == "ok"]
    found: dict[str, Any] = {
        "repeats": len(runs),
        "failed": [f"{run['ended']}: {run['said'][-300:]}" for run in runs if run not in good],
    }
    if not good:
        return found
    found["version"] = good[-1]["version"]
    numbers = [name for name, value in good[0].items() if isinstance(value, int | float)]
    found |= {name: statistics.median(run[name] for run in good) for name in numbers}
    found["range"] = {name: [min(run[name] for run in good), max(run[name] for run in good)] for name in numbers}
    return found


def speed(server: Server, pythons: dict[str, Path], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every client at every number of rows and concurrency, repeats interleaved."""
    runs: dict[tuple[str, int, int], list[dict[str, Any]]] = defaultdict(list)
    clients = list(pythons)
    for repeat in range(options.repeats):
        for n in options.n:
            for concurrency in options.concurrency:
                # Another client begins each time: none always follows the same neighbour.
                for client in clients[repeat % len(clients) :] + clients[: repeat % len(clients)]:
                    state = options.work / client
                    task = Task(client, pythons[client], server.base_url, state, n, concurrency, timeout_s=options.timeout)
                    found = measure(server, task, options.latency, options.jitter)
                    runs[client, n, concurrency].append(found)
                    _say(client, n, concurrency, found)
    settings = {"latency_s": options.latency, "jitter": options.jitter}
    return [{"client": c, "n": n, "concurrency": k, **settings, **summarise(found)} for (c, n, k), found in runs.items()]


def _say(client: str, n: int, concurrency: int, found: dict[str, Any]) -> None:
    if found["ended"] == "ok":
        what = f"{found['rows_per_s']:.0f} rows/s, efficiency {found['efficiency']:.3f} (whole {found['efficiency_whole']:.3f})"
        what += f", {found['cpu_s_per_1000']:.2f} CPU s per 1,000, {found['rss_mb']:.0f} MB"
        what += f", first request {found['time_to_first_request_s']:.2f} s, {found['right']} right, {found['wrong']} wrong"
        what += f", server busy {found['server_busy']:.0%}"
    else:
        what = f"{found['ended']}: {found['said'][-400:]}"
    print(f"{client} n={n} c={concurrency}: {what}", file=sys.stderr, flush=True)


def robustness(server: Server, pythons: dict[str, Path], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the scenarios for every client that says it handles failures."""
    found = []
    for client, python in pythons.items():
        if client in BASELINES:
            continue
        state = options.work / client
        task = Task(client, python, server.base_url, state, options.rows, options.robust_concurrency, timeout_s=options.timeout)
        for record in scenarios(server, task, options.latency, options.scenarios):
            found.append(record)
            short = {name: value for name, value in record.items() if name not in ("client", "scenario", "said")}
            print(f"{client}, {record['scenario']}: {short}", file=sys.stderr, flush=True)
    return found


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return both, newer measurements in the place of older ones of the same thing."""
    keys = {"results": ("client", "n", "concurrency"), "robustness": ("client", "scenario")}
    found = {**old, **{name: value for name, value in new.items() if name not in keys}}
    for part, names in keys.items():
        rows = {tuple(row[name] for name in names): row for row in [*old.get(part, []), *new.get(part, [])]}
        found[part] = list(rows.values())
    return found


def machine() -> dict[str, Any]:
    """Return what the figures depend on; no name of a host."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if "model name" in line
        ),
        "",
    )
    return {"cores": os.cpu_count(), "cpu": model, "python": platform.python_version(), "system": platform.system()}


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everyone = available()
    parser.add_argument("--clients", default="stepsynth,asyncio,aiohttp", help=f"of {', '.join(everyone)}")
    parser.add_argument("--n", type=_numbers, default=[2000], help="rows, comma-separated")
    parser.add_argument("--concurrency", type=_numbers, default=[64, 256], help="requests in flight, comma-separated")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds until the server answers")
    parser.add_argument("--jitter", type=float, default=0.0, help="share of the latency by which answers vary")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one start of one client")
    parser.add_argument("--robustness", action="store_true", help="faults, kills and changes instead of speed")
    parser.add_argument(
        "--scenarios", type=lambda text: text.split(","), default=[], help="parts of their names, all if not given"
    )
    parser.add_argument("--rows", type=int, default=1000, help="rows of the robustness scenarios")
    parser.add_argument("--robust-concurrency", type=int, default=ROBUST_CONCURRENCY)
    parser.add_argument("--environments", type=Path, default=ROOT / "runs" / "environments")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "executor-benchmark", help="clients' state, emptied")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument(
        "--table", action="store_true", help="fill the tables of docs/benchmarks.md from the results, measure nothing"
    )
    options = parser.parse_args()
    options.clients = options.clients.split(",")
    for path in ("environments", "work", "out"):
        setattr(options, path, getattr(options, path).resolve())
    if unknown := [name for name in options.clients if name not in everyone]:
        parser.error(f"no client {unknown[0]!r}; there are {', '.join(everyone)}")
    return options


def main() -> None:
    """Measure, keep and report."""
    options = _options()
    old = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    if options.table:
        if not old:
            raise SystemExit(f"no results at {options.out}; measure first.")
        print(fill(PAGE, old))
        return
    pythons = {client: interpreter(client, options.environments) for client in options.clients}
    new: dict[str, Any] = {"machine": machine()}
    with Server(options.latency) as server:
        if options.robustness:
            new["robustness"] = robustness(server, pythons, options)
        else:
            new["ceiling"] = ceiling(server, options)
            print(f"server alone: {new['ceiling']}", file=sys.stderr, flush=True)
            new["results"] = speed(server, pythons, options)
    shutil.rmtree(options.work, ignore_errors=True)
    found = merged(old, new)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1) if options.json else f"{speed_table(found)}\n\n{robustness_table(found)}".strip())


if __name__ == "__main__":
    main()
