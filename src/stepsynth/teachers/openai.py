"""A teacher behind any server that speaks OpenAI's chat completions, Azure's among them.

    teacher = OpenAITeacher(config)      # reads the key's variable, opens nothing yet
    await teacher.probe()                # is it there, does it know us, has it the model?
    response = await teacher.generate(request)

One ``generate`` is one attempt: no retry, cache or log in here, they have one owner elsewhere.
Servers differ in which parameters they take. What one refuses with a 400 is remembered, and `AskAgainError`
has the request sent again without it, as long as the answer cannot change by it: another temperature
than the one that was configured is never taken silently.
"""

from __future__ import annotations

import contextlib
import json
import re
from asyncio import Lock
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from stepsynth.errors import AskAgainError, ConfigError, PermanentError, TeacherError, TransientError
from stepsynth.teachers import answer_of
from stepsynth.teachers.bodies import parsed_json, read_key, server_message, well_formed
from stepsynth.teachers.http import TRANSIENT, HttpClient, Reply
from stepsynth.teachers.structured import SCHEMA, asked
from stepsynth.types import FinishReason, Message, Request, Response, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import TeacherConfig

__all__ = ["OpenAITeacher", "model_ids", "read_completion", "request_seed"]

_PROBE_TOKENS = 16
_REFUSALS = frozenset({400, 422})
_FINISH: dict[str, FinishReason] = {"length": "length", "max_tokens": "length", "content_filter": "refusal", "refusal": "refusal"}
# How a JSON object is asked for, the strictest way first; the last is the prompt alone.
_FORMATS: tuple[dict[str, Any] | None, ...] = (
    {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}},
    {"type": "json_object"},
    None,
)
_FORMAT_WORDS = re.compile(r"response_format|json_schema|json_object|structured.output|grammar|schema", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What a server was found to take.

    Attributes:
        limit: what it calls the most tokens of an answer.
        without: parameters that it refuses and that change nothing.
        form: place in `_FORMATS`.
    """

    limit: str = "max_tokens"
    without: frozenset[str] = frozenset()
    form: int = 0

    def joined(self, other: _Dialect) -> _Dialect:
        """Return what both have learned."""
        limit = self.limit if self.limit != "max_tokens" else other.limit
        return _Dialect(limit, self.without | other.without, max(self.form, other.form))


class OpenAITeacher:
    """Chat completions over one shared HTTP session.

    Args:
        config: ``base_url``, ``model``, ``api_key_env`` (``None`` sends no key), ``api_version``
            (Azure), ``structured``, ``rows_per_request``, and what `HttpClient` needs.

    Attributes:
        rows_limit: most rows that one request can bring: ``rows_per_request``, or 1 once the
            server was found to ignore ``n``.

    Raises:
        ConfigError: the variable that ``api_key_env`` names is unset, empty or not a header value.
    """

    def __init__(self, config: TeacherConfig) -> None:
        if not config.base_url:
            raise ConfigError("teacher.base_url is missing.", hint="Example: https://api.openai.com/v1")
        self._config = config
        self._identity = config.identity()
        self._base_url = config.base_url.rstrip("/")
        azure = config.api_version is not None
        header = ("api-key", "") if azure else ("Authorization", "Bearer ")
        self._http = HttpClient(config, self._base_url, read_key(config.api_key_env), key_header=header)
        self._path = _path(config)
        self._dialect = _Dialect()
        self._models: list[str] | None = None
        self._models_lock: Lock | None = None
        self._many_lock: Lock | None = None
        self._many_works: bool | None = None
        self.rows_limit = config.rows_per_request

    async def generate(self, request: Request) -> Response:
        """Answer one request with one attempt.

        Args:
            request: its messages are sent as they are; its key gives the ``seed``.

        Returns:
            The answer, possibly with an empty text; ``refusal`` where the provider withheld it.

        Raises:
            AskAgainError: a parameter was refused that the next request leaves out.
            TransientError: overload, time-out, lost connection, damaged answer.
            PermanentError: wrong key, unknown model, refused request, answer over 16 MB.
        """
        reply = await self._ask(request, 1)
        return read_completion(reply.text)[0] if reply.ok else _withheld(reply)

    async def generate_many(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests that are equal but for their replicate with one attempt, one request on the wire (``n``).

        The first of them gives the seed. The usage is split so that its sum is what the server
        counted. A server that brings fewer choices answers the first requests only, and
        ``rows_limit`` is 1 from then on; requests are then sent one by one. Until the first answer
        has shown whether ``n`` works, only one request is on its way.

        Args:
            requests: with equal messages and sampling.

        Returns:
            At least one answer, for the first of the requests, in order.

        Raises:
            AskAgainError: the server refused ``n``, and ``rows_limit`` is 1 from now on; or as `generate`.
            TransientError: as `generate`; none of them is answered.
            PermanentError: likewise.
        """
        if len(requests) == 1 or self._many_works is False:
            return [await self.generate(requests[0])]
        if self._many_works is None:
            self._many_lock = lock = self._many_lock or Lock()
            async with lock:
                if self._many_works is None:
                    return await self._many(requests)
            return await self.generate_many(requests)
        return await self._many(requests)

    async def probe(self) -> str:
        """Check server, key and model before anything is spent.

        Asks for the list of models; where there is none, for a completion of a few tokens.

        Returns:
            One sentence on what answered.

        Raises:
            TransientError: the server cannot be reached or is overloaded.
            PermanentError: wrong key, wrong URL or unknown model, with the nearest known one.
        """
        # Azure's list names models, requests name deployments.
        if self._config.api_version is not None:
            return await self._probe_by_asking("the deployment")
        reply = await self._http.exchange("GET", "/models")
        if reply.status == 401 or reply.status in TRANSIENT:
            raise self._http.refused(reply)
        ids = model_ids(reply)
        if ids is None:
            return await self._probe_by_asking("it lists no models")
        if not _serves(self._config.model, ids):
            raise self._http.unknown_model(ids)
        return f"{self._base_url} serves {self._config.model!r}."

    async def close(self) -> None:
        """Release connections; a later ``generate`` opens new ones."""
        # Locks belong to the loop that they were waited for in.
        self._models_lock = self._many_lock = None
        await self._http.close()

    def body(self, request: Request, count: int = 1) -> dict[str, object]:
        """Return what is sent for a request, as this server is known to take it."""
        return self._body(request, count, self._dialect)

    async def _probe_by_asking(self, what: str) -> str:
        few = replace(self._config.sampling.frozen(), max_tokens=_PROBE_TOKENS)
        await answer_of(self, Request((Message("user", "Hi"),), few, replicate=0, stage="probe", index=0, label=""))
        return f"{self._base_url} answered for {self._config.model!r} ({what})."

    async def _ask(self, request: Request, count: int) -> Reply:
        """Return a 2xx, or the 400 of a provider that withholds the answer or refuses several of them."""
        dialect = self._dialect
        reply = await self._http.exchange("POST", self._path, self._body(request, count, dialect))
        if reply.ok or _is_withheld(reply) or (count > 1 and _refuses_many(reply)):
            return reply
        learned = self._learned(reply, request, dialect) if reply.status in _REFUSALS else None
        if learned is None:
            raise await self._not_found(reply) if reply.status in {404, 405} else self._refused(reply, request)
        self._dialect = self._dialect.joined(learned)
        raise self._ask_again(reply)

    def _ask_again(self, reply: Reply) -> AskAgainError:
        said, _ = server_message(reply.text)
        return AskAgainError(f"{self._base_url} wants to be asked in another way (HTTP {reply.status}: {said!r}).")

    def _learned(self, reply: Reply, request: Request, dialect: _Dialect) -> _Dialect | None:
        """Return how to ask instead, or ``None`` where nothing can be left out without changing the answer."""
        said, _ = server_message(reply.text)
        if dialect.limit == "max_tokens" and "max_completion_tokens" in reply.text:
            return replace(dialect, limit="max_completion_tokens")
        for name in _harmless(request):
            if name not in dialect.without and re.search(rf"\b{name}\b", said):
                return replace(dialect, without=dialect.without | {name})
        form = dialect.form
        if self._config.structured == "json" and form + 1 < len(_FORMATS) and _FORMAT_WORDS.search(said):
            return replace(dialect, form=form + 1)
        return None

    def _body(self, request: Request, count: int, dialect: _Dialect) -> dict[str, object]:
        sampling = request.sampling
        structured = self._config.structured == "json"
        plain = not structured
        body: dict[str, object] = {
            "model": self._config.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages] if plain else asked(request.messages),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            dialect.limit: sampling.max_tokens,
            "seed": request_seed(request.key(self._identity)),
        }
        # OpenAI refuses keys that it does not know, vLLM and llama.cpp take these two.
        if sampling.min_p != 0.0:
            body["min_p"] = sampling.min_p
        if sampling.repetition_penalty != 1.0:
            body["repetition_penalty"] = sampling.repetition_penalty
        if count > 1:
            body["n"] = count
        form = _FORMATS[dialect.form] if structured else None
        if form is not None:
            body["response_format"] = form
        for name in dialect.without:
            del body[name]
        return body

    async def _many(self, requests: Sequence[Request]) -> list[Response]:
        reply = await self._ask(requests[0], len(requests))
        if _is_withheld(reply):
            return [_withheld(reply) for _ in requests]
        answers = read_completion(reply.text, len(requests)) if reply.ok else []
        self._many_works = len(answers) == len(requests)
        if not self._many_works:
            self.rows_limit = 1
        if not answers:
            raise self._ask_again(reply)
        return answers

    def _refused(self, reply: Reply, request: Request) -> TeacherError:
        said, _ = server_message(reply.text)
        fixed = [name for name in ("temperature", "top_p") if re.search(rf"\b{name}\b", said)]
        if reply.status in _REFUSALS and fixed:
            name = fixed[0]
            what = f"{self._base_url}: {self._config.model!r} refused {name} {getattr(request.sampling, name):g}: {said!r}."
            return PermanentError(what, hint=f"Set teacher.sampling.{name}: 1.0, it is left out then.", kind="refused")
        return self._http.refused(reply)

    async def _not_found(self, reply: Reply) -> TeacherError:
        self._models_lock = lock = self._models_lock or Lock()
        async with lock:
            ids = self._models
            if ids is None:
                if self._config.api_version is None:
                    with contextlib.suppress(TeacherError):
                        ids = model_ids(await self._http.exchange("GET", "/models"))
                self._models = ids or []
        if ids and not _serves(self._config.model, ids):
            return self._http.unknown_model(ids)
        message, _ = server_message(reply.text)
        what = f"{self._base_url}{self._path}, model {self._config.model!r}: not found (HTTP {reply.status}: {message!r})."
        hint = "Check teacher.model and teacher.base_url, which mostly ends in /v1."
        if self._config.api_version is not None:
            hint = "Check teacher.api_version, teacher.base_url and teacher.model, which is the name of the deployment."
        return PermanentError(what, hint=hint, kind="refused")


def request_seed(key: str) -> int:
    """Return the sampling seed of a request: 31 bits of its key (64 hex digits of a sha256)."""
    return int(key[:8], 16) >> 1


def model_ids(reply: Reply) -> list[str] | None:
    """Return the listed models; ``None`` where there is no list, or only a part of one."""
    value = parsed_json(reply.text) if reply.status == 200 else None
    if not isinstance(value, dict) or value.get("has_more") or not isinstance(value.get("data"), list):
        return None
    return [str(row["id"]) for row in value["data"] if isinstance(row, dict) and "id" in row] or None


def read_completion(raw: str, most: int = 1) -> list[Response]:
    """Return the answers in a completion's body, at least one.

    Args:
        raw: the body.
        most: how many choices to read.

    Raises:
        TransientError: it holds none.
    """
    value = parsed_json(raw)
    body = value if isinstance(value, dict) else {}
    choices = body.get("choices")
    found = [choice for choice in choices if _is_answer(choice)][:most] if isinstance(choices, list) else []
    if not found:
        said, _ = server_message(raw)
        what = "no choices" if body else "no valid JSON"
        hint = "If it persists, look at the server's log."
        raise TransientError(f"the answer holds {what}: {said!r}.", hint=hint, kind="damaged")
    usages = _split(_usage(body.get("usage")), len(found))
    # Each row keeps its own choice; the whole body with every row would grow with their square.
    raws = [raw] if len(found) == 1 else [json.dumps({**body, "choices": [choice]}) for choice in found]
    return [_response(choice, usage, text) for choice, usage, text in zip(found, usages, raws, strict=True)]


def _path(config: TeacherConfig) -> str:
    """Return where completions are asked for, below the base URL."""
    if config.api_version is None:
        return "/chat/completions"
    version = f"?api-version={quote(config.api_version, safe='')}"
    if str(config.base_url).rstrip("/").endswith("/v1"):
        return f"/chat/completions{version}"
    return f"/openai/deployments/{quote(config.model, safe='')}/chat/completions{version}"


def _harmless(request: Request) -> list[str]:
    """Return parameters whose absence leaves the distribution of the answer as it is."""
    sampling = request.sampling
    return ["seed", *(name for name in ("temperature", "top_p") if getattr(sampling, name) == 1.0)]


def _is_withheld(reply: Reply) -> bool:
    return reply.status == 400 and server_message(reply.text)[1].startswith("content_")


def _refuses_many(reply: Reply) -> bool:
    """Tell a refusal of ``n``, for instance llama.cpp's "Only one completion choice is allowed"."""
    return reply.status in _REFUSALS and bool(re.search(r"\bn\b|\bchoices?\b", server_message(reply.text)[0]))


def _withheld(reply: Reply) -> Response:
    return Response(text="", finish_reason="refusal", raw=reply.text)


def _serves(model: str, ids: list[str]) -> bool:
    """Tell whether a model is listed, also as ``models/NAME`` (Gemini) or ``NAME:latest`` (Ollama)."""
    return any(model in {name, name.removeprefix("models/"), name.removesuffix(":latest")} for name in ids)


def _is_answer(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict)


def _response(choice: dict[str, Any], usage: Usage, raw: str) -> Response:
    message = choice["message"]
    refusal = message.get("refusal")
    finish = "refusal" if refusal else _FINISH.get(str(choice.get("finish_reason")), "stop")
    return Response(text=_content(message.get("content") or refusal), finish_reason=finish, usage=usage, raw=raw)


def _content(content: object) -> str:
    """Return the answer proper: a string, or the text parts among parts (thinking left out)."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(str(part.get("text", "")) for part in parts)
    return well_formed(content) if isinstance(content, str) else ""


def _usage(value: object) -> Usage:
    counts = value if isinstance(value, dict) else {}
    numbers = (counts.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return Usage(*(n if isinstance(n, int) and n > 0 else 0 for n in numbers))


def _split(usage: Usage, parts: int) -> list[Usage]:
    """Return equal shares of what was counted; the first ones take what is left over."""
    read, written = divmod(usage.prompt_tokens, parts), divmod(usage.completion_tokens, parts)
    return [Usage(read[0] + (i < read[1]), written[0] + (i < written[1])) for i in range(parts)]
