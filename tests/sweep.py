"""Runs the tests marked ``learns`` over seeds, threads and instruction sets, and says how near to failing each came.

    python tests/sweep.py [TEST ...] [--seeds 10] [--threads 1 2] [--isa default avx2] [--slow] [--save FILE]

A test that stands on one machine's rounding passes where it was written and fails elsewhere; another seed,
another number of threads or narrower instructions show that here. Every pass is a process of its own. What it
found is added to ``--out`` when it ends, so that a sweep that was stopped goes on; after a change of the
code or the tests it begins anew. Ends with 1 if a test failed anywhere.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from conditions import LOG_VARIABLE, SEED_VARIABLE, THREADS_VARIABLE

ROOT = Path(__file__).parents[1]
# What torch, oneDNN and MKL may use at most; "any" is what the processor has.
LIMITS: dict[str, dict[str, str]] = {
    "default": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "MKL_CBWR": "COMPATIBLE",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "MKL_CBWR": "AVX2",
    },
    "any": {},
}
Row = dict[str, Any]


def marked_files() -> list[str]:
    """Return the test files with a marked test: collecting the others would take longer than the tests."""
    files = (ROOT / "tests").rglob("test_*.py")
    return sorted(str(path.relative_to(ROOT)) for path in files if "mark.learns" in path.read_text(encoding="utf-8"))


def state() -> str:
    """Return a digest of what the outcome rests on."""
    files = sorted({*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), ROOT / "constraints.txt"})
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def one_pass(condition: Row, tests: list[str], slow: bool) -> Row:
    """Run the marked tests once; return what they recorded and which of them failed."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as log:
        seed, threads = str(condition["seed"]), str(condition["threads"])
        environment = {**os.environ, **LIMITS[condition["isa"]], LOG_VARIABLE: log.name}
        environment |= {SEED_VARIABLE: seed, THREADS_VARIABLE: threads, "OMP_NUM_THREADS": threads}
        if slow:
            # OpenVINO reads it too, goes by the processor all the same, and finds nothing that it may run.
            environment.pop("ONEDNN_MAX_CPU_ISA", None)
        # Threads that wait busily take the time of whatever else runs here.
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        marker = "learns and slow" if slow else "learns and not slow"
        command = [sys.executable, "-m", "pytest", "-m", marker, "-rfE", "--tb=line", *tests]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        margins = [json.loads(line) for line in Path(log.name).read_text(encoding="utf-8").splitlines()]
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return {"condition": condition, "failed": failed, "margins": margins}


def passes(conditions: list[Row], tests: list[str], slow: bool, out: Path) -> Iterator[Row]:
    """Yield every pass, those that an earlier sweep of the same code made included."""
    kind, known = {"state": state(), "tests": tests, "slow": slow}, dict[str, Row]()
    if out.exists():
        lines = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        known = {json.dumps(line["condition"]): line for line in lines if kind.items() <= line.items()}
    for condition in conditions:
        found = known.get(json.dumps(condition))
        if found is None:
            found = {**kind, **one_pass(condition, tests, slow)}
            out.parent.mkdir(parents=True, exist_ok=True)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
        told = f"{len(found['margins'])} margins, {len(found['failed'])} failed"
        print(" ".join(f"{key} {value}" for key, value in condition.items()), told, sep=": ", flush=True)
        yield found


def table(found: list[Row]) -> list[Row]:
    """Return for every threshold the value that came nearest to it."""
    worst: dict[tuple[str, str], Row] = {}
    for entry in (entry for each in found for entry in each["margins"]):
        sign = 1 if entry["side"] == "above" else -1
        entry = {**entry, "margin": round(sign * (entry["value"] - entry["threshold"]), 6)}
        key = (entry["test"], entry["what"])
        kept = worst.setdefault(key, {**entry, "passes": 0})
        if entry["margin"] < kept["margin"]:
            kept |= entry
        kept["passes"] += 1
    return [worst[key] for key in sorted(worst)]


def processor() -> str:
    """Return the processor's name where the system tells it."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    """Sweep, print the table, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", nargs="*", help="files or node ids; all that hold a marked test when left out")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--isa", nargs="+", choices=LIMITS, default=["default", "avx2"])
    parser.add_argument("--slow", action="store_true", help="the slow tests in place of the quick ones")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "sweep.jsonl", help="where passes are kept")
    parser.add_argument("--save", type=Path, help="write the table as JSON, too")
    options = parser.parse_args()
    axes = product(range(options.seeds), options.threads, options.isa)
    conditions = [{"seed": seed, "threads": threads, "isa": isa} for seed, threads, isa in axes]
    found = list(passes(conditions, options.tests or marked_files(), options.slow, options.out))
    rows = table(found)
    print()
    for row in rows:
        name = f"{row['test'].partition('::')[2]} {row['what']}".strip()
        print(f"{row['margin']:+10.4f}  {row['value']:.4f} {row['side']} {row['threshold']:g}  {name}")
    failed = sorted({line for each in found for line in each["failed"]})
    print(f"\n{len(found)} passes, {len(failed)} tests failed somewhere", *failed, sep="\n  ")
    if options.save:
        head = {name: getattr(options, name) for name in ("seeds", "threads", "isa", "slow")} | {"machine": processor()}
        options.save.write_text(json.dumps({**head, "failed": failed, "margins": rows}, indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
