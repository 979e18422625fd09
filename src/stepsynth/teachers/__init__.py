"""Teachers: what answers requests. One Protocol for servers, one for engines in process, one for batch APIs.

A teacher holds no journal, no cache, no retry and no log. It raises only `TeacherError`s.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from stepsynth.config.wire import SERVERS
from stepsynth.errors import ConfigError, RetryModifiedError
from stepsynth.registry import TEACHERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.types import Request, Response

__all__ = [
    "MOST_FORMS",
    "AsyncTeacher",
    "BatchApiTeacher",
    "BatchJob",
    "EngineTeacher",
    "answer_of",
    "create_teacher",
    "probe_teacher",
]

# So many forms of one request are tried; no teacher knows more.
MOST_FORMS = 8

_BATCH_APIS = {
    "openai": "stepsynth.teachers.openai_batch:OpenAIBatchTeacher",
    "anthropic": "stepsynth.teachers.anthropic_batch:AnthropicBatchTeacher",
}


@runtime_checkable
class AsyncTeacher(Protocol):
    """A teacher behind a network: many requests in flight, each on its own."""

    async def generate(self, request: Request) -> Response:
        """Answer one request, with exactly one attempt.

        Raises:
            RetryModifiedError: the request's form was refused, and the next attempt takes another one.
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
            TransientError: with ``maybe_billed``, it may have arrived all the same.
            TeacherError: it was not accepted.
        """
        ...

    async def find(self, name: str) -> BatchJob | None:
        """Return the job that was submitted under a name, if it ever arrived.

        An empty id: one that may be it is still running; ask again later.
        """
        ...

    async def poll(self, job_id: str) -> BatchJob:
        """Return a job's state."""
        ...

    def answers(self, job_id: str) -> AsyncIterator[tuple[str, Response | TeacherError]]:
        """Yield key (or its first 40 digits) and answer or error of an ended job; missing keys expired."""
        ...

    async def cancel(self, job_id: str) -> None:
        """Ask for a job's end; what is answered already is still billed and can be fetched."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


async def answer_of(teacher: AsyncTeacher, request: Request) -> Response:
    """Return one answer outside any run, asking again only where the teacher has learned another form.

    Raises:
        TeacherError: as `AsyncTeacher.generate`.
    """
    for _ in range(MOST_FORMS):
        with suppress(RetryModifiedError):
            return await teacher.generate(request)
    return await teacher.generate(request)


def create_teacher(config: TeacherConfig, *, fresh: bool = False) -> AsyncTeacher | EngineTeacher | BatchApiTeacher:
    """Return the teacher that a config names; engines load their model here.

    Args:
        config: of the teacher.
        fresh: begin without what was learned of it earlier, see `stepsynth.teachers.learned`.

    Raises:
        ConfigError: unknown backend, a plug-in that cannot be loaded, a package that is not
            installed, a key variable that is not set, or a setting that the backend does not take.
        AssetError: the model cannot be fetched.
    """
    factory = _factory(config)
    if config.backend in TEACHERS.built_in:
        built = factory(config)
        if config.backend in SERVERS and not fresh:
            from stepsynth.teachers.learned import recall

            recall(config, built)
        return built  # type: ignore[no-any-return]
    teacher = TEACHERS.guarded(config.backend, lambda: factory(config))
    if not isinstance(teacher, AsyncTeacher | EngineTeacher):
        what = f"the plug-in {config.backend!r} made a {type(teacher).__name__}, which is no teacher."
        raise ConfigError(what, hint="It must have generate() and close(), or generate_batch(); see docs/teachers.md.")
    return teacher


def probe_teacher(config: TeacherConfig, report: Callable[[str], None] | None = None) -> str:
    """Check that a teacher can be used, before anything is spent; return one sentence about it.

    A factory may have ``check(config) -> str``, which loads no model and sends nothing that costs;
    a teacher behind a network may have ``async probe() -> str``. One that has neither is believed.

    Args:
        config: the teacher.
        report: called with one sentence per step that takes time, such as fetching an embedded model.

    Raises:
        ConfigError: as `create_teacher`.
        AssetError: the embedded model cannot be fetched.
        TeacherError: the server is unreachable, refuses the key or lacks the model.
    """
    factory = _factory(config)
    check = getattr(factory, "check", None)
    if callable(check):
        if config.backend == "openvino":
            return str(check(config, report))
        ours = config.backend in TEACHERS.built_in
        return str(check(config) if ours else TEACHERS.guarded(config.backend, lambda: check(config)))
    teacher = create_teacher(config)
    probe = getattr(teacher, "probe", None)
    if probe is None or isinstance(teacher, EngineTeacher):
        return f"{config.backend}: {config.model}"
    import asyncio

    async def ask() -> str:
        try:
            return str(await probe())
        finally:
            await teacher.close()

    return asyncio.run(ask())


def _factory(config: TeacherConfig) -> Any:
    """Return what makes the teacher: a class, or a plug-in's callable."""
    backend = config.backend
    if config.mode == "batch" and (where := _BATCH_APIS.get(backend)):
        module, _, name = where.partition(":")
        return getattr(import_module(module), name)
    return TEACHERS.load(backend)
