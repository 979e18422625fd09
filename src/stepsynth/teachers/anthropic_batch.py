"""Anthropic's Message Batches: requests in one body, answers as lines, within a day at half the price.

    teacher = AnthropicBatchTeacher(config)
    job = await teacher.submit(name, [(key, request), ...])
    job = await teacher.find(name)                             # see below
    async for key, outcome in teacher.answers(job.id): ...

A batch has no metadata, so its name goes into every custom id, which has 64 characters: the first 40
digits of the key, a dash, the 23 digits of the name. They come back with the results only, which
there are when a batch has ended. Until then a batch that was created at about the right time with
the right number of requests may be the one that is looked for: `find` answers with a job without an
id, and whoever asked waits instead of paying twice. Formats: Anthropic's API reference, pages
"Message Batches".
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from stepsynth.errors import TeacherError
from stepsynth.teachers import BatchJob
from stepsynth.teachers.anthropic import PATH, AnthropicTeacher, read_message
from stepsynth.teachers.error_body import read_error
from stepsynth.teachers.provider_batch import (
    KEY_DIGITS,
    Limits,
    cancelled,
    created_job,
    fetched,
    lines_of,
    name_parts,
    number,
    path_part,
)
from stepsynth.teachers.refusals import status_of
from stepsynth.teachers.replies import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from typing import Any, Literal

    from stepsynth.config import TeacherConfig
    from stepsynth.types import Request, Response

__all__ = ["AnthropicBatchTeacher"]

_BATCHES = f"{PATH}/batches"
_PAGE = 100
# What an error in a result would have been as a status; https://docs.claude.com/en/api/errors


class AnthropicBatchTeacher:
    """Batches of messages.

    Args:
        config: as for `AnthropicTeacher`.

    Attributes:
        limits: what is sent as one job. Anthropic takes 100,000 requests and 256 MB; a job's body is
            held in memory while it is sent, so ours are smaller.

    Raises:
        ConfigError: as `AnthropicTeacher`.
    """

    limits = Limits(20_000, 48 * 2**20)

    def __init__(self, config: TeacherConfig) -> None:
        self._live = AnthropicTeacher(config)
        self._http = self._live.http
        self._sampling = config.sampling.frozen()

    @property
    def notes(self) -> list[str]:
        """What the user shall hear of; see `AnthropicTeacher.notes`."""
        return self._live.notes

    def learned(self) -> dict[str, object]:
        """Return what was found out that the next run need not find out again; see `stepsynth.teachers.learned`."""
        return self._live.learned()

    def start_with(self, learned: Mapping[str, Any]) -> None:
        """Ask from the first batch on as an earlier run learned to."""
        self._live.start_with(learned)

    async def probe(self) -> str:
        """Check key and model; see `AnthropicTeacher.probe`."""
        return await self._live.probe()

    async def submit(self, name: str, requests: Sequence[tuple[str, Request]]) -> BatchJob:
        """Start a batch.

        Args:
            name: a part of every request's custom id.
            requests: within `limits`.

        Raises:
            TransientError: with ``maybe_billed`` when the batch may have been created all the same.
            PermanentError: it was refused.
        """
        rows = [{"custom_id": f"{key[:KEY_DIGITS]}-{name}", "params": self._live.body(request)} for key, request in requests]
        return await created_job(self._http, _BATCHES, {"requests": rows}, _job)

    async def find(self, name: str) -> BatchJob | None:
        """Return the batch whose results bear this name.

        Returns:
            Without an id where a batch that may be the one is not at its end yet.

        Raises:
            TeacherError: the list or a batch's results could not be read.
        """
        parts, after = name_parts(name), ""
        undecided: BatchJob | None = None
        while True:
            page = await self._get(f"{_BATCHES}?limit={_PAGE}{after}")
            entries = [entry for entry in page.get("data") or () if isinstance(entry, dict)]
            for entry in entries:
                created, job = _created(entry), _job(entry)
                if parts.too_old(created):
                    return undecided
                if job.total != parts.count:
                    continue
                if job.state == "ended":
                    if await self._bears(job.id, name):
                        return job
                elif parts.near(created):
                    undecided = BatchJob("", "running", job.done, job.total)
            if not entries or not page.get("has_more"):
                return undecided
            after = f"&after_id={path_part(page.get('last_id') or entries[-1].get('id'))}"

    async def poll(self, job_id: str) -> BatchJob:
        """Return a batch's state."""
        return _job(await self._get(f"{_BATCHES}/{path_part(job_id)}"))

    async def answers(self, job_id: str) -> AsyncIterator[tuple[str, Response | TeacherError]]:
        """Yield the first 40 digits of the key, and the answer or what went wrong with it; expired ones are not yielded.

        Raises:
            TransientError: the results could not be read to their end.
            PermanentError: they are gone.
        """
        by_schema, without = self._live.by_schema, self._live.without
        # The path is known; the address that a server names for the results could be anybody's.
        async with lines_of(self._http, f"{_BATCHES}/{path_part(job_id)}/results") as lines:
            async for line in lines:
                name, result = line.get("custom_id"), line.get("result")
                outcome = self._outcome(result, by_schema, without) if isinstance(result, dict) else None
                if isinstance(name, str) and outcome is not None:
                    yield name[:KEY_DIGITS], outcome

    async def cancel(self, job_id: str) -> None:
        """Ask for a batch's end."""
        await cancelled(self._http, f"{_BATCHES}/{path_part(job_id)}")

    async def close(self) -> None:
        """Release connections."""
        await self._live.close()

    async def _get(self, path: str) -> Mapping[str, Any]:
        return await fetched(self._http, path, "Is it a key of the same workspace?")

    async def _bears(self, job_id: str, name: str) -> bool:
        """Whether an ended batch's results bear this name; the first of them tells."""
        async with lines_of(self._http, f"{_BATCHES}/{path_part(job_id)}/results") as lines:
            async for line in lines:
                return str(line.get("custom_id")).endswith(f"-{name}")
        return False

    def _outcome(self, result: Mapping[str, Any], by_schema: bool, without: frozenset[str]) -> Response | TeacherError | None:
        """Read a result as the live teacher reads an answer; ``None`` for a request that was not run."""
        kind = result.get("type")
        if kind == "succeeded":
            try:
                return read_message(json.dumps(result.get("message")), self._live.http.refused)
            except TeacherError as error:
                return error
        if kind != "errored":
            return None
        return self._live.refused(_reply(result.get("error")), self._sampling, by_schema=by_schema, without=without)


def _reply(error: object) -> Reply:
    """Return what the live API would have replied; the error may be wrapped in its ``error`` or not."""
    inner = error.get("error", error) if isinstance(error, dict) else {}
    text = json.dumps({"error": inner})
    return Reply(status_of(read_error(text)), text)


def _job(batch: Mapping[str, Any]) -> BatchJob:
    counts = batch.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    total = sum(int(number(count)) for count in counts.values())
    state: Literal["running", "ended"] = "ended" if batch.get("processing_status") == "ended" else "running"
    return BatchJob(str(batch.get("id") or ""), state, total - int(number(counts.get("processing"))), total)


def _created(batch: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(batch.get("created_at"))).timestamp()
    except ValueError:
        return 0.0
