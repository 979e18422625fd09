"""stepsynth by the way that its runs take: generator, client, journal, parsing and filters.

A plan of n rows, six labels in turn, goes through `Generator`: look-up in the journal and in the
answers shared between runs, the ``openai`` teacher, commits (synchronous=FULL) before anything is
parsed, cleaning, the filters of `FilterPipeline.for_rows` with the shipped example's gold rows, and one
transaction with all rows. Another n, limit or prompt is another run directory beside the same
shared answers, as it is for ``stepsynth run``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.clients.common import MODEL, Job, run

from stepsynth import __version__
from stepsynth.config import BudgetConfig, RunConfig, load_config
from stepsynth.data import load_validation
from stepsynth.errors import TeacherError
from stepsynth.filters import FilterPipeline
from stepsynth.generation import StageGenerator, TeacherClient
from stepsynth.journal import AnswerStore, Journal
from stepsynth.runtime.progress import SilentProgress
from stepsynth.types import Message, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONFIG = Path(__file__).resolve().parents[2] / "examples" / "shop" / "config.yaml"
# Without --complete: n requests and no more, like every other client.
_NO_SPARES = 1.0


@dataclass(frozen=True)
class RowPlan:
    """A `stepsynth.methods.Plan` with the benchmark's prompts; row i has label i modulo the labels."""

    job: Job
    config: RunConfig
    stage: str = "round-0/zerogen"
    kind: str = "zerogen"

    @property
    def targets(self) -> Mapping[str, int]:
        """Return how many of the n rows each label has."""
        labels = list(self.config.task.labels)
        return {label: len(range(place, self.job.n, len(labels))) for place, label in enumerate(labels)}

    def row(self, label: str, number: int) -> int:
        """Return the row's number among all."""
        labels = list(self.config.task.labels)
        return number * len(labels) + labels.index(label)

    def request(self, label: str, number: int, index: int) -> Request:
        """Ask for one row."""
        row = self.row(label, number)
        system, user = self.job.prompts(row)
        messages = (Message("system", system), Message("user", user))
        return Request(messages, self.config.teacher.sampling.frozen(), row, self.stage, index, label)


def configured(job: Job) -> RunConfig:
    """Return the shipped example's config, its teacher behind the benchmark's server."""
    teacher = {"backend": "openai", "model": MODEL, "base_url": job.base_url, "concurrency": job.concurrency}
    changes = {f"teacher.{name}": value for name, value in teacher.items()}
    changes |= {"teacher.sampling.max_tokens": job.max_tokens, "method.name": "zerogen", "method.seed_rows": max(job.n, 6)}
    return load_config(_CONFIG, [f"{name}={value}" for name, value in changes.items()])


def work(job: Job) -> dict[int, str | None]:
    """Return row -> text of the accepted rows."""
    config = configured(job)
    name = hashlib.sha256(repr((job.n, job.max_tokens, job.style, job.complete)).encode()).hexdigest()[:12]
    folder = job.state / name
    folder.mkdir(exist_ok=True)
    journal = Journal(folder / "journal.db", AnswerStore.shared(job.state / "answers.db"))
    validation = load_validation(config)
    client = TeacherClient(config.teacher, journal, BudgetConfig())
    spares = config.method.max_overgeneration if job.complete else _NO_SPARES
    generator = StageGenerator(client, journal, max_overgeneration=spares, progress=SilentProgress())
    plan = RowPlan(job, config)
    gold = [*validation.harvest, *validation.select]
    pipeline = FilterPipeline.for_rows(config.task, gold, validation.harvest, plan.targets)
    try:
        generator.run(plan, 0, pipeline, [])
    except TeacherError as error:
        raise SystemExit(f"{error}") from error
    rows = journal.rows(stage=plan.stage)
    asked = {label: iter(range(len(rows))) for label in plan.targets}
    found = {plan.row(row.label, next(asked[row.label])): row.text if not row.reason else None for row in rows}
    journal.close()
    return found


if __name__ == "__main__":
    run(work, __version__)
