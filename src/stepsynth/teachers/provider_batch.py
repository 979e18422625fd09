"""Shared parts of all batch APIs: job names that hold a time and a count, and jobs within the size limits.

A job's name is drawn before anything is sent and holds all that is needed to find the job later: the
time, the number of requests, and 40 random bits.
"""

from __future__ import annotations

import json
import secrets
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from stepsynth.errors import PermanentError, TransientError
from stepsynth.teachers.redaction import parsed_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from stepsynth.teachers import BatchJob
    from stepsynth.teachers.http import HttpClient
    from stepsynth.types import Request

__all__ = [
    "DEFAULT_LIMITS",
    "KEY_DIGITS",
    "Limits",
    "NameParts",
    "as_object",
    "cancelled",
    "chunk_requests",
    "created_job",
    "draw_name",
    "fetched",
    "lines_of",
    "name_parts",
    "number",
    "path_part",
]

# Keys come back whole, or cut to this many digits if a provider's ids are short.
KEY_DIGITS = 40
# For a body of tens of megabytes.
_CREATE_S = 600.0
# A provider's clock and ours may differ, and a large upload takes time.
_CLOCKS_APART_S = 3600
_UPLOAD_AT_MOST_S = 3600
_ONE_DAY_S = 86400
# Bytes of a request's line besides its messages: model, sampling, schema, ids.
_AROUND_MESSAGES = 2048


@dataclass(frozen=True, slots=True)
class Limits:
    """The size limits of a job.

    Attributes:
        requests: most requests.
        bytes: most bytes in total.
    """

    requests: int
    bytes: int


# Assumed for teachers without their own limits.
DEFAULT_LIMITS = Limits(10_000, 32 * 2**20)


@dataclass(frozen=True, slots=True)
class NameParts:
    """The parts of a job's name.

    Attributes:
        drawn: when it was drawn, in seconds since 1970, by our clock.
        count: number of requests in the job.
    """

    drawn: int
    count: int

    def near(self, created: float) -> bool:
        """Whether a provider created a job at about the time when the job of this name was sent."""
        return -_CLOCKS_APART_S <= created - self.drawn <= _CLOCKS_APART_S + _UPLOAD_AT_MOST_S

    def too_old(self, created: float) -> bool:
        """Whether a job is much older; in a list from new to old, all that follow are older, too."""
        return created < self.drawn - _ONE_DAY_S


def draw_name(count: int, now: float | None = None) -> str:
    """Return a new name for a job: 23 hexadecimal digits, of which 8 are seconds and 5 the count.

    Args:
        count: number of requests, fewer than 1,048,576.
        now: seconds since 1970; by default the present.
    """
    return f"{int(time.time() if now is None else now):08x}{count:05x}{secrets.token_hex(5)}"


def name_parts(name: str) -> NameParts:
    """Parse a job's name.

    Raises:
        ValueError: it is not one of ours.
    """
    if len(name) != 23:
        raise ValueError(f"{name!r} is not a job's name")
    return NameParts(int(name[:8], 16), int(name[8:13], 16))


def chunk_requests(requests: Sequence[tuple[str, Request]], limits: Limits) -> Iterator[list[tuple[str, Request]]]:
    """Split requests into jobs within a provider's limits, in order."""
    portion: list[tuple[str, Request]] = []
    size = 0
    for key, request in requests:
        own = _size(request)
        if portion and (len(portion) >= limits.requests or size + own > limits.bytes):
            yield portion
            portion, size = [], 0
        portion.append((key, request))
        size += own
    if portion:
        yield portion


def _size(request: Request) -> int:
    """Return an upper bound on the bytes of a request as JSON."""
    return _AROUND_MESSAGES + sum(len(json.dumps(message.content)) + 64 for message in request.messages)


async def created_job(
    http: HttpClient, path: str, body: Mapping[str, object], read: Callable[[Mapping[str, Any]], BatchJob]
) -> BatchJob:
    """Create a job at a provider; on failure, tell whether it may have been created all the same.

    Args:
        http: the provider.
        path: the path to post to.
        body: the job.
        read: parses the provider's description of a job.

    Raises:
        TransientError: it failed; with ``maybe_billed`` if the reply was lost, damaged or a 5xx.
        PermanentError: it was refused.
    """
    reply = await http.exchange("POST", path, body, timeout_s=_CREATE_S)
    if not reply.ok:
        error = http.refused(reply)
        if isinstance(error, TransientError) and reply.status >= 500:
            error.maybe_billed = True
        raise error
    job = read(as_object(reply.text))
    if not job.id:
        what = f"{http.base_url} accepted the batch but sent no id for it."
        raise TransientError(what, hint="If it persists, look at the server's log.", kind="damaged", maybe_billed=True)
    return job


async def fetched(http: HttpClient, path: str, hint: str) -> Mapping[str, Any]:
    """Return the object at a path.

    Args:
        http: the provider.
        path: the path to get.
        hint: what to check if nothing is found.

    Raises:
        TransientError: it could not be fetched now, or is not JSON.
        PermanentError: it does not exist, or was refused.
    """
    reply = await http.exchange("GET", path)
    if reply.status == 404:
        raise PermanentError(f"{http.base_url}{path}: not found.", hint=hint, kind="refused")
    if not reply.ok:
        raise http.refused(reply)
    found = as_object(reply.text)
    if not found:
        what = f"{http.base_url}{path}: no valid JSON."
        raise TransientError(what, hint="If it persists, check teacher.base_url.", kind="damaged")
    return found


async def cancelled(http: HttpClient, path: str) -> None:
    """Ask the provider to cancel the job at a path.

    Raises:
        TeacherError: the provider refused, or could not be reached.
    """
    reply = await http.exchange("POST", f"{path}/cancel")
    if not reply.ok:
        raise http.refused(reply)


def lines_of(http: HttpClient, path: str) -> AbstractAsyncContextManager[AsyncIterator[Mapping[str, Any]]]:
    """Return a body's lines as JSON objects, one at a time; leaving the context closes the connection.

    Raises:
        TransientError: the body broke off; what came before is good.
        PermanentError: it is gone, or a line is too long.
    """

    async def objects() -> AsyncGenerator[Mapping[str, Any]]:
        async for line in http.lines(path):
            if line.strip():
                yield as_object(line)

    return aclosing(objects())


def as_object(text: str) -> Mapping[str, Any]:
    """Parse a JSON object; empty if the text is not one."""
    value = parsed_json(text)
    return value if isinstance(value, dict) else {}


def number(value: object) -> float:
    """Return a provider's number; 0 for anything else."""
    return float(value) if isinstance(value, int | float) else 0.0


def path_part(name: object) -> str:
    """Quote a provider's id for use in a path, so that it cannot lead elsewhere."""
    return quote(str(name), safe="")
