"""Teachers: what answers requests. One Protocol for servers, one for engines in process, one for batch APIs.

A teacher holds no journal, no cache, no retry and no log. It raises only `TeacherError`s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from stepsynth.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.types import Request, Response

__all__ = ["AsyncTeacher", "BatchApiTeacher", "BatchJob", "EngineTeacher", "create_teacher", "probe_teacher"]


@runtime_checkable
class AsyncTeacher(Protocol):
    """A teacher behind a network: many requests in flight, each on its own."""

    async def generate(self, request: Request) -> Response:
        """Answer one request, with exactly one attempt.

        Raises:
            TransientError: another attempt may succeed.
            PermanentError: no attempt will.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


@runtime_checkable
class EngineTeacher(Protocol):
    """An engine in this process, which is fed so that it is never idle."""

    def generate_batch(self, requests: Iterable[Request], seeds: Iterable[int]) -> Iterator[tuple[int, Response]]:
        """Answer requests, yielding ``(position, response)`` as they finish.

        Args:
            requests: read lazily, only as far as the engine has room; may end before ``seeds``.
            seeds: one sampling seed per request, so that an answer does not depend on
                which others were in the batch.
        """
        ...


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A batch at a provider.

    Attributes:
        id: the provider's name of it.
        state: ``running`` (also: validating, finalising), ``ended`` (whatever came of it can be
            fetched; expired and cancelled ones count, too) or ``failed`` (nothing can be).
        done: answers so far, as far as the provider tells.
        total: requests in it.
        message: what the provider says of a failure.
    """

    id: str
    state: Literal["running", "ended", "failed"]
    done: int = 0
    total: int = 0
    message: str = ""


@runtime_checkable
class BatchApiTeacher(Protocol):
    """A provider's batch API: many requests in one job, answers within a day at a lower price."""

    async def submit(self, name: str, requests: Sequence[tuple[str, Request]]) -> BatchJob:
        """Start a job.

        Args:
            name: our own name of it, which `find` finds it by.
            requests: key and request; the key comes back with the answer.

        Raises:
            TeacherError: it was not accepted.
        """
        ...

    async def find(self, name: str) -> BatchJob | None:
        """Return the job that was submitted under a name, if it ever arrived."""
        ...

    async def poll(self, job_id: str) -> BatchJob:
        """Return a job's state."""
        ...

    def answers(self, job_id: str) -> AsyncIterator[tuple[str, Response | TeacherError]]:
        """Yield key and answer, or what went wrong with it, of an ended job; missing keys expired."""
        ...

    async def cancel(self, job_id: str) -> None:
        """Ask for a job's end; what is answered already is still billed and can be fetched."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


def create_teacher(config: TeacherConfig) -> AsyncTeacher | EngineTeacher:
    """Return the teacher that a config names; engines load their model here.

    Raises:
        ConfigError: unknown backend, or a key variable that is not set.
        AssetError: the embedded model cannot be had.
    """
    if config.backend == "openvino":
        from stepsynth.teachers.local_openvino import OpenVinoTeacher

        return OpenVinoTeacher(config)
    if config.backend == "openai":
        from stepsynth.teachers.openai import OpenAITeacher

        return OpenAITeacher(config)
    if config.backend == "fake":
        from stepsynth.teachers.fake import FakeTeacher

        return FakeTeacher(identity=config.identity())
    raise ConfigError(f"unknown backend {config.backend!r}.", hint=did_you_mean(config.backend, ["openvino", "openai", "fake"]))


def probe_teacher(config: TeacherConfig) -> str:
    """Check that a teacher can be used, before anything is spent; return one sentence about it.

    Raises:
        ConfigError: a variable or model that does not exist.
        AssetError: the embedded model cannot be had.
        TeacherError: the server is unreachable, refuses the key or lacks the model.
    """
    if config.backend == "openvino":
        from stepsynth.assets import resolve

        resolve(config.model, kind="teacher")
        return f"{config.model} in this process (OpenVINO GenAI), no key, no server"
    if config.backend == "openai":
        import asyncio

        from stepsynth.teachers.openai import OpenAITeacher

        async def probe() -> str:
            teacher = OpenAITeacher(config)
            try:
                return await teacher.probe()
            finally:
                await teacher.close()

        return asyncio.run(probe())
    return "fake: deterministic invented texts, for tests"
