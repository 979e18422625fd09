"""One engine in an actor of a Ray cluster: requests in, answers out, as plain values.

    replica = Replica(message)
    replica.open()                      versions, and whether the model's files are here
    replica.load(pieces, get)           the engine, with files from the object store if they are not
    replica.ask(request, seed)          a future answer

The engine runs in a thread of its own, which alone touches it. Requests that wait become its next batch, and join the present one
as it has room. Nothing here knows a journal, a budget or a retry; what the engine raises is sent back as plain values.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from concurrent.futures import Future
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stepsynth import errors
from stepsynth.config import TeacherConfig
from stepsynth.errors import AssetError, ConfigError, PermanentError, StepsynthError, TransientError
from stepsynth.model_cache.sending import own_copy, received
from stepsynth.runtime.ray_cluster import versions_of
from stepsynth.types import Message, Request, Response, Sampling, Span, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stepsynth.teachers import EngineTeacher

__all__ = ["ENDINGS", "Replica", "read_answer", "read_error", "read_request", "write_answer", "write_error", "write_request"]

# The files of a model that an engine reads, by backend; all files of a folder for others.
ENDINGS = {
    "transformers": (".json", ".txt", ".model", ".safetensors", ".jinja"),
    "vllm": (".json", ".txt", ".model", ".safetensors", ".jinja", ".tiktoken"),
}
# A batch waits so long for a further request: the answers that made room for it are on their way to the driver.
_GATHER_S = 0.02
_REASONS = ("stop", "length", "refusal")


# plain values --------------------------------------------------------------------------------


def write_request(request: Request) -> dict[str, Any]:
    """Return a request as plain values."""
    return {
        "messages": [[turn.role, turn.content] for turn in request.messages],
        "sampling": asdict(request.sampling),
        "answer": None if request.answer is None else [request.answer.text, request.answer.start],
        **{name: getattr(request, name) for name in ("replicate", "stage", "index", "label", "source", "context", "parts")},
    }


def read_request(values: Mapping[str, Any]) -> Request:
    """Undo `write_request`."""
    answer = values["answer"]
    return Request(
        **{
            **values,
            "messages": tuple(Message(role, content) for role, content in values["messages"]),
            "sampling": Sampling(**values["sampling"]),
            "answer": None if answer is None else Span(*answer),
        }
    )


def write_answer(response: Response) -> dict[str, Any]:
    """Return an answer as plain values."""
    usage = response.usage
    return {
        "text": response.text,
        "reason": response.finish_reason,
        "usage": [usage.prompt_tokens, usage.completion_tokens, usage.cost_usd],
        "raw": response.raw,
    }


def read_answer(values: object) -> Response | None:
    """Undo `write_answer`; ``None`` if it is no answer."""
    match values:
        case {"text": str(text), "reason": str(reason), "usage": [int(read), int(written), cost], "raw": str(raw)}:
            if reason in _REASONS and min(read, written) >= 0 and (cost is None or isinstance(cost, int | float)):
                return Response(text, reason, Usage(read, written, cost), raw)  # type: ignore[arg-type]
    return None


def write_error(error: Exception) -> dict[str, Any]:
    """Return an error as plain values: one of ours as it is, any other as ``broken``, in one line."""
    if not isinstance(error, StepsynthError):
        return {"broken": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
    more = {name: getattr(error, name) for name in ("kind", "retry_after", "final", "why") if hasattr(error, name)}
    return {"error": type(error).__name__, "message": error.message, "hint": error.hint, **more}


def read_error(values: Mapping[str, Any]) -> StepsynthError:
    """Return the error that one of ours was, see `write_error`."""
    made: Any = getattr(errors, str(values.get("error")), None)
    message, hint = str(values.get("message")), str(values.get("hint"))
    if not isinstance(made, type) or not issubclass(made, StepsynthError):
        return PermanentError(message, hint=hint)
    if issubclass(made, TransientError):
        wait = values.get("retry_after")
        return TransientError(message, hint=hint, kind=str(values["kind"]), retry_after=wait, why=str(values.get("why", "")))
    if issubclass(made, PermanentError):
        return PermanentError(message, hint=hint, kind=str(values["kind"]), final=bool(values.get("final")))
    error: StepsynthError = made(message, hint=hint)
    return error


# the engine ----------------------------------------------------------------------------------


class Replica:
    """An engine with its thread.

    Args:
        message: ``teacher`` (the config's values), ``versions`` (of the driver) and ``model`` (see
            `model_cache.sending.describe`; ``None`` if its backend fetches it).
    """

    def __init__(self, message: Mapping[str, Any]) -> None:
        self._message = message
        self._inbox: queue.SimpleQueue[tuple[Request, int, Future[dict[str, Any]]]] = queue.SimpleQueue()
        self._path: str | None = None

    def open(self) -> dict[str, Any]:
        """Return this machine and whether it ``needs`` the model's files; or its versions, if they are ``other`` ones."""
        host, given = socket.gethostname(), self._message["versions"]
        if (own := versions_of(name for name in given if name not in ("stepsynth", "python"))) != given:
            return {"other": own, "host": host}
        about = self._message["model"]
        if about is not None and (found := own_copy(about, ENDINGS.get(self._backend, ()))):
            self._path = str(found)
        return {"host": host, "pid": os.getpid(), "needs": about is not None and self._path is None}

    def load(self, pieces: list[tuple[str, Any]], get: Callable[[Any], bytes]) -> dict[str, Any]:
        """Open the engine; return ``ready``, or an error as plain values."""
        loaded: Future[dict[str, Any]] = Future()
        threading.Thread(target=self._work, args=(pieces, get, loaded), daemon=True).start()
        return loaded.result()

    def ask(self, request: Mapping[str, Any], seed: int) -> Future[dict[str, Any]]:
        """Return the future answer to a request, or the error that ended it, as plain values."""
        answer: Future[dict[str, Any]] = Future()
        self._inbox.put((read_request(request), seed, answer))
        return answer

    @property
    def _backend(self) -> str:
        return str(self._message["teacher"]["backend"])

    def _work(self, pieces: list[tuple[str, Any]], get: Callable[[Any], bytes], loaded: Future[dict[str, Any]]) -> None:
        try:
            teacher = self._opened(pieces, get)
        except Exception as error:
            loaded.set_result(write_error(error))
            return
        loaded.set_result({"ready": True})
        while True:
            _Batch(self._inbox).answer(teacher)

    def _opened(self, pieces: list[tuple[str, Any]], get: Callable[[Any], bytes]) -> EngineTeacher:
        from stepsynth.teachers import EngineTeacher, create_teacher

        config = TeacherConfig(**self._message["teacher"])
        about = self._message["model"]
        if about is not None:
            path = self._path or received(about, pieces, get)
            if path is None:
                raise AssetError("the files of the teacher's model changed on their way.", hint="Run it again.")
            config = config.model_copy(update={"model": str(path)})
        teacher = create_teacher(config)
        if not isinstance(teacher, EngineTeacher):
            raise ConfigError(
                f"teacher.replicas is for engines, and backend {config.backend!r} asks a server.",
                hint="Remove replicas and cluster.",
            )
        return teacher


class _Batch:
    """The requests of one call of an engine, which takes them as it has room."""

    def __init__(self, inbox: queue.SimpleQueue[tuple[Request, int, Future[dict[str, Any]]]]) -> None:
        self._inbox = inbox
        self._first = True
        self._full = False
        self._answers: list[Future[dict[str, Any]]] = []
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._seeds: queue.SimpleQueue[int] = queue.SimpleQueue()

    def answer(self, teacher: EngineTeacher) -> None:
        """Wait for a request, and answer it and those that come meanwhile."""
        self._more()
        said = {"broken": "the engine ended without an answer"}
        try:
            for position, response in teacher.generate_batch(self._each(self._requests), self._each(self._seeds)):
                self._answers[position].set_result(write_answer(response))
        except Exception as error:
            said = write_error(error)
        for answer in self._answers:
            if not answer.done():
                answer.set_result(said)

    def _each(self, items: queue.SimpleQueue[Any]) -> Iterator[Any]:
        # Whichever of the two the engine asks first takes the next request with its seed.
        while not items.empty() or self._more():
            yield items.get()

    def _more(self) -> bool:
        """Take another request, unless none comes."""
        if self._full:
            return False
        try:
            request, seed, answer = self._inbox.get(timeout=None if self._first else _GATHER_S)
        except queue.Empty:
            self._full = True
            return False
        self._first = False
        self._answers.append(answer)
        self._requests.put(request)
        self._seeds.put(seed)
        return True
