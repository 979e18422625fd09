"""How fast, how large and how faithful exported students are: PyTorch, ONNX and OpenVINO, in float32 and int8.

    python benchmarks/serving.py --run RUN --run OTHER --repeats 3      # results/serving.json

Each run's final student is exported in every form into a temporary folder, without a limit for the loss. `predict` of each is
then timed on the run's test rows (or its gold rows), tokenisation included. The forms take turns (A B C, B C A, ...), so that a
machine that slows down slows all of them, and ratios are medians of the rounds. CPU seconds are given beside wall seconds:
on a machine that does other work, they say more, and also where one core is allowed: onnxruntime's threads choose their own
cores, so that only its CPU seconds count there. Runs are copied first, since even reading a journal writes beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stepsynth.exporting import agreement
from stepsynth.exporting.conversion import StudentExport, export_student
from stepsynth.exporting.loading import load_model
from stepsynth.run import RunDirectory
from stepsynth.run.existing import trained_round
from stepsynth.types import Example

ROOT = Path(__file__).resolve().parents[1]
FORMS = [(form, precision) for form in ("onnx", "openvino") for precision in ("fp32", "int8")]
TORCH = "torch fp32"
Clock = dict[str, list[float]]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def use_cores(count: int) -> None:
    """Let this thread, and those that it starts from now on, use so many cores."""
    import torch

    os.sched_setaffinity(0, set(sorted(CORES)[:count]))
    torch.set_num_threads(count)


CORES = os.sched_getaffinity(0)


def measure(
    opened: dict[str, Callable[[], Any]], rows: Sequence[Example], repeats: int, singles: int, cores: int
) -> dict[str, Any]:
    """Time every form on some cores."""
    use_cores(cores)
    models = {name: make() for name, make in opened.items()}
    names = list(models)
    walls: Clock = {name: [] for name in names}
    cpus: Clock = {name: [] for name in names}
    alone: Clock = {name: [] for name in names}
    for model in models.values():
        model.predict(rows[:4])
    for turn in range(repeats):
        for name in [*names[turn % len(names) :], *names[: turn % len(names)]]:
            wall, cpu = timed(lambda name=name: models[name].predict(rows))  # type: ignore[misc]
            walls[name].append(wall)
            cpus[name].append(cpu)
            share = max(1, singles // repeats)
            for row in rows[turn * share : (turn + 1) * share]:
                alone[name].append(timed(lambda name=name, row=row: models[name].predict([row]))[0])  # type: ignore[misc]
    use_cores(len(CORES))
    return {
        name: {
            "texts_per_second": round(len(rows) / statistics.median(walls[name]), 1),
            "times_torch": ratio(walls, name),
            "cpu_ms_per_text": round(1000 * statistics.median(cpus[name]) / len(rows), 3),
            "times_torch_cpu": ratio(cpus, name),
            "single_ms_p50": round(1000 * statistics.median(alone[name]), 2),
            "single_ms_p95": round(1000 * sorted(alone[name])[int(0.95 * (len(alone[name]) - 1))], 2),
        }
        for name in names
    }


def ratio(clock: Clock, name: str) -> float:
    """Return how many times as fast as PyTorch in the same turn."""
    return round(statistics.median(t / own for t, own in zip(clock[TORCH], clock[name], strict=True)), 2)


def described(found: StudentExport) -> dict[str, Any]:
    proof = found.agreement
    return {
        "megabytes": round(found.model_bytes / 1e6, 1),
        "rows": {split: part.rows for split, part in found.splits.items()},
        "same_answers": round(proof.same / proof.rows, 4),
        "furthest_probability": proof.furthest,
        "metric": proof.metric,
        "score": proof.exported,
        "score_torch": proof.torch,
        "points": round(100 * proof.difference.difference, 2),
        "points_ci95": [round(100 * bound, 2) for bound in proof.difference.ci95],
        "calibrated_on": found.calibrated_on,
    }


def measure_run(run: Path, args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "run"
        shutil.copytree(run, copy)
        directory = RunDirectory.read(copy)
        number = trained_round(directory)
        proof = agreement.proof_rows(directory, number)
        rows = list(proof.rows.get("test") or proof.examples)[: args.texts]
        forms, opened = {}, {TORCH: lambda: load_model(directory.config, directory.model_path(number))}
        for form, precision in FORMS:
            name, folder = f"{form} {precision}", Path(scratch) / f"{form}-{precision}"
            found = export_student(directory, folder, form, precision, max_loss=100)
            forms[name] = described(found)
            opened[name] = lambda folder=folder: load_model(directory.config, folder)  # type: ignore[misc]
            print(f"{run.parent.name}/{run.name}: {found}", flush=True)
        cores = {str(count): measure(opened, rows, args.repeats, args.singles, count) for count in (1, 2) if count <= len(CORES)}
    for count, table in cores.items():
        for name, told in table.items():
            print(f"{count} core(s)  {name:14} {json.dumps(told)}", flush=True)
    return {"run": f"{run.parent.name}/{run.name}", "texts": len(rows), "forms": forms, "cores": cores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, action="append", required=True, help="a run directory with a student")
    parser.add_argument("--texts", type=int, default=500, help="texts per timing")
    parser.add_argument("--rows", type=int, default=2000, help="test rows for accuracy and agreement, at most")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--singles", type=int, default=100, help="texts that are timed alone")
    parser.add_argument("--note", default="", help="a sentence about the machine, kept with the figures")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "serving.json")
    args = parser.parse_args()
    agreement.MOST_ROWS = args.rows
    results = []
    for run in args.run:
        results.append(measure_run(run, args))
        told = {"python": platform.python_version(), "cores": len(CORES), "repeats": args.repeats, "note": args.note}
        args.out.write_text(json.dumps({**told, "results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
