"""Rows a second with several servers of one model, and what the death of one of them costs.

    python benchmarks/endpoints.py              # measures, writes results/endpoints.json and the table of docs/benchmarks.md
    python benchmarks/endpoints.py --table      # the table alone

Each server is a process of its own on this machine that works on 16 requests at a time, 200 ms each, and lets others wait, as
vLLM does: at most 80 rows a second. The client is stepsynth's own, with its journal on disk. ``efficiency`` is the
share of what the servers could do together in that time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from stepsynth.config import BudgetConfig, TeacherConfig
from stepsynth.generation import TeacherClient
from stepsynth.journal import Journal
from stepsynth.types import Message, Request, Response, Sampling

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "endpoints.json"
PAGE = ROOT / "docs" / "benchmarks.md"
AT_ONCE, SECONDS = 16, 0.2
RATE = AT_ONCE / SECONDS
ROWS_PER_SERVER = 800
# More than a server works on, so that none waits for the client.
IN_FLIGHT_PER_SERVER = 24
BEGIN, END = "<!-- endpoints: begin -->", "<!-- endpoints: end -->"


async def serve(port: int) -> None:
    """Answer chat completions, 16 at a time."""
    room = asyncio.Semaphore(AT_ONCE)
    answer = {
        "id": "x",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "A text."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6},
    }
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                asked = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = next((line.partition(":")[2] for line in asked.split("\r\n") if line.startswith("content-length")), "0")
                await reader.readexactly(int(length))
                async with room:
                    await asyncio.sleep(SECONDS)
                writer.write(head + body)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(converse, "127.0.0.1", port, backlog=1024) as server:
        await server.serve_forever()


class Server:
    """A server's process, on a port that stays the same."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Start it; returns when it accepts connections."""
        self.process = subprocess.Popen([sys.executable, __file__, "--serve", str(self.port)])
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError("a server did not start")

    def kill(self) -> None:
        """Kill it with whatever it works on."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def measure(count: int, dies: bool) -> dict[str, Any]:
    """Ask for 800 rows a server; if one dies, it does so after a quarter of them and comes back four seconds later."""
    servers, rows = [Server() for _ in range(count)], count * ROWS_PER_SERVER
    try:
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder) / "journal.db")
            addresses = [f"http://127.0.0.1:{server.port}/v1" for server in servers]
            config = TeacherConfig(
                backend="openai", model="m", base_url=addresses, concurrency=count * IN_FLIGHT_PER_SERVER,  # type: ignore[arg-type]
                price={"input": 0, "output": 0}, attempts=1,  # type: ignore[arg-type]
            )  # fmt: skip
            client = TeacherClient(config, journal, BudgetConfig())
            asked = [Request((Message("user", f"Write {n}."),), Sampling(), n, "round-0/seed", n, "label") for n in range(rows)]
            down: list[float] = []
            killer = threading.Thread(target=_die, args=(client, servers[-1], rows // 4, down), daemon=True)
            if dies:
                killer.start()
            started = time.perf_counter()
            found = client.run(asked)
            seconds = time.perf_counter() - started
            if dies:
                killer.join()
            totals = journal.totals()
            journal.close()
    finally:
        for server in servers:
            server.kill()
    missing = sum(down)
    answered = sum(isinstance(answer, Response) for answer in found.values())
    could = RATE * (count * seconds - min(missing, seconds))
    return {
        "seconds": seconds,
        "rows_per_s": answered / seconds,
        "efficiency": answered / could,
        "rows": answered,
        "failed": rows - answered,
        "sent": totals.attempts,
        "sent_again": sum(totals.failures.values()),
        "down_s": missing,
    }


def _die(client: TeacherClient, server: Server, after: int, down: list[float]) -> None:
    while client.budget.ledger.answers < after:
        time.sleep(0.02)
    started = time.perf_counter()
    server.kill()
    time.sleep(4)
    server.start()
    down.append(time.perf_counter() - started)


def table(results: dict[str, Any]) -> str:
    """Return the table of the page."""
    lines = ["| servers | rows a second | of what they could do | rows | lost | sent again |", "|---|---|---|---|---|---|"]
    for case in results["cases"]:
        runs = case["runs"]
        rate = [run["rows_per_s"] for run in runs]
        name = f"{case['servers']}" + (f", one dies and is back after {runs[0]['down_s']:.0f} s" if case["dies"] else "")
        again = sorted(run["sent_again"] for run in runs)
        lines.append(
            f"| {name} | {statistics.median(rate):.0f} ({min(rate):.0f} to {max(rate):.0f}) "
            f"| {100 * statistics.median(run['efficiency'] for run in runs):.0f} % "
            f"| {runs[0]['rows'] + runs[0]['failed']:,} | {sum(run['failed'] for run in runs)} | {again[0]} to {again[-1]} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    if not options.table:
        plan = [(1, False), (2, False), (4, False), (2, True), (4, True)]
        cases: list[dict[str, Any]] = [{"servers": count, "dies": dies, "runs": []} for count, dies in plan]
        for _ in range(options.repeats):
            for case in cases:
                case["runs"].append(measure(case["servers"], case["dies"]))
                sys.stdout.write(f"{case['servers']} {case['dies']} {case['runs'][-1]}\n")
                sys.stdout.flush()
        about = {"at_once": AT_ONCE, "seconds": SECONDS, "in_flight_per_server": IN_FLIGHT_PER_SERVER}
        results = {**about, "python": platform.python_version(), "cases": cases}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    shown = table(json.loads(RESULTS.read_text(encoding="utf-8")))
    PAGE.write_text(f"{before}{BEGIN}\n{shown}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
