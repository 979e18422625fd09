"""A task in front of a server: stages are written through real HTTP, and no student is trained."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopback import LoopbackServer, completion
from stepsynth.config import RunConfig, parse_config
from stepsynth.filters import FilterPipeline
from stepsynth.generation import StageGenerator, TeacherClient
from stepsynth.journal import AnswerStore, Journal, Row
from stepsynth.methods import MethodContext, create_method
from stepsynth.prompts import Prompts
from stepsynth.runtime.progress import SilentProgress
from stepsynth.tasks import create_family
from stepsynth.types import Example

__all__ = ["GOLD", "Written", "run_values", "ship_text", "thinking", "whole", "write"]

_SHIPS = ["ferry", "barge", "tanker", "trawler", "sloop", "ketch", "cutter", "dinghy", "liner", "tugboat", "schooner", "canoe"]
_PLACES = ["harbour", "lock", "pier", "canal", "dock", "strait", "lagoon", "quay", "river", "estuary", "bay", "shipyard"]
_FAULTS = [
    "leaks badly",
    "will not start",
    "lost its anchor",
    "hit the wall",
    "came in late",
    "has no crew",
    "burns too much oil",
    "needs paint",
]
GOLD = [
    Example(f"gold-{i}", f"the {ship} at the pier number {i} {fault}", ("engine", "hull")[i % 2])
    for i, (ship, fault) in enumerate(zip(_SHIPS, [*_FAULTS, *_FAULTS[:4]], strict=True))
]


def ship_text(body: dict[str, Any]) -> str:
    """Return a sentence that depends on the last message and the seed."""
    draw = random.Random(f"{body['messages'][-1]['content']}{body.get('seed', 0)}")
    when = draw.choice(["again", "today", "now"])
    return f"The {draw.choice(_SHIPS)} near the {draw.choice(_PLACES)} {draw.choice(_FAULTS)} {when}."


def run_values(server: LoopbackServer, **teacher: Any) -> dict[str, Any]:
    """Return a config's plain values; its files need not exist."""
    return {
        "task": {"name": "ships", "instruction": "Decide what is broken.", "labels": {"engine": "it moves", "hull": "it floats"}},
        "data": {"validation": {"path": "none.csv"}},
        "teacher": {"backend": "openai", "model": "loopback", "base_url": server.base_url, "concurrency": 4, **teacher},
        "method": {"name": "seed-only", "seed_rows": 8, "rationales": 4, "label_check": "none"},
        "cache": None,
    }


@dataclass
class Written:
    """What became of the stages.

    Attributes:
        rows: all planned rows.
        notes: what the user was told.
        lines: the stages' last lines.
        infos: what the journal notes of each stage.
    """

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    infos: list[dict[str, Any]] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        return [row.text for row in self.rows if row.kind == "rationales" and not row.reason]

    @property
    def texts(self) -> list[str]:
        return [row.text for row in self.rows if row.kind != "rationales" and not row.reason]


class _Lines(SilentProgress):
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def finish(self, summary: str) -> None:
        self.lines.append(summary)


def write(
    values: dict[str, Any], journal_path: Path, *, shared: Path | None = None, pause: Callable[[float], object] | None = None
) -> Written:
    """Write the stages of round 0 and return what came of them."""
    config: RunConfig = parse_config(values)
    found = Written()
    store = AnswerStore.shared(shared) if shared else None
    with closing(Journal(journal_path, store)) as journal:
        client = TeacherClient(config.teacher, journal, config.budget, note=found.notes.append, pause=pause or (lambda _: None))
        generator = StageGenerator(
            client, journal, max_overgeneration=config.method.max_overgeneration, progress=_Lines(found.lines)
        )

        def reasons() -> dict[str, list[str]]:
            kept = journal.rows(stage="round-0/rationales", accepted=True)
            return {label: [row.text for row in kept if row.label == label] for label in config.task.labels}

        ctx = MethodContext(config, Prompts(config.task), create_family(config.task), GOLD, [], reasons, lambda _: [])
        for plan in create_method(config).plans(0, ctx):
            rules = FilterPipeline.for_rationales(plan.targets)
            if plan.kind != "rationales":
                rules = FilterPipeline.for_rows(config.task, GOLD, GOLD, plan.targets)
            generator.run(plan, 0, rules, [])
        found.rows = journal.rows()
        found.infos = [info for _, _, _, info, _ in journal.stages()]
    return found


def thinking(think: Callable[[str, dict[str, Any]], str | dict[str, Any]]) -> Callable[[dict[str, Any]], str | dict[str, Any]]:
    """Return a server's answer made of its text and the request's body."""
    return lambda body: think(ship_text(body), body)


def whole(text: str | None, body: dict[str, Any], finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    """Return a completion with further fields in its message."""
    found = completion(text or "", body, finish or "stop")
    found["choices"][0]["message"] |= {"content": text, **message}
    found["choices"][0]["finish_reason"] = finish
    return found
