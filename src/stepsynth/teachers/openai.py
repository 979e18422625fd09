"""A teacher for any server with OpenAI's chat completions, Azure included.

    teacher = OpenAITeacher(config)      # reads the key's variable, opens no connection yet
    await teacher.probe()                # checks the address and the list of models
    response = await teacher.generate(request)

One ``generate`` is one attempt: retries, cache and log are elsewhere. A refused parameter that does
not affect the answer is left out from then on (`ChatFormat`), and `RetryModifiedError` makes the
caller send the request again.
"""

from __future__ import annotations

import contextlib
from asyncio import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from stepsynth.errors import ConfigError, PermanentError, TeacherError
from stepsynth.teachers.chat import ChatFormat, Dialect, is_withheld, most_choices, refuses_many, withheld
from stepsynth.teachers.completions import read_choices, read_completion
from stepsynth.teachers.error_body import server_message
from stepsynth.teachers.http import HttpClient
from stepsynth.teachers.redaction import read_key
from stepsynth.teachers.refusals import may_be_the_model
from stepsynth.teachers.replies import PROXY_REFUSES, Reply
from stepsynth.teachers.served import model_ids, not_shown, serves, unlisted, unseen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import TeacherConfig
    from stepsynth.types import Request, Response, Sampling

__all__ = ["OpenAITeacher"]

# Servers without a list of models.
_NO_LIST = frozenset({404, 405, 501})


class OpenAITeacher:
    """Chat completions over one shared HTTP session.

    Args:
        config: ``base_url``, ``model``, ``api_key_env`` (``None`` sends no key), ``api_version``
            (Azure), ``structured``, ``rows_per_request``, and what `HttpClient` needs.

    Attributes:
        http: the session.
        format: the form of requests to this server.
        rows_limit: most rows that one request can give: ``rows_per_request``, or fewer once the
            server was found to ignore ``n`` or to refuse so many.

    Raises:
        ConfigError: the variable that ``api_key_env`` names is unset, empty or not a header value.
    """

    def __init__(self, config: TeacherConfig) -> None:
        if not config.base_url:
            raise ConfigError("teacher.base_url is missing.", hint="Example: https://api.openai.com/v1")
        self._config = config
        self._base_url = config.base_url.rstrip("/")
        azure = config.api_version is not None
        header = ("api-key", "") if azure else ("Authorization", "Bearer ")
        self.http = HttpClient(config, self._base_url, read_key(config.api_key_env), key_header=header)
        self.format = ChatFormat(config)
        self._path = _path(config)
        self._models: list[str] | None = None
        self._models_lock: Lock | None = None
        self._many_lock: Lock | None = None
        self._many_works: bool | None = None
        self.rows_limit = config.rows_per_request

    async def generate(self, request: Request) -> Response:
        """Answer one request with one attempt.

        Args:
            request: its messages are sent unchanged; its key gives the ``seed``.

        Returns:
            The answer, possibly with an empty text; ``refusal`` if the provider withheld it.

        Raises:
            RetryModifiedError: a parameter was refused, and the next request leaves it out.
            TransientError: overload, time-out, lost connection, damaged answer.
            PermanentError: wrong key, unknown model, refused request, answer over 16 MB.
        """
        dialect = self.format.dialect
        reply = await self._ask(request, 1)
        return self._answers(reply, request, 1, dialect)[0] if reply.ok else withheld(reply)

    async def generate_many(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests that differ only in their replicate with one attempt and one HTTP request (``n``).

        The first of them gives the seed. The usage is split so that the shares sum to the server's
        count. If a server gives fewer choices, only the first requests are answered, ``rows_limit``
        becomes 1, and requests are then sent one by one. Until the first answer has shown whether
        ``n`` works, only one request is in flight.

        Args:
            requests: requests with equal messages and sampling.

        Returns:
            At least one answer, for the first of the requests, in order.

        Raises:
            RetryModifiedError: the server refused ``n``, and ``rows_limit`` is now smaller; or as for `generate`.
            TransientError: as for `generate`; none of them is answered.
            PermanentError: as for `generate`; none of them is answered.
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
        """Check the server and the model by the list of models, which costs nothing.

        Only a chat request can show that a key or a model is wrong: many keys may not read the list, and in
        many gateways only the list fails.

        Returns:
            One sentence on what the server lists, or that only a request will show it: not all
            servers have a list, and many serve models that theirs does not name.

        Raises:
            TransientError: the server cannot be reached.
            PermanentError: the URL is wrong, or a proxy refuses.
        """
        model = self._config.model
        if self._config.api_version is not None:
            return f"{self._base_url}: {unseen(model)}"
        reply = await self.http.exchange("GET", "/models")
        if reply.status == PROXY_REFUSES:
            raise self.http.refused(reply)
        if not reply.ok and reply.status not in _NO_LIST:
            return not_shown(self._base_url, model, reply)
        ids = model_ids(reply)
        if ids is None:
            return f"{self._base_url} answered but lists no models: {unseen(model)}"
        if not serves(model, ids):
            return unlisted(self._base_url, model, ids)
        return f"{self._base_url} serves {model!r}."

    async def close(self) -> None:
        """Release connections; a later ``generate`` opens new ones."""
        # Locks belong to the event loop in which they were used.
        self._models_lock = self._many_lock = None
        await self.http.close()

    async def _ask(self, request: Request, count: int) -> Reply:
        """Return a 2xx, or the 400 of a provider that withholds the answer or refuses several answers."""
        dialect = self.format.dialect
        reply = await self.http.exchange("POST", self._path, self.format.body(request, count))
        if reply.ok or is_withheld(reply) or (count > 1 and refuses_many(reply)):
            return reply
        if again := self.format.learn(reply, request.sampling, dialect):
            raise again
        error = self.refused(reply, request.sampling)
        raise await self._not_found(reply, error) if may_be_the_model(reply.status, reply.text) else error

    async def _many(self, requests: Sequence[Request]) -> list[Response]:
        dialect = self.format.dialect
        # Another request may have learned meanwhile that the server gives fewer.
        requests = requests[: max(self.rows_limit, 1)]
        reply = await self._ask(requests[0], len(requests))
        if is_withheld(reply):
            return [withheld(reply) for _ in requests]
        # A choice that failed behind the server still counts.
        came = len(read_choices(reply.text, len(requests))) if reply.ok else 0
        answers = self._answers(reply, requests[0], len(requests), dialect) if reply.ok else []
        if not reply.ok:
            self._fewer(reply, len(requests))
            raise self.format.ask_again(reply)
        self._many_works = came == len(requests)
        if not self._many_works:
            self.rows_limit = 1
        return answers

    def _fewer(self, refusal: Reply, asked: int) -> None:
        """Ask for as many answers as a refusal of ``n`` allows, from now on, and for fewer than were refused."""
        most = min(most_choices(refusal), asked - 1, self.rows_limit)
        self.rows_limit = most
        self._many_works = None if most > 1 else False

    def _answers(self, reply: Reply, request: Request, most: int, dialect: Dialect) -> list[Response]:
        """Read a 2xx; failures inside it are handled by their own codes, and learned from like others."""
        sampling = request.sampling

        def refused(inner: Reply) -> TeacherError:
            if most > 1 and refuses_many(inner):
                self._fewer(inner, most)
                return self.format.ask_again(inner)
            return self.format.learn(inner, sampling, dialect) or self.refused(inner, sampling)

        return read_completion(reply.text, most, refused, "\n".join(m.content for m in request.messages))

    def learned(self) -> dict[str, object]:
        """Return the findings that save later runs from repeating them; see `stepsynth.teachers.learned`."""
        return self.format.learned() | ({"many": False} if self._many_works is False else {})

    def start_with(self, learned: Mapping[str, Any]) -> None:
        """Start with the findings of an earlier run."""
        self.format.start_with(learned)
        if learned.get("many") is False:
            self._many_works, self.rows_limit = False, 1

    @property
    def notes(self) -> list[str]:
        """Messages for the user; the caller that shows them removes them."""
        return self.format.notes

    def refused(self, reply: Reply, sampling: Sampling) -> TeacherError:
        """Return the error for a reply that is not 2xx to a request with this sampling."""
        return self.format.fixed_sampling(reply, sampling) or self.http.refused(reply)

    async def _not_found(self, reply: Reply, error: TeacherError) -> TeacherError:
        self._models_lock = lock = self._models_lock or Lock()
        async with lock:
            ids = self._models
            if ids is None:
                if self._config.api_version is None:
                    with contextlib.suppress(TeacherError):
                        ids = model_ids(await self.http.exchange("GET", "/models"))
                self._models = ids or []
        message = server_message(reply.text)
        if ids and not serves(self._config.model, ids):
            return self.http.unknown_model(ids)
        if reply.status not in {404, 405}:
            return error
        what = f"{self._base_url}{self._path}, model {self._config.model!r}: not found (HTTP {reply.status}: {message!r})."
        hint = "Check teacher.model and teacher.base_url, which usually ends in /v1."
        if self._config.api_version is not None:
            hint = "Check teacher.api_version, teacher.base_url and teacher.model, which is the name of the deployment."
        return PermanentError(what, hint=hint, kind="refused", final=True)


def _path(config: TeacherConfig) -> str:
    """Return the path of chat completions below the base URL."""
    if config.api_version is None:
        return "/chat/completions"
    version = f"?api-version={quote(config.api_version, safe='')}"
    if str(config.base_url).rstrip("/").endswith("/v1"):
        return f"/chat/completions{version}"
    return f"/openai/deployments/{quote(config.model, safe='')}/chat/completions{version}"
