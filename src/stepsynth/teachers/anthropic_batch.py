"""Anthropic's Message Batches: requests in one body, answers as lines, within a day at half the price.

    teacher = AnthropicBatchTeacher(config)
    job = await teacher.submit(name, [(key, request), ...])
    job = await teacher.find(name)                             # see below
    async for key, outcome in teacher.answers(job.id): ...

A batch has no metadata, so its name goes into every custom id, which has 64 characters: the first 40
digits of the key, a dash, the 23 digits of the name. Custom ids come back only with the results, when
a batch has ended. Until then, any batch created at about the right time with the right number of
requests may be the one: `find` then returns a job without an id, and the caller waits instead of
paying twice. Formats: Anthropic's API reference, pages "Message Batches".
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
# The HTTP status that an error in a result stands for; https://docs.claude.com/en/api/errors


class AnthropicBatchTeacher:
    """Batches of messages.

    Args:
        config: as for `AnthropicTeacher`.

    Attributes:
        limits: the size of a job. Anthropic accepts 100,000 requests and 256 MB; ours are smaller
            because a job's body is held in memory while it is sent.

    Raises:
        ConfigError: as for `AnthropicTeacher`.
    """

    limits = Limits(20_000, 48 * 2**20)

    def __init__(self, config: TeacherConfig) -> None:
        self._live = AnthropicTeacher(config)
        self._http = self._live.http
        self._sampling = config.sampling.frozen()

    @property
    def notes(self) -> list[str]:
        """Messages for the user; see `AnthropicTeacher.notes`."""
        return self._live.notes

    def learned(self) -> dict[str, object]:
        """Return the findings that save later runs from repeating them; see `stepsynth.teachers.learned`."""
        return self._live.learned()

    def start_with(self, learned: Mapping[str, Any]) -> None:
        """Start with the findings of an earlier run."""
        self._live.start_with(learned)

    async def probe(self) -> str:
        """Check the key and the model; see `AnthropicTeacher.probe`."""
        return await self._live.probe()

    async def submit(self, name: str, requests: Sequence[tuple[str, Request]]) -> BatchJob:
        """Start a batch.

        Args:
            name: goes into every request's custom id.
            requests: within `limits`.

        Raises:
            TransientError: it failed; with ``maybe_billed`` if the batch may have been created all the same.
            PermanentError: it was refused.
        """
        rows = [{"custom_id": f"{key[:KEY_DIGITS]}-{name}", "params": self._live.body(request)} for key, request in requests]
        return await created_job(self._http, _BATCHES, {"requests": rows}, _job)

    async def find(self, name: str) -> BatchJob | None:
        """Return the batch whose results carry this name.

        Returns:
            A job without an id if a batch that may be the one has not ended yet.

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
        """Yield the first 40 digits of the key and the answer or error of each request; expired ones are skipped.

        Raises:
            TransientError: the results could not be read completely.
            PermanentError: they are gone.
        """
        by_schema, without = self._live.by_schema, self._live.without
        # Use the known path: an address for the results from the server could point anywhere.
        async with lines_of(self._http, f"{_BATCHES}/{path_part(job_id)}/results") as lines:
            async for line in lines:
                name, result = line.get("custom_id"), line.get("result")
                outcome = self._outcome(result, by_schema, without) if isinstance(result, dict) else None
                if isinstance(name, str) and outcome is not None:
                    yield name[:KEY_DIGITS], outcome

    async def cancel(self, job_id: str) -> None:
        """Ask Anthropic to cancel a batch."""
        await cancelled(self._http, f"{_BATCHES}/{path_part(job_id)}")

    async def close(self) -> None:
        """Release connections."""
        await self._live.close()

    async def _get(self, path: str) -> Mapping[str, Any]:
        return await fetched(self._http, path, "Is it a key of the same workspace?")

    async def _bears(self, job_id: str, name: str) -> bool:
        """Whether an ended batch's results carry this name; the first result is enough."""
        async with lines_of(self._http, f"{_BATCHES}/{path_part(job_id)}/results") as lines:
            async for line in lines:
                return str(line.get("custom_id")).endswith(f"-{name}")
        return False

    def _outcome(self, result: Mapping[str, Any], by_schema: bool, without: frozenset[str]) -> Response | TeacherError | None:
        """Read a result like the live teacher reads an answer; ``None`` for a request that was not run."""
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
    """Return the reply that the live API would have sent; the error may or may not be wrapped in an ``error`` key."""
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
