"""OpenAI's batch API: a file of requests in, a file of answers out, within a day at half the price.

    teacher = OpenAIBatchTeacher(config)
    job = await teacher.submit(name, [(key, request), ...])    # upload, then create
    job = await teacher.find(name)                             # by its metadata
    async for key, outcome in teacher.answers(job.id): ...     # the file of answers, then the file of errors

Every line of the file is a request as the live teacher sends it, and answers are read as the live
teacher reads them, so an answer does not depend on the mode. Formats: OpenAI's API reference, pages
"Batch" and "Files".
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from typing import TYPE_CHECKING

from stepsynth.errors import ConfigError, PermanentError, TeacherError, TransientError
from stepsynth.runtime.failpoints import fail_point
from stepsynth.teachers import BatchJob
from stepsynth.teachers.chat import Dialect, is_withheld, withheld
from stepsynth.teachers.completions import read_completion
from stepsynth.teachers.error_body import server_message
from stepsynth.teachers.openai import OpenAITeacher
from stepsynth.teachers.provider_batch import (
    Limits,
    as_object,
    cancelled,
    created_job,
    fetched,
    lines_of,
    name_parts,
    number,
    path_part,
)
from stepsynth.teachers.replies import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from typing import Any, BinaryIO, Literal

    from stepsynth.config import TeacherConfig
    from stepsynth.types import Request, Response

__all__ = ["OpenAIBatchTeacher"]

_ENDPOINT = "/v1/chat/completions"
_METADATA = "stepsynth"
_PAGE = 100
_UPLOAD_S = 1800.0
_STATES: dict[str, Literal["running", "ended", "failed"]] = {
    "completed": "ended",
    "expired": "ended",
    "cancelled": "ended",
    "failed": "failed",
}
# These requests were never run: they count as missing, and another job may ask for them.
_NOT_RUN = frozenset({"batch_expired", "batch_cancelled"})


class OpenAIBatchTeacher:
    """Batches of chat completions.

    Args:
        config: as for `OpenAITeacher`.

    Attributes:
        limits: the size of a job: 50,000 requests, 200 MB.

    Raises:
        ConfigError: as for `OpenAITeacher`; or ``api_version`` is set, whose URLs have no batches.
    """

    limits = Limits(50_000, 200 * 10**6)

    def __init__(self, config: TeacherConfig) -> None:
        if config.api_version is not None:
            hint = "Use Azure's newer address: base_url https://NAME.openai.azure.com/openai/v1, no api_version."
            raise ConfigError(f"teacher.mode 'batch' cannot be combined with api_version {config.api_version!r}.", hint=hint)
        self._live = OpenAITeacher(config)
        self._http = self._live.http
        self._sampling = config.sampling.frozen()

    @property
    def notes(self) -> list[str]:
        """Messages for the user; see `OpenAITeacher.notes`."""
        return self._live.notes

    def learned(self) -> dict[str, object]:
        """Return the findings that save later runs from repeating them; see `stepsynth.teachers.learned`."""
        return self._live.learned()

    def start_with(self, learned: Mapping[str, Any]) -> None:
        """Start with the findings of an earlier run."""
        self._live.start_with(learned)

    async def probe(self) -> str:
        """Check the server and the model; see `OpenAITeacher.probe`."""
        return await self._live.probe()

    async def submit(self, name: str, requests: Sequence[tuple[str, Request]]) -> BatchJob:
        """Upload the requests and start a batch of them.

        Args:
            name: written into the batch's metadata and into the file's name.
            requests: within `limits`.

        Raises:
            TransientError: it failed; with ``maybe_billed`` if the batch may have been created all the same.
            PermanentError: it was refused.
        """
        file = self._written(requests)
        try:
            form: dict[str, str | tuple[str, bytes | BinaryIO]] = {"purpose": "batch", "file": (f"{name}.jsonl", file)}
            reply = await self._http.exchange("POST", "/files", form=form, timeout_s=_UPLOAD_S)
        finally:
            # The sender may be closing it at the same time, in a thread.
            with contextlib.suppress(ValueError):
                file.close()
        if not reply.ok:
            raise self._http.refused(reply)
        fail_point("batch uploaded")
        uploaded = as_object(reply.text).get("id")
        if not isinstance(uploaded, str):
            raise TransientError("the reply to the upload names no file.", hint="Look at the server's log.", kind="damaged")
        batch = {
            "input_file_id": uploaded,
            "endpoint": _ENDPOINT,
            "completion_window": "24h",
            "metadata": {_METADATA: name},
        }
        return await created_job(self._http, "/batches", batch, _job)

    async def find(self, name: str) -> BatchJob | None:
        """Return the batch with this name in its metadata, or made from the file of this name.

        Raises:
            TeacherError: the list could not be read.
        """
        parts, after = name_parts(name), ""
        while True:
            page = await self._get(f"/batches?limit={_PAGE}{after}")
            entries = [entry for entry in page.get("data") or () if isinstance(entry, dict)]
            for entry in entries:
                created = number(entry.get("created_at"))
                if parts.too_old(created):
                    return None
                if await self._is_named(entry, name, parts.near(created)):
                    return _job(entry)
            if not entries or not page.get("has_more"):
                return None
            after = f"&after={path_part(entries[-1].get('id'))}"

    async def poll(self, job_id: str) -> BatchJob:
        """Return a batch's state."""
        return _job(await self._get(f"/batches/{path_part(job_id)}"))

    async def answers(self, job_id: str) -> AsyncIterator[tuple[str, Response | TeacherError]]:
        """Yield the key and the answer or error of each request; those that were not run are skipped.

        Raises:
            TransientError: the files could not be read completely.
            PermanentError: they are gone.
        """
        base = self._live.format.dialect
        batch = await self._get(f"/batches/{path_part(job_id)}")
        for name in ("output_file_id", "error_file_id"):
            if not isinstance(batch.get(name), str):
                continue
            async with lines_of(self._http, f"/files/{path_part(batch[name])}/content") as lines:
                async for line in lines:
                    key = line.get("custom_id")
                    outcome = self._outcome(line, base) if isinstance(key, str) else None
                    if outcome is not None:
                        yield str(key), outcome

    async def cancel(self, job_id: str) -> None:
        """Ask OpenAI to cancel a batch; it takes up to ten minutes."""
        await cancelled(self._http, f"/batches/{path_part(job_id)}")

    async def close(self) -> None:
        """Release connections."""
        await self._live.close()

    def _written(self, requests: Sequence[tuple[str, Request]]) -> BinaryIO:
        """Return an anonymous temporary file with the requests, one per line."""
        try:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - the sender closes it
            for key, request in requests:
                line = {"custom_id": key, "method": "POST", "url": _ENDPOINT, "body": self._live.format.body(request)}
                file.write(json.dumps(line).encode("ascii") + b"\n")
            file.seek(0)
        except OSError as error:
            what = f"cannot write the batch to a temporary file: {error.strerror}."
            raise PermanentError(what, hint="Free some space, or set TMPDIR to another folder.") from None
        return file

    async def _get(self, path: str) -> Mapping[str, Any]:
        return await fetched(self._http, path, "Is it a key of the same project?")

    async def _is_named(self, entry: Mapping[str, Any], name: str, near: bool) -> bool:
        metadata = entry.get("metadata")
        if isinstance(metadata, dict) and metadata:
            return bool(metadata.get(_METADATA) == name)
        if not near:
            return False
        # Servers that keep no metadata still know the file's name.
        reply = await self._http.exchange("GET", f"/files/{path_part(entry.get('input_file_id'))}")
        if reply.status == 404:
            return False
        if not reply.ok:
            raise self._http.refused(reply)
        return bool(as_object(reply.text).get("filename") == f"{name}.jsonl")

    def _outcome(self, line: Mapping[str, Any], base: Dialect) -> Response | TeacherError | None:
        """Read a line like the live teacher reads an answer; ``None`` for a request that was not run."""
        response, error = line.get("response"), line.get("error")
        if isinstance(error, dict) and error.get("code") in _NOT_RUN:
            return None
        if not isinstance(response, dict):
            said = server_message(json.dumps({"error": error}))
            return TransientError(f"the provider could not run the request: {said!r}.", kind="unavailable")
        status = response.get("status_code")
        return self._read(Reply(status if isinstance(status, int) else 500, json.dumps(response.get("body"))), base)

    def _read(self, reply: Reply, base: Dialect) -> Response | TeacherError:
        if reply.ok:
            try:
                return read_completion(reply.text, 1, lambda inner: self._live.refused(inner, self._sampling))[0]
            except TeacherError as error:
                return error
        if is_withheld(reply):
            return withheld(reply)
        # One step from the job's dialect, or from the first job's: every row of it has the same refusal.
        return self._live.format.learn(reply, self._sampling, base, Dialect()) or self._live.refused(reply, self._sampling)


def _job(batch: Mapping[str, Any]) -> BatchJob:
    counts = batch.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    done = int(number(counts.get("completed")) + number(counts.get("failed")))
    errors = batch.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else None
    message = server_message(json.dumps({"error": listed[0] if isinstance(listed, list) and listed else {}}))
    state = _STATES.get(str(batch.get("status")), "running")
    return BatchJob(str(batch.get("id") or ""), state, done, int(number(counts.get("total"))), message)
