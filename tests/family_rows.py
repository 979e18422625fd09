"""Invented rows of every task family, written in every format that is read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepsynth.config import RunConfig, parse_config

__all__ = ["PAIR", "PAIR_ROWS", "QA", "QA_ROWS", "TAGS", "TAG_ROWS", "Row", "run_config", "write_rows"]

Row = dict[str, Any]

PAIR: Row = {
    "family": "pair",
    "name": "follows",
    "instruction": "Say whether the claim follows.",
    "labels": ["yes", "no"],
    "fields": {"text1": {"name": "note", "context": True}, "text2": {"name": "claim"}},
}
QA: Row = {"family": "extractive_qa", "name": "ask", "instruction": "Answer from the note."}
TAGS: Row = {"family": "multi_label", "name": "tags", "instruction": "Name all that holds.", "labels": ["warm", "wet", "windy"]}

PAIR_ROWS: list[Row] = [
    {"text1": f"note {i // 2} tells of a boat", "text2": f"claim {i} tells of a boat", "label": ("yes", "no")[i % 2]}
    for i in range(16)
]
QA_ROWS: list[Row] = [
    {
        "context": f"Boat {i // 2} left port {i // 2} at dawn.",
        "question": f"What left, asked the {i}th time?",
        "answers": {"text": [f"Boat {i // 2}"], "answer_start": [0]},
    }
    for i in range(12)
]
_SETS = [[], ["warm"], ["wet"], ["windy", "wet"], ["warm", "windy"]]
TAG_ROWS: list[Row] = [{"text": f"day {i} at the coast", "labels": _SETS[i % 5]} for i in range(20)]


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows as the suffix says; a CSV cell holds lists joined by ``|`` and mappings as JSON."""
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
        return path
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([[_cell(value) for value in row.values()] for row in rows])
    path.write_text(out.getvalue(), encoding="utf-8")
    return path


def _cell(value: object) -> str:
    if isinstance(value, list):
        return "|".join(value)
    return json.dumps(value) if isinstance(value, dict) else "" if value is None else str(value)


def run_config(task: Row, validation: Path, *, seed: int = 0, **data: Any) -> RunConfig:
    """Return a config of a family with its validation rows at a path; ``source__x`` sets a key of their source."""
    source = {key.removeprefix("source__"): data.pop(key) for key in list(data) if key.startswith("source__")}
    return parse_config({"task": task, "data": {"validation": {"path": str(validation), **source}, **data}, "seed": seed})
