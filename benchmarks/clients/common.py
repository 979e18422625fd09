"""What every client script shares: one command line in, one JSON line out. Standard library only.

    python -m benchmarks.clients.NAME --base-url URL --n 2000 --concurrency 64 --out rows.jsonl --state FOLDER

To add a client, write ``benchmarks/clients/NAME.py`` with a function that turns a `Job` into
row -> text and hand it to `run`; name its packages in ``requirements-NAME.txt`` (a dash in a
client's name is an underscore in its module's).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients.truth import prompts

__all__ = ["MODEL", "Job", "gather", "run"]

MODEL = "bench"


@dataclass(frozen=True)
class Job:
    """What a client has to do.

    Attributes:
        base_url: the server, with ``/v1``.
        n: rows 0 to n - 1 are wanted.
        concurrency: most requests in flight.
        state: a folder that outlives the process: caches, journals, checkpoints.
        style: names the system prompt.
        max_tokens: of every request.
        complete: ask further until n good rows are there, if the client can do that.
    """

    base_url: str
    n: int
    concurrency: int
    state: Path
    style: str = "A"
    max_tokens: int = 64
    complete: bool = False

    def prompts(self, row: int) -> tuple[str, str]:
        """Return a row's system and user prompt."""
        return prompts(row, self.style)


async def gather(job: Job, ask: Callable[[int], Awaitable[str | None]]) -> dict[int, str | None]:
    """Ask for all rows with ``concurrency`` workers."""
    rows, found = iter(range(job.n)), {}

    async def worker() -> None:
        for row in rows:
            found[row] = await ask(row)

    await asyncio.gather(*(worker() for _ in range(min(job.concurrency, job.n))))
    return found


def run(work: Callable[[Job], Mapping[int, str | None]], version: str) -> None:
    """Parse the command line, do the work, write the rows and print what it took.

    ``--out`` gets a line ``{"row", "text"}`` per row that came out. The printed line has
    ``rows``, ``cpu_s`` (children included), ``rss_mb`` (largest process), ``wall_s`` since the process
    began and ``finished``, a time of the machine's monotonic clock.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--n", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--style", default="A")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--complete", action="store_true")
    given = vars(parser.parse_args())
    out: Path = given.pop("out")
    job = Job(**given)
    job.state.mkdir(parents=True, exist_ok=True)
    rows = {row: text for row, text in work(job).items() if text is not None}
    out.write_text("".join(json.dumps({"row": row, "text": text}) + "\n" for row, text in sorted(rows.items())), encoding="utf-8")
    finished = time.monotonic()
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    line = {
        "version": version,
        "rows": len(rows),
        "cpu_s": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        "rss_mb": max(own.ru_maxrss, children.ru_maxrss) / 1024,
        "wall_s": finished - _began(),
        "finished": finished,
    }
    # Libraries print what they like; the driver takes the last line.
    print("\n" + json.dumps(line), flush=True)
    sys.stdout.flush()


def _began() -> float:
    """Return when this process began, by the monotonic clock."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return since_boot + time.monotonic() - time.clock_gettime(time.CLOCK_BOOTTIME)
