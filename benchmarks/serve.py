"""How much of a student's speed is left behind HTTP: requests per second and latency, beside the bare model.

    OMP_NUM_THREADS=1 python benchmarks/serve.py --run RUN --repeats 5      # results/serve.json

``stepsynth serve`` runs in its own process. Clients on this machine keep one connection each and send the next request, of one
row, when the last one is answered; each setting sends a fixed number of requests. The bare model answers the same rows in this
process: one by one, and all at once, as `predict` does with a file. All take turns (A B C, B C A, ...), so that a machine that
slows down slows all of them, and ratios are medians of the rounds. Server and clients share the cores: on few cores the clients
take some of the server's time. The run is copied first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import aiohttp

from stepsynth.exporting import agreement
from stepsynth.exporting.loading import load_model
from stepsynth.run import RunDirectory
from stepsynth.run.existing import trained_round
from stepsynth.tasks import create_family
from stepsynth.types import Example

ROOT = Path(__file__).resolve().parents[1]
BARE, SINGLE = "bare model, all rows at once", "bare model, row by row"
Turn = tuple[float, list[float]]


@contextmanager
def server(run: Path, options: Sequence[str]) -> Iterator[str]:
    """Start the command; yield its address."""
    command = [sys.executable, "-m", "stepsynth", "serve", str(run), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split(" on ")[1].split()[0]
        finally:
            process.terminate()


def bare(model: Any, rows: Sequence[Example], *, single: bool) -> Turn:
    """Return the seconds of the whole, and those of each call."""
    took, began = [], time.perf_counter()
    for part in [[row] for row in rows] if single else [list(rows)]:
        start = time.perf_counter()
        model.predict(part)
        took.append(time.perf_counter() - start)
    return time.perf_counter() - began, took


async def ask(address: str, bodies: Sequence[bytes], clients: int) -> Turn:
    """Send each body once, from so many clients; return the seconds of the whole, and of each request."""
    waiting, took = iter(bodies), list[float]()
    headers = {"Content-Type": "application/json"}

    async def client(session: aiohttp.ClientSession) -> None:
        for body in waiting:
            start = time.perf_counter()
            async with session.post(f"{address}/predict", data=body, headers=headers) as answer:
                await answer.read()
                assert answer.status == 200, answer.status
            took.append(time.perf_counter() - start)

    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector) as session:
        began = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(clients)))
        return time.perf_counter() - began, took


async def batches(address: str) -> tuple[int, int]:
    """Return the rows and the batches that the server has answered."""
    async with aiohttp.ClientSession() as session, session.get(f"{address}/health") as answer:
        told = await answer.json()
        return told["rows"], told["batches"]


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(run: Path, args: argparse.Namespace) -> dict[str, Any]:
    directory = RunDirectory.read(run)
    number = trained_round(directory)
    family = create_family(directory.config.task)
    rows = list(islice(cycle(agreement.proof_rows(directory, number).examples), args.rows))
    texts = [{family.written: row.text} | ({family.kept: row.context} if family.kept else {}) for row in rows]
    bodies = [json.dumps({"rows": [row]}).encode() for row in texts]
    model = load_model(directory.config, directory.model_path(number))
    names: list[Any] = [BARE, SINGLE, *args.clients]
    seconds, took, shared = (defaultdict[Any, list[float]](list) for _ in range(3))
    with server(run, args.serve) as address:
        model.predict(rows[:8])
        asyncio.run(ask(address, bodies[:8], 4))
        for turn in range(args.repeats):
            for name in [*names[turn % len(names) :], *names[: turn % len(names)]]:
                if name in (BARE, SINGLE):
                    whole, each = bare(model, rows, single=name == SINGLE)
                else:
                    before = asyncio.run(batches(address))
                    whole, each = asyncio.run(ask(address, bodies, name))
                    after = asyncio.run(batches(address))
                    shared[name].append((after[0] - before[0]) / (after[1] - before[1]))
                seconds[name].append(whole)
                took[name] += each
    return {
        f"{name} client{'s' * (name != 1)}" if isinstance(name, int) else name: {
            "rows_per_second": round(len(rows) / statistics.median(seconds[name]), 1),
            "range": [round(len(rows) / edge(seconds[name]), 1) for edge in (max, min)],
            "times_bare": ratio(seconds[BARE], seconds[name]),
            "times_row_by_row": ratio(seconds[SINGLE], seconds[name]),
            **({} if name == BARE else {f"p{p}_ms": round(1000 * quantile(took[name], p / 100), 2) for p in (50, 99)}),
            **({"rows_per_batch": round(statistics.median(shared[name]), 1)} if name in shared else {}),
        }
        for name in names
    }


def ratio(bare: Sequence[float], own: Sequence[float]) -> float:
    """Return the median, over the rounds, of how many times as fast as the bare model."""
    return round(statistics.median(a / b for a, b in zip(bare, own, strict=True)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run directory with a student")
    parser.add_argument("--rows", type=int, default=512, help="requests per setting and round")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--serve", action="append", default=[], help="an option of stepsynth serve, as --serve=--max-batch=16")
    parser.add_argument("--note", default="", help="a sentence about the machine, kept with the figures")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "serve.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "run"
        shutil.copytree(args.run, copy)
        found = measure(copy, args)
        config = RunDirectory.read(copy).config
    for name, told in found.items():
        print(f"{name:30} {json.dumps(told)}")
    told = {
        "run": args.run.name,
        "student": Path(config.student.model).name,
        "max_length": config.student.max_length,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "requests": args.rows,
        "repeats": args.repeats,
        "note": args.note,
    }
    args.out.write_text(json.dumps({**told, "settings": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
