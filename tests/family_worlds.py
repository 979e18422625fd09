"""Small worlds of every task family: invented rows, a student of a few thousand weights, the fake teacher.

Run as a program it kills runs in such worlds and resumes them, in a process of its own::

    python tests/family_worlds.py COUNT FOLDER...   # one JSON list per folder: the calm run, then COUNT killed ones
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepsynth.methods import MethodContext
from stepsynth.prompts import Prompts
from stepsynth.run.data import RunData, load_run_data
from stepsynth.tasks import create_family, join_labels
from stepsynth.teachers.fake import gold_text, vocabulary
from stepsynth.types import Mistake
from tiny_model import build_tiny_model
from world import World

__all__ = [
    "FAMILIES",
    "FamilyWorld",
    "asked",
    "build_family_world",
    "lab_of",
    "lend_student",
    "read_lines",
    "rows_of",
    "write_lines",
]

FAMILIES = ("classification", "multi_label", "pair", "extractive_qa")
Row = dict[str, Any]

_TAGS = ("hot", "wet", "loud")
_SETS = ((), ("hot",), ("wet",), ("hot", "loud"), ("wet", "loud"))
_PLACES = ("Norvik", "Talma", "Brigen", "Osterby", "Kellmar")
_PEOPLE = ("Mara Lind", "Piet Oster", "Ina Falk", "Jon Berg")
_TASKS: dict[str, Row] = {
    "classification": {"labels": {"kalm": "about kalm", "spitz": "about spitz"}},
    "multi_label": {"family": "multi_label", "labels": {tag: f"about {tag}" for tag in _TAGS}},
    "pair": {
        "family": "pair",
        "labels": {"follows": "the note says it", "other": "the note does not say it"},
        "fields": {"text1": {"name": "note", "context": True}, "text2": {"name": "claim"}},
    },
    "extractive_qa": {"family": "extractive_qa", "text_kind": "note from a harbour"},
}


def _note(number: int) -> str:
    place, person = _PLACES[number % len(_PLACES)], _PEOPLE[number % len(_PEOPLE)]
    return f"In {1900 + number} the harbour of {place} sold {3 + number} boats to {person} and the mill stayed open."


def _question_row(number: int, note: str) -> Row:
    answer, asks = (
        (_PEOPLE[number % len(_PEOPLE)], "Who bought the boats that the harbour sold"),
        (_PLACES[number % len(_PLACES)], "Which harbour sold boats while the mill stayed open"),
        (f"{3 + number} boats", "What did the harbour sell to someone"),
    )[number % 3]
    return {
        "context": note,
        "question": f"{asks} in note {number}?",
        "answers": {"text": [answer], "answer_start": [note.index(answer)]},
    }


def rows_of(family: str, count: int, first: int = 0) -> list[Row]:
    """Return ``count`` rows of a family; rows of different ``first`` share no text and no context."""
    numbers = range(first, first + count)
    if family == "classification":
        labels = list(_TASKS[family]["labels"])
        return [{"text": gold_text(label, i), "label": label} for i in numbers for label in [labels[i % len(labels)]]]
    if family == "multi_label":
        return [
            {"text": gold_text("|".join(tags) or "none", i), "labels": list(tags)} for i in numbers for tags in [_SETS[i % 5]]
        ]
    if family == "pair":
        labels = list(_TASKS[family]["labels"])
        return [{"text1": _note(i), "text2": gold_text(labels[i % 2], i), "label": labels[i % 2]} for i in numbers]
    return [_question_row(i, _note(i)) for i in numbers]


def write_lines(path: Path, rows: list[Row]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[Row]:
    """Return the rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True)
class FamilyWorld(World):
    """A `World` of any family; its rows are JSON lines."""

    family: str = "classification"

    def write_config(self, changes: dict[str, Any] | None = None) -> Path:
        """Write the config; a changed key that is ``None`` is left out."""
        values: Row = {
            "task": {"name": f"invented-{self.family}", "instruction": "Decide.", **_TASKS[self.family]},
            "data": {"validation": {"path": "validation.jsonl"}, "test": {"path": "test.jsonl"}},
            "teacher": {"backend": "fake", "model": "fake"},
            "student": {
                "model": str(self.folder / "student"),
                "epochs": 2,
                "min_steps": 0,
                "batch_size": 8,
                # Slow enough that it still errs after every round; where an answer stands is learned first.
                "learning_rate": 1e-3 if self.family == "extractive_qa" else 3e-3,
                "max_length": 48,
                "stride": 8,
            },
            "method": {"name": "s3", "seed_rows": 12, "rounds": 1, "rows_per_mistake": 1, "rationales": 3, "label_check": "none"},
        }
        for dotted, value in (changes or {}).items():
            *parents, last = dotted.split(".")
            node = values
            for parent in parents:
                node = node.setdefault(parent, {})
            if value is None:
                node.pop(last, None)
            else:
                node[last] = value
        # JSON is YAML.
        self.config_path.write_text(json.dumps(values, indent=1), encoding="utf-8")
        return self.config_path

    def write_rows(self, name: str, rows: list[Row]) -> Path:
        """Write rows beside the config."""
        return write_lines(self.folder / name, rows)


def lend_student(folder: Path, *, spread: float = 0.02) -> Path:
    """Build one student that knows the words of all families."""
    words = ["Who Which What In the a to and in of note that someone while did ? . in sell bought"]
    for family in FAMILIES:
        words += [text for row in rows_of(family, 30) for text in row.values() if isinstance(text, str)]
    for label in ("kalm", "spitz", "follows", "other", *(join_labels(tags, _TAGS) for tags in _SETS if tags)):
        words += vocabulary(label)
    return build_tiny_model(folder, words, spread=spread)


def build_family_world(
    folder: Path, family: str, *, validation: int = 20, test: int = 10, student: Path | None = None, **changes: Any
) -> FamilyWorld:
    """Write rows, student and config of a family into ``folder``.

    Args:
        folder: made if it does not exist.
        family: one of `FAMILIES`.
        validation: validation rows.
        test: test rows.
        student: from `lend_student`, in place of one in the folder.
        changes: config keys, ``__`` in the place of a dot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    world = FamilyWorld(folder, family)
    world.write_rows("validation.jsonl", rows_of(family, validation))
    world.write_rows("test.jsonl", rows_of(family, test, 500))
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    world.write_config({"student.model": str(student or lend_student(folder / "student")), **dotted})
    return world


def lab_of(world: World, *overrides: str, wrong: int | None = None) -> tuple[MethodContext, RunData]:
    """Return what a method may look at, with invented reasons and the first ``wrong`` harvest rows as mistakes."""
    config = world.config(*overrides)
    inputs = load_run_data(config)
    harvest = inputs.validation.harvest
    reasons = {label: [f"reason {n} for {label or 'any'}" for n in range(5)] for label in config.task.labels or [""]}
    mistakes = [Mistake(example, "wrong", 0.9) for example in harvest[:wrong]]
    prompts, family = Prompts(config.task), create_family(config.task)
    return MethodContext(config, prompts, family, harvest, inputs.contexts, lambda: reasons, lambda _: mistakes), inputs


def asked(folder: Path) -> list[str]:
    """Return every request that a run's journal holds, as its JSON."""
    with closing(sqlite3.connect(folder / "journal.db")) as connection:
        return [text for (text,) in connection.execute("SELECT request FROM answers ORDER BY key")]


def main() -> None:
    """Kill runs at places spread over their fail points; see the module's docstring."""
    import warnings

    from kill_harness import killed_and_resumed, prepare

    warnings.simplefilter("error")
    count, *folders = sys.argv[1:]
    prepare()
    for folder in map(Path, folders):
        world = World(folder)
        calm = killed_and_resumed(world, folder / "kills", -1)
        places = len(calm["passed"])
        points = sorted({1 + round(n * (places - 1) / (int(count) - 1)) for n in range(int(count))})
        outcomes = [calm, *(killed_and_resumed(world, folder / "kills", point) for point in points)]
        sys.stdout.write(json.dumps(outcomes) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
