"""The command of the simulation: many seeds, or one of them step by step; a broken one is printed, and how to replay it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from .put_back import FAULTS
from .seeds import Report, run_seed, run_seeds, simulated

# Seeds that a process runs before it reports.
_CHUNK = 250
_LAST_STEPS = 25


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 if an invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--start", type=int, default=0, help="the first one (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--minutes", type=float, help="end after this long, however many seeds are left")
    parser.add_argument("--save", type=Path, help="write the figures as JSON")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--trace", action="store_true", help="with --seed: print its whole history")
    parser.add_argument("--put-back", choices=sorted(FAULTS), help="put a fault of the history back")
    options = parser.parse_args(arguments)
    if options.put_back:
        FAULTS[options.put_back].put_back().__enter__()
    if options.seed is not None:
        return show(options.seed, whole=options.trace)
    report = many(options.start, options.seeds, options.jobs, options.minutes)
    if options.save:
        options.save.write_text(json.dumps(figures(report, options.start, options.jobs), indent=2) + "\n")
    for seed in sorted(report.broken)[:5]:
        show(seed, whole=False)
    return 1 if report.broken else 0


def many(start: int, seeds: int, jobs: int, minutes: float | None = None) -> Report:
    """Run seeds in one or more processes, with a line of progress now and then."""
    began, total = time.perf_counter(), Report()
    chunks = [range(first, min(first + _CHUNK, start + seeds)) for first in range(start, start + seeds, _CHUNK)]

    def late() -> bool:
        return minutes is not None and time.perf_counter() - began > 60 * minutes

    def add(report: Report) -> None:
        total.__iadd__(report)
        for seed, what in sorted(report.broken.items()):
            sys.stdout.write(f"seed {seed} BROKEN: {what}; replay: python -m tests.simulation --seed {seed} --trace\n")
        total.seconds = time.perf_counter() - began
        rate = total.seeds / total.seconds
        line = f"{total.seeds:,} of {seeds:,} seeds, {rate:,.0f} a second, {total.steps:,} steps, {total.checks:,} checks"
        sys.stdout.write(f"{line}, {len(total.broken)} broken\n")
        sys.stdout.flush()

    if jobs == 1:
        for chunk in chunks:
            add(run_seeds(chunk))
            if late():
                break
    else:
        with ProcessPoolExecutor(jobs) as pool:
            # A few at a time, so that the end is never far.
            waiting = {pool.submit(run_seeds, chunk) for chunk in chunks[: 2 * jobs]}
            rest = iter(chunks[2 * jobs :])
            while waiting:
                done = next(as_completed(waiting))
                waiting.remove(done)
                add(done.result())
                if not late() and (following := next(rest, None)) is not None:
                    waiting.add(pool.submit(run_seeds, following))
    sys.stdout.write("".join(f"{count:>12,}  {fault}\n" for fault, count in total.faults.most_common()))
    return total


def show(seed: int, *, whole: bool) -> int:
    """Run one seed and print what happened; 1 if an invariant broke."""
    with simulated():
        world = run_seed(seed)
    steps = world.history if whole else world.history[-_LAST_STEPS:]
    sys.stdout.write("".join(f"{now:14.3f}  {what}\n" for now, what in steps))
    verdict = f"BROKEN: {world.broken}" if world.broken else "every invariant held"
    sys.stdout.write(f"seed {seed}: {verdict}; {world.steps:,} steps, digest {world.digest()}\n")
    if world.broken:
        sys.stdout.write(f"replay: python -m tests.simulation --seed {seed} --trace\n")
    return 1 if world.broken else 0


def figures(report: Report, start: int, jobs: int) -> dict[str, object]:
    """Return a report's figures for JSON."""
    found = asdict(report)
    found["faults"] = dict(report.faults.most_common())
    found["broken"] = {str(seed): what for seed, what in report.broken.items()}
    for name in ("seconds", "simulated_s"):
        found[name] = round(found[name], 1)
    return {"first_seed": start, "jobs": jobs, "seeds_a_second": round(report.seeds / report.seconds, 1), **found}


if __name__ == "__main__":
    raise SystemExit(main())
