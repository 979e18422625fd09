"""What do workers cost: the same comparison plain, with two processes, and on Ray with one, two and four nodes of this machine.

    OMP_NUM_THREADS=1 python benchmarks/ray_overhead.py --seeds 3 --epochs 40
    OMP_NUM_THREADS=1 python benchmarks/ray_overhead.py --json

Each way runs the same cells into a new folder, one way after the other; their rows, scores and students must be equal, or the
program fails. The figures are wall times as shares of the plain one's. On two cores more than two nodes cannot be faster: what
can be seen there is the overhead of processes and of Ray, not how many machines help. Clusters are started before the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from family_worlds import build_family_world, lend_student  # noqa: E402
from stepsynth.cli.comparing import compare_methods  # noqa: E402

METHODS = "gold,zerogen,s3"


def students(folder: Path) -> dict[str, str]:
    """Return the sha256 of all files of all students, by cell and round."""
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.glob("*/models/*/done.json"))}


def on_nodes(nodes: int, work: Callable[[str], float]) -> float:
    """Do work on a new cluster with a head that trains nothing and some nodes with a core each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1)
        return work(f"ray:{cluster.address}")
    finally:
        cluster.shutdown()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ.update(STEPSYNTH_ANSWERS="answers.db", RAY_USAGE_STATS_ENABLED="0")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        student = lend_student(place / "tiny")
        world = build_family_world(place / "world", "classification", validation=60, test=60, student=student)
        config = world.config(f"student.epochs={arguments.epochs}")
        first: list[dict[str, str]] = []

        def timed(way: str, **workers: Any) -> float:
            began = time.monotonic()
            folder = place / way
            compare_methods(config, METHODS, seeds=arguments.seeds, match="rows", folder=folder, quiet=True, **workers)
            seconds = time.monotonic() - began
            first.append(students(folder))
            assert first[-1] == first[0], f"{way} gave other students"
            return seconds

        found = {"plain": timed("plain"), "processes, 2": timed("processes", jobs=2)}
        for nodes in (1, 2, 4):
            found[f"ray, {nodes}"] = on_nodes(nodes, lambda on, nodes=nodes: timed(f"ray-{nodes}", on=on))  # type: ignore[misc]
    ways = {way: {"seconds": round(seconds, 1), "ratio": round(seconds / found["plain"], 2)} for way, seconds in found.items()}
    if arguments.json:
        print(json.dumps({"cores": os.cpu_count(), "students": len(first[0]), "ways": ways}, indent=1))
        return
    for way, entry in ways.items():
        print(f"{way:14} {entry['seconds']:8.1f} s  {entry['ratio']:.2f} of plain")


if __name__ == "__main__":
    main()
