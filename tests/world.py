"""A small world to run in: invented gold data, a student of a few thousand weights, the fake teacher."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepsynth.config import RunConfig, load_config
from stepsynth.teachers.fake import gold_text, vocabulary
from tiny_model import build_tiny_model

__all__ = ["LABELS", "World", "build_world"]

LABELS = ("kalm", "rund", "spitz")
_FILLER = "a the this that every some one another our their while after before during with without about around near over under"


@dataclass(frozen=True)
class World:
    """Where a test's data, student and config are."""

    folder: Path

    @property
    def config_path(self) -> Path:
        return self.folder / "config.yaml"

    def config(self, *overrides: str) -> RunConfig:
        return load_config(self.config_path, list(overrides))

    def write_csv(self, name: str, rows: list[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> Path:
        path = self.folder / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    def write_config(self, changes: dict[str, Any] | None = None) -> Path:
        import yaml

        values: dict[str, Any] = {
            "task": {
                "name": "invented",
                "instruction": "Decide what kind of text this is.",
                "labels": {label: f"about {label}" for label in LABELS},
            },
            "data": {"validation": {"path": "validation.csv"}, "test": {"path": "test.csv"}},
            "teacher": {"backend": "fake", "model": "fake"},
            "student": {
                "model": str(self.folder / "student"),
                "epochs": 2,
                "min_steps": 0,
                "batch_size": 16,
                "learning_rate": 3e-3,
                "max_length": 32,
            },
            "method": {"name": "s3", "seed_rows": 30, "rounds": 2, "rows_per_mistake": 1, "rationales": 4, "label_check": "none"},
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
        self.config_path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return self.config_path


def gold_rows(count: int, first: int) -> list[tuple[str, str]]:
    """Return ``count`` rows per label; rows of different ``first`` do not meet."""
    return [(gold_text(label, first + number), label) for number in range(count) for label in LABELS]


def build_world(folder: Path, *, validation: int = 12, test: int = 10) -> World:
    """Write data, student and config into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    world = World(folder)
    world.write_csv("validation.csv", gold_rows(validation, 0))
    world.write_csv("test.csv", gold_rows(test, 1000))
    build_tiny_model(folder / "student", [*_FILLER.split(), *(word for label in LABELS for word in vocabulary(label))])
    world.write_config()
    return world
