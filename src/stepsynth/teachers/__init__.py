"""Teachers answer requests. One Protocol for servers, one for engines in this process, one for batch APIs.

A teacher has no journal, cache, retries or log. It raises only `TeacherError`s.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from stepsynth.config.wire import SERVERS
from stepsynth.errors import ConfigError, MovedError, PermanentError, RetryModifiedError, StepsynthError
from stepsynth.registry import TEACHERS
from stepsynth.types import Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.types import Request

__all__ = [
    "MOST_FORMS",
    "AsyncTeacher",
    "BatchApiTeacher",
    "BatchJob",
    "EngineTeacher",
    "SeveralTeacher",
    "StartedTeacher",
    "answer_of",
    "create_teacher",
    "probe_teacher",
]

# The most forms of one request that are tried; no teacher knows more.
MOST_FORMS = 8

_BATCH_APIS = {
    "openai": "stepsynth.teachers.openai_batch:OpenAIBatchTeacher",
    "anthropic": "stepsynth.teachers.anthropic_batch:AnthropicBatchTeacher",
}


@runtime_checkable
class AsyncTeacher(Protocol):
    """A teacher behind a network, with many separate requests in flight.

    It may have an attribute ``most_in_flight``: the most requests in flight that it takes now.
    """

    async def generate(self, request: Request) -> Response:
        """Answer one request, with exactly one attempt.

        Raises:
            RetryModifiedError: the request's form was refused; the next attempt uses another one.
            MovedError: one of several servers failed; the next attempt goes to another one.
            TransientError: another attempt may succeed.
            PermanentError: no attempt will.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


@runtime_checkable
class EngineTeacher(Protocol):
    """An engine in this process that is kept supplied with requests."""

    def generate_batch(self, requests: Iterable[Request], seeds: Iterable[int]) -> Iterator[tuple[int, Response]]:
        """Answer requests, yielding ``(position, response)`` as they finish.

        Args:
            requests: read lazily, as the engine has room; may end before ``seeds``.
            seeds: one sampling seed per request, so that an answer does not depend on the
                others in the batch.
        """
        ...


@runtime_checkable
class StartedTeacher(Protocol):
    """A teacher whose engines run in other processes or on other machines."""

    def start(self, note: Callable[[str], object]) -> None:
        """Start the engines, unless they run, and wait for the first one.

        Args:
            note: called with a sentence for the user.

        Raises:
            Interrupted: a stop was asked for.
            UserError: no engine can be used.
        """
        ...

    def rest(self) -> None:
        """End the engines while students train; `start` starts them again."""
        ...

    def release(self) -> None:
        """End the engines for good."""
        ...


@runtime_checkable
class SeveralTeacher(Protocol):
    """A teacher of several servers or engines."""

    def answered_summary(self) -> str:
        """Return a sentence on how many requests each of them has answered."""
        ...


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A batch at a provider.

    Attributes:
        id: the provider's id.
        state: ``running`` (includes validating and finalising), ``ended`` (its results can be
            fetched; includes expired and cancelled) or ``failed`` (there are no results).
        done: number of answers so far, as reported by the provider.
        total: number of requests.
        message: the provider's message about a failure.
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
            name: our own name, for `find`.
            requests: pairs of key and request; the key comes back with the answer.

        Raises:
            TransientError: it failed; with ``maybe_billed``, it may have arrived all the same.
            TeacherError: it was not accepted.
        """
        ...

    async def find(self, name: str) -> BatchJob | None:
        """Return the job submitted under a name, if it ever arrived.

        An empty id means that a running job may be the one; ask again later.
        """
        ...

    async def poll(self, job_id: str) -> BatchJob:
        """Return a job's state."""
        ...

    def answers(self, job_id: str) -> AsyncIterator[tuple[str, Response | TeacherError]]:
        """Yield the key (or its first 40 digits) and the answer or error of each request of an ended job, except expired ones."""
        ...

    async def cancel(self, job_id: str) -> None:
        """Ask the provider to cancel a job; what was answered is still billed and can be fetched."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


async def answer_of(teacher: AsyncTeacher, request: Request) -> Response:
    """Return one answer outside a run, asking again only if the teacher has learned another form or has another server.

    Raises:
        TeacherError: as for `AsyncTeacher.generate`.
    """
    forms = 0
    while True:
        try:
            return await teacher.generate(request)
        except MovedError:
            continue
        except RetryModifiedError:
            forms += 1
            if forms > MOST_FORMS:
                raise


def create_teacher(config: TeacherConfig, *, fresh: bool = False) -> AsyncTeacher | EngineTeacher | BatchApiTeacher:
    """Return the teacher that a config names; an engine in this process loads its model here.

    Args:
        config: the teacher's config.
        fresh: ignore what earlier runs learned about it, see `stepsynth.teachers.learned`.

    Raises:
        ConfigError: the backend is unknown, a plug-in cannot be loaded, a package is not installed,
            a key variable is not set, or the backend does not accept a setting.
        AssetError: the model cannot be fetched.
    """
    if config.on_ray:
        from stepsynth.teachers.replicas import ReplicasTeacher

        return ReplicasTeacher(config)
    if len(config.base_urls) > 1:
        from stepsynth.teachers.endpoints import EndpointsTeacher

        return EndpointsTeacher(config, {address: _server(config, address, fresh=fresh) for address in config.base_urls})
    factory = _factory(config)
    if config.backend in TEACHERS.built_in:
        built = factory(config)
        if config.backend in SERVERS and not fresh:
            from stepsynth.teachers.learned import recall

            recall(config, built)
        return built  # type: ignore[no-any-return]
    teacher = TEACHERS.guarded(config.backend, lambda: factory(config))
    if not isinstance(teacher, AsyncTeacher | EngineTeacher):
        what = f"the plug-in {config.backend!r} made a {type(teacher).__name__}, which is not a teacher."
        raise ConfigError(what, hint="It must have generate() and close(), or generate_batch(); see docs/teachers.md.")
    if isinstance(teacher, AsyncTeacher) and not isinstance(teacher, EngineTeacher):
        # A teacher that takes no attributes keeps its own errors.
        with suppress(AttributeError):
            teacher.generate = _guarded(teacher.generate, config.backend)  # type: ignore[method-assign,assignment]
    return teacher


def _guarded(generate: Callable[[Request], Any], name: str) -> Callable[[Request], Any]:
    """Let a plug-in's mistakes end a run in one line that names it; the cause has its own lines."""
    fix = "Correct it; docs/teachers.md says what a teacher does."

    async def guarded(request: Request) -> Response:
        try:
            answer = generate(request)
            if not isawaitable(answer):
                what = f"generate() of the teacher {name!r} returned a {type(answer).__name__} instead of waiting for it."
                raise PermanentError(what, hint="Write it as async def.", final=True)
            answer = await answer
        except StepsynthError:
            raise
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            what = f"the teacher {name!r} failed: {said}."
            raise PermanentError(what, hint=fix, final=True, unless_answered=True) from error
        if isinstance(answer, Response) and isinstance(answer.text, str):
            return answer
        shown = type(answer.text if isinstance(answer, Response) else answer).__name__
        what = f"generate() of the teacher {name!r} returned a {shown}, not a Response with a text."
        raise PermanentError(what, hint=fix, final=True)

    return guarded


def _server(config: TeacherConfig, address: str, *, fresh: bool) -> AsyncTeacher:
    """Return the teacher for one of several servers; what was learned about it is kept as if it stood alone."""
    built: AsyncTeacher = create_teacher(config.at(address), fresh=True)  # type: ignore[assignment]
    if not fresh:
        from stepsynth.teachers.learned import recall

        recall(config.at(address, alone=True), built)
    return built


def probe_teacher(config: TeacherConfig, report: Callable[[str], None] | None = None) -> str:
    """Check that a teacher is usable before anything is spent; return one sentence about it.

    A factory may have ``check(config) -> str``, which loads no model and sends nothing that costs;
    a teacher behind a network may have ``async probe() -> str``. Without either, nothing is checked.

    Args:
        config: the teacher.
        report: called with one sentence per slow step, such as fetching an embedded model, and for each of several servers
            that does not answer.

    Raises:
        ConfigError: as for `create_teacher`.
        AssetError: the embedded model cannot be fetched.
        TeacherError: the server is unreachable (of several, all are), refuses the key or lacks the model.
        RunError: for engines on Ray: there is no cluster, or no node has what an engine needs.
    """
    if config.on_ray:
        from stepsynth.teachers.replica_cluster import check_cluster

        return check_cluster(config, report or (lambda _: None))
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

    said = asyncio.run(ask())
    if report is not None and len(config.base_urls) > 1:
        for note in getattr(teacher, "notes", ()):
            report(note)
    return said


def _factory(config: TeacherConfig) -> Any:
    """Return the teacher's factory: a class, or a plug-in's callable."""
    backend = config.backend
    if config.mode == "batch" and (where := _BATCH_APIS.get(backend)):
        module, _, name = where.partition(":")
        return getattr(import_module(module), name)
    return TEACHERS.load(backend)
