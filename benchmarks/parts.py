"""What would a million rows take: each thing that is done to rows, measured with some thousand of them.

    python benchmarks/parts.py --rows 20000 --read 2000          # all parts, each in a process of its own with one thread
    OMP_NUM_THREADS=1 python benchmarks/parts.py --one predict --rows 16384 --jobs 2

The parts: rules, near-duplicates, label check, figures of the gap, embeddings, predictions. The hours for a million rows are
extrapolated from CPU seconds, see ``GROWTH``. All parts with the numbers above take some minutes; nothing is printed before the
end. Results: ``benchmarks/results/scale-parts.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.scale import config  # noqa: E402

from stepsynth.config import RunConfig, parse_config  # noqa: E402
from stepsynth.journal import Journal  # noqa: E402
from stepsynth.tasks import create_family  # noqa: E402
from stepsynth.types import Candidate, Example, Message, Request, Sampling, Verdict  # noqa: E402

__all__ = ["measure_part", "measure_parts"]

RESULTS = ROOT / "benchmarks" / "results" / "scale-parts.json"
MILLION = 1_000_000
BASE = "minilm-l6"


class Spent(NamedTuple):
    """Seconds by the clock, and of the processors."""

    wall: float
    cpu: float


def prose(count: int, seed: int = 0) -> list[str]:
    """Return texts of 12 to 22 words, in runs of the words of this project's own pages, so trigrams are those of English."""
    words = [word for page in sorted((ROOT / "docs").glob("*.md")) for word in re.findall(r"[A-Za-z']{2,}", page.read_text())]
    random, found = Random(seed), list[str]()
    while len(found) < count:
        runs = [(random.randrange(len(words) - 12), random.randrange(6, 12)) for _ in range(2)]
        found.append(" ".join(word for start, length in runs for word in words[start : start + length]))
    # Every tenth one is an earlier one with another last word.
    for place in range(10, count, 10):
        found[place] = " ".join([*found[place // 2 + 1].split()[:-1], words[place % len(words)]])
    return found


def examples(count: int) -> list[Example]:
    """Return rows of two labels."""
    return [Example(f"row-{place}", text, "ab"[place % 2]) for place, text in enumerate(prose(count))]


def student_config() -> RunConfig:
    """Return a config with the default base model."""
    values = config(None, 1).model_dump(mode="json", exclude_unset=True)
    return parse_config({**values, "student": {"model": BASE, "epochs": 1, "min_steps": 0}})


def trained_student(folder: Path) -> Path:
    """Train a student on a few rows: its predictions take as long as those of a good one."""
    from stepsynth.exporting.student import CONFIG_FILE
    from stepsynth.students import create_student

    found, out = student_config(), folder / "student"
    out.mkdir()
    create_student(found).fit(examples(16), (), seed=0, out=out)
    (out / CONFIG_FILE).write_text(json.dumps({"stepsynth": "", "config": found.resolved()}))
    return out


def part_rules(count: int) -> Spent:
    """Judge rows by the rules for training rows."""
    from stepsynth.filters import FilterPipeline

    found, gold = config(None, 1), examples(200)
    texts = prose(count, seed=1)
    messages = (Message("user", "Write a text."),)
    candidates = [
        Candidate.of(Request(messages, Sampling(), 0, "round-0/seed", place, "ab"[place % 2]), f"{place:064}", f"{text}.")
        for place, text in enumerate(texts)
    ]
    rules = FilterPipeline.for_rows(found.task, gold, gold, {"a": count, "b": count})
    return timed(lambda: rules.judge(candidates, []))


def part_near_duplicates(count: int) -> Spent:
    """Judge waves of 2,000 rows, each beside all that were accepted before."""
    from stepsynth.near_duplicates import NearDuplicates

    texts, wave = prose(count), 2000
    groups = [("ab"[place % 2],) for place in range(count)]

    def judge() -> None:
        seen = NearDuplicates(0.8)
        for start in range(0, count, wave):
            part, own = texts[start : start + wave], groups[start : start + wave]
            kept = [place for place, near in enumerate(seen.judge(part, own)) if not near]
            seen.add([part[place] for place in kept], [own[place] for place in kept])

    return timed(judge)


def part_embeddings(count: int) -> Spent:
    """Read rows with the student's base model."""
    from stepsynth.students.probe import FrozenEncoder

    found, rows = student_config(), examples(count)
    encoder = FrozenEncoder(found.student, create_family(found.task))
    encoder.features(rows[:64])
    return timed(lambda: encoder.features(rows))


def part_label_check(count: int) -> Spent:
    """Have a probe of 200 gold rows judge rows, in waves of 2,000."""
    from stepsynth.students.probe import LinearProbe

    found, rows, wave = student_config(), examples(count), 2000
    probe = LinearProbe(found.student, create_family(found.task), examples(200))
    return timed(lambda: [probe.probabilities(rows[start : start + wave]) for start in range(0, count, wave)])


def part_gap(count: int) -> Spent:
    """Compare the written rows of a run with 500 gold rows."""
    from stepsynth.training.gap import find_gap

    found = student_config()
    messages = (Message("user", "Write a text."),)
    with tempfile.TemporaryDirectory() as name, closing(Journal(Path(name) / "journal.db")) as journal:
        gold = [Example(f"gold-{place}", text, "ab"[place % 2]) for place, text in enumerate(prose(500, seed=2))]
        journal.start({"validation_sha256": "x"}, {"harvest": gold[:250], "select": gold[250:]})
        written = [
            Verdict(Candidate.of(Request(messages, Sampling(), 0, "round-0/seed", place, row.label), f"{place:064}", row.text))
            for place, row in enumerate(examples(count))
        ]
        journal.finish_stage("round-0/seed", 0, "seed", written, {"targets": {}, "missing": {}}, 0.0)
        return timed(lambda: find_gap(journal, found))


def part_judging(count: int) -> Spent:
    """Have a student predict a list of rows, as a pool is judged."""
    from stepsynth.exporting.loading import load_model

    rows = examples(count)
    with tempfile.TemporaryDirectory() as name:
        model = load_model(student_config(), trained_student(Path(name)))
        model.predict(rows[:64])
        return timed(lambda: model.predict(rows))


def part_predict(count: int, jobs: int = 1) -> Spent:
    """Run ``stepsynth predict`` on a CSV file, from start to end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        student = trained_student(folder)
        (folder / "new.csv").write_text("text\n" + "".join(f"{text}\n" for text in prose(count)))
        command = [sys.executable, "-m", "stepsynth", "predict", str(student), str(folder / "new.csv"), "--jobs", str(jobs)]
        command += ["--out", str(folder / "out.csv")]
        return timed(lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL))


PARTS: dict[str, Callable[..., Spent]] = {
    "rules": part_rules,
    "near-duplicates": part_near_duplicates,
    "embeddings": part_embeddings,
    "label-check": part_label_check,
    "gap": part_gap,
    "judging": part_judging,
    "predict": part_predict,
}
NETWORK = ("embeddings", "label-check", "judging", "predict")
# How a part's time grows with its rows. Near duplicates: every text beside every earlier one; the figures of a gap: the same
# 1,000 rows are compared, however many there are; a command imports libraries first.
GROWTH = {"near-duplicates": "quadratic", "gap": "constant", "predict": "start-up"}


def timed(work: Callable[[], object]) -> Spent:
    """Return the seconds of a call, and those of the processors, also of processes that ended in it."""

    def busy() -> float:
        found = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(use.ru_utime + use.ru_stime for use in found)

    started, before = time.perf_counter(), busy()
    work()
    return Spent(time.perf_counter() - started, busy() - before)


def measure_part(name: str, count: int, jobs: int = 1) -> dict[str, Any]:
    """Measure one part of what happens to rows.

    Args:
        name: one of ``PARTS``.
        count: rows.
        jobs: for ``predict``.

    Returns:
        Among others ``seconds`` by the clock and ``cpu_seconds``, which other work on the machine changes little.
    """
    spent = PARTS[name](count, **({"jobs": jobs} if name == "predict" else {}))
    said = {"part": name, "rows": count, "jobs": jobs, "threads": os.environ.get("OMP_NUM_THREADS", "")}
    said |= {"seconds": round(spent.wall, 2), "cpu_seconds": round(spent.cpu, 2)}
    return said | {"load": [round(load, 1) for load in os.getloadavg()[:2]]}


def measure_parts(rows: int, read: int) -> dict[str, Any]:
    """Measure every part in a process of its own with one thread, and say what a million rows would take.

    Args:
        rows: for parts without a network.
        read: for those whose rows a network reads.
    """
    # Two sizes where time does not grow in proportion.
    sizes = [("near-duplicates", 3 * rows), ("predict", 16)]
    sizes += [(name, read if name in NETWORK else rows) for name in PARTS]
    parts = [apart(name, count) for name, count in sizes]
    return {"cores": os.cpu_count(), "base": BASE, "parts": parts, "cpu_hours_for_a_million": hours(parts)}


def hours(parts: list[dict[str, Any]]) -> dict[str, float]:
    """Return the hours of one core that a million rows would take: in proportion, unless `GROWTH` says otherwise."""
    said = {}
    for name in PARTS:
        sizes = sorted((part["rows"], part["cpu_seconds"]) for part in parts if part["part"] == name)
        (x, y), (u, v) = sizes[0], sizes[-1]
        match GROWTH.get(name):
            case "constant":
                seconds = v
            case "start-up":
                # a + b * rows
                seconds = y + (v - y) / (u - x) * (MILLION - x)
            case "quadratic":
                # a * rows + b * rows ** 2
                square = max(0.0, (v / u - y / x) / (u - x))
                seconds = (y / x - square * x) * MILLION + square * MILLION**2
            case _:
                seconds = v * MILLION / u
        said[name] = round(seconds / 3600, 3)
    return said


def apart(name: str, count: int) -> dict[str, Any]:
    """Measure one part in a process of its own with one thread."""
    command = [sys.executable, __file__, "--one", name, "--rows", str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", choices=list(PARTS), help="this part alone, in this process")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--read", type=int, default=4000, help="rows that a network reads, when all parts are measured")
    parser.add_argument("--jobs", type=int, default=1, help="for predict")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure_part(options.one, options.rows, options.jobs)))
        return
    found = measure_parts(options.rows, options.read)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
