"""What would a stronger teacher bring? Rows that larger models wrote for others, in the place of a teacher's.

    STEPSYNTH_DATA=FOLDER python benchmarks/published.py --seeds 0 1 2
    python benchmarks/published.py --table

Movie reviews (IMDb) from seven models (FuseGen; of GPT-4: WASP) and by GPT-3.5 from errors (S3); pairs of RTE (S3, SuperGen) and
QNLI (SuperGen). S3's rows come from errors on many more labelled rows than here. ``people`` is a teacher that is always right:
other rows of the training file with their labels. Written rows are drawn with the seed, evenly over the labels, after the rules
for rows that a user brings (no repeated texts, none from the labelled rows). Nothing else is dropped, so the models' refusals and
preambles are among them. ``labels shuffled`` are rows whose labels say nothing, as a control.

For every writer two students: one of its rows alone (100 optimiser steps), and one of its rows and then of the labels (50 steps
each); and a student of the labels alone (100). They are tested on the same 1,000 test rows (RTE: 277), and nothing is chosen by
their scores. One line per student in ``results/published.jsonl``; the same command goes on. In the table, intervals of one seed
compare two students, not two writers, and p-values are not corrected for the number of writers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.comparisons import packed, signed  # noqa: E402

from stepsynth.config import load_config  # noqa: E402
from stepsynth.data import load_source  # noqa: E402
from stepsynth.data.gold import load_validation  # noqa: E402
from stepsynth.data.splits import fingerprint  # noqa: E402
from stepsynth.evaluation.clusters import clusters_of  # noqa: E402
from stepsynth.evaluation.seeds import hierarchical_paired  # noqa: E402
from stepsynth.filters import FilterPipeline  # noqa: E402
from stepsynth.students.classifier import Classifier  # noqa: E402
from stepsynth.tasks import create_family  # noqa: E402
from stepsynth.types import Candidate, Example, GeneratedRow  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "published.jsonl"
PEOPLE = "people"
SHUFFLED = ", labels shuffled"
CONTROL = f"gpt2-xl (FuseGen){SHUFFLED}"
STEPS = 100
WAYS = ("both", "written")


@dataclass(frozen=True)
class Task:
    """A data set, and who wrote rows for it.

    Attributes:
        labelled: labelled rows.
        written: rows of each writer.
        writers: their files, in the order of the table.
    """

    labelled: int
    written: int
    writers: dict[str, tuple[str, ...]]


_FUSEGEN = (
    "gpt2-xl",
    "opt-6.7b",
    "flan-t5-xl",
    "llama-2-7b-chat-hf",
    "vicuna-7b-1.5v",
    "gpt-3.5-turbo-instruct",
)
TASKS = {
    "imdb": Task(
        60,
        160,
        {
            **{f"{name} (FuseGen)": (f"fusegen_imdb/{name}",) for name in _FUSEGEN},
            "gpt-4-turbo-preview (WASP)": ("fusegen_imdb/gpt-4-turbo-preview",),
            "gpt-3.5 from errors (S3)": ("s3_synth_imdb/additional_1", "s3_synth_imdb/additional_2"),
            CONTROL: ("fusegen_imdb/gpt2-xl",),
        },
    ),
    "rte": Task(
        300,
        600,
        {
            "ctrl (SuperGen)": ("supergen_rte/train",),
            "gpt-3.5 from errors (S3)": ("s3_synth_rte/additional_1", "s3_synth_rte/additional_2"),
        },
    ),
    "qnli": Task(300, 600, {"ctrl (SuperGen)": ("supergen_qnli/train",)}),
}


class Cell:
    """The labelled rows, written rows and test rows of a data set and seed."""

    def __init__(self, name: str, seed: int) -> None:
        self.task, self.seed = TASKS[name], seed
        # A pass over the rows is no more than the steps, so that these are the same for all.
        overrides = [f"seed={seed}", f"data.validation.sample={self.task.labelled}", "student.epochs=1", "method.name=crossfit"]
        self.config = load_config(ROOT / "examples" / f"{name}.yaml", overrides)
        self.family = create_family(self.config.task)
        validation = load_validation(self.config)
        self.gold = [*validation.harvest, *validation.select]
        assert self.config.data.test is not None
        self.test = load_source(self.config.data.test, self.config.task, role="test", seed=0)
        self._rows: dict[tuple[str, ...], list[Example]] = {}

    def written(self, files: Sequence[str]) -> list[Example]:
        """Return rows of a writer; without files, of people."""
        if tuple(files) not in self._rows:
            self._rows[tuple(files)] = self._drawn(files)
        return self._rows[tuple(files)]

    def _drawn(self, files: Sequence[str]) -> list[Example]:
        whole = self.config.data.validation.model_copy(update={"sample": None})
        if files:
            folder = Path(os.environ["STEPSYNTH_DATA"])
            sources = [whole.model_copy(update={"path": folder / f"{file}.jsonl.gz"}) for file in files]
        else:
            sources = [whole]
        known = {fingerprint(row) for row in self.gold}
        rows = [row for source in sources for row in load_source(source, self.config.task, role="written", seed=0)]
        candidates = [_candidate(place, row) for place, row in enumerate(rows) if fingerprint(row) not in known]
        kept = {v.candidate.row.position for v in FilterPipeline.for_given(self.gold).judge(candidates, []) if v.accepted}
        found: list[Example] = []
        for label in self.config.task.labels:
            own = [row for place, row in enumerate(rows) if place in kept and row.label == label]
            found += random.Random(f"{self.seed} {label}").sample(own, self.task.written // len(self.config.task.labels))
        return found

    def train(self, *parts: Sequence[Example]) -> dict[str, Any]:
        """Train a student, part by part, and test it."""
        started = time.monotonic()
        student = self.config.student.model_copy(update={"min_steps": STEPS // len(parts)})
        with tempfile.TemporaryDirectory() as name:
            start = None
            for place, rows in enumerate(parts):
                out = Path(name) / str(place)
                model = Classifier(student, self.family).fit(rows, [], seed=self.seed, out=out, start=start)
                start = out
            right = tuple(float(p.label == row.label) for p, row in zip(model.predict(self.test), self.test, strict=True))
        steps = STEPS // len(parts) * len(parts)
        found = {"steps": steps, "test": packed(right), "seconds": round(time.monotonic() - started)}
        # Rows that share a context are one cluster.
        return {**found, "clusters": list(clusters)} if (clusters := clusters_of(self.test)) else found


def _candidate(place: int, row: Example) -> Candidate:
    return Candidate(GeneratedRow("import", place, "", row.label, None, row.text, row.context, None))


def measure(
    name: str, seed: int, writers: Sequence[str], ways: Sequence[str], known: set[tuple[Any, ...]]
) -> Iterator[dict[str, Any]]:
    """Train and test what is missing of a data set and seed."""
    files = {**TASKS[name].writers, PEOPLE: ()}
    chosen = [writer for writer in files if not writers or writer in writers]
    wanted = [("", "labels"), *((writer, way) for writer in chosen for way in ways)]
    cell: Cell | None = None
    for writer, way in wanted:
        if (name, seed, writer, way) in known:
            continue
        cell = cell or Cell(name, seed)
        entry = {"data": name, "seed": seed, "writer": writer, "way": way, "labelled_rows": len(cell.gold)}
        rows = cell.written(files[writer]) if writer else []
        if writer.endswith(SHUFFLED):
            labels = random.Random(seed).sample([row.label for row in rows], len(rows))
            rows = [replace(row, label=label) for row, label in zip(rows, labels, strict=True)]
        parts = {"labels": [cell.gold], "both": [rows, cell.gold], "written": [rows]}[way]
        yield {**entry, "written_rows": len(rows), **cell.train(*parts)}


def print_table(lines: Sequence[dict[str, Any]]) -> None:
    """Print, by data set, what each writer's rows are worth: alone, and before the labels, in points over labels alone."""
    for name in dict.fromkeys(line["data"] for line in lines):
        tests = {(c["writer"], c["way"], c["seed"]): [float(v) for v in c["test"]] for c in lines if c["data"] == name}
        base = {seed: test for (_, way, seed), test in tests.items() if way == "labels"}
        alone = ", ".join(f"{100 * sum(test) / len(test):.1f}" for _, test in sorted(base.items()))
        clusters = next((c["clusters"] for c in lines if c["data"] == name and "clusters" in c), None)
        task = TASKS[name]
        print(f"\n{name}: {task.written} written rows and {task.labelled} labelled ones; labels alone {alone}\n")
        print("| rows of | written alone, minus labels (seeds) | then labels: seed by seed | minus labels [95 %] | p |")
        print("|---|---|---|---|---|")
        for writer in dict.fromkeys(writer for writer, _, _ in tests if writer):
            cells = [writer]
            for way in ("written", "both"):
                own = {seed: test for (who, how, seed), test in tests.items() if (who, how) == (writer, way) and seed in base}
                if not own:
                    cells += [""] * (1 if way == "written" else 3)
                    continue
                seeds = sorted(own)
                found = hierarchical_paired([own[seed] for seed in seeds], [base[seed] for seed in seeds], 0, clusters)
                points = {"value": 100 * found.difference, "ci95": [100 * end for end in found.ci95]}
                apart = [100 * (sum(own[s]) - sum(base[s])) / len(base[s]) for s in seeds]
                if way == "written":
                    cells.append(f"{signed(points)} ({len(seeds)})")
                else:
                    cells += [", ".join(f"{value:+.1f}" for value in apart), signed(points), f"{found.p_value:.3f}"]
            print(f"| {' | '.join(cells)} |")


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--writers", nargs="*", default=[], help="names as in the table; by default all")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="besides labels alone")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only print the tables")
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if options.table:
        print_table(lines)
        return
    writers = {PEOPLE, *(writer for name in options.data for writer in TASKS[name].writers)}
    if unknown := sorted(set(options.writers) - writers):
        parser.error(f"unknown writers: {', '.join(unknown)}; known: {', '.join(sorted(writers))}")
    if "STEPSYNTH_DATA" not in os.environ:
        parser.error("set STEPSYNTH_DATA to the folder with the data sets")
    known = {(line["data"], line["seed"], line["writer"], line["way"]) for line in lines}
    for seed in options.seeds:
        for name in options.data:
            for entry in measure(name, seed, options.writers, options.ways, known):
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
                right = 100 * sum(map(float, entry["test"])) / len(entry["test"])
                shown = {key: entry[key] for key in ("data", "seed", "writer", "way", "written_rows", "seconds")}
                print(f"{shown}: {right:.1f}", flush=True)


if __name__ == "__main__":
    main()
