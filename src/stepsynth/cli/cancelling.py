"""``cancel``: ask the provider to cancel a run's open batches."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError
from stepsynth.run import RunDirectory
from stepsynth.run.existing import open_journal
from stepsynth.runtime.counting import counted
from stepsynth.teachers import BatchApiTeacher, create_teacher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stepsynth.journal import Job

__all__ = ["cancel_batches", "print_cancelled"]


def cancel_batches(folder: Path) -> list[dict[str, Any]]:
    """Ask the provider to cancel every batch of a run whose answers were not fetched.

    The journal is not changed: the next `stepsynth run` fetches what was answered.

    Returns:
        For each batch ``name`` (ours), ``id`` (the provider's, or ``None``), ``requests`` and
        ``outcome``: ``cancelled``, ``ended`` (nothing was left to cancel), ``not found`` or
        ``undecided`` (a running batch may be this one, but that can only be told once it ends).

    Raises:
        ConfigError: the teacher's provider has no batch API, or its key is not set.
        TeacherError: the provider could not be reached, or refused.
    """
    directory = RunDirectory.read(folder)
    with closing(open_journal(directory)) as journal:
        jobs = journal.jobs.open()
    if not jobs:
        return []
    teacher = create_teacher(directory.config.teacher.model_copy(update={"mode": "batch"}))
    if not isinstance(teacher, BatchApiTeacher):
        raise ConfigError(
            f"teacher.backend {directory.config.teacher.backend!r} has no batch API.", hint="There is nothing to cancel."
        )
    return asyncio.run(_cancel_all(teacher, jobs))


async def _cancel_all(teacher: BatchApiTeacher, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    try:
        return [await _cancel(teacher, job) for job in jobs]
    finally:
        await teacher.close()


async def _cancel(teacher: BatchApiTeacher, job: Job) -> dict[str, Any]:
    told: dict[str, Any] = {"name": job.name, "id": job.id, "requests": len(job.keys)}
    if job.id is None:
        found = await teacher.find(job.name)
        if found is None or not found.id:
            return {**told, "outcome": "not found" if found is None else "undecided"}
        told["id"] = found.id
    if (await teacher.poll(told["id"])).state != "running":
        return {**told, "outcome": "ended"}
    await teacher.cancel(told["id"])
    return {**told, "outcome": "cancelled"}


def print_cancelled(found: Sequence[dict[str, Any]]) -> None:
    """Print what `cancel_batches` did, and what to do next."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False, markup=False)
    if not found:
        console.print("This run has no open batches.")
        return
    for batch in found:
        console.print(f"{batch['id'] or batch['name']}: {counted(batch['requests'], 'request')}, {batch['outcome']}")
    console.print(
        "What was answered is billed and not lost: run the same `stepsynth run` command with teacher.mode batch to fetch it"
        " and ask for the rest; add --set budget.requests=1 to ask for nothing more."
    )
