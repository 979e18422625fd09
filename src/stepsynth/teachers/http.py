"""The HTTP client of all server teachers: one session, one attempt, one place that knows the key.

    http = HttpClient(config, base_url, read_key(config.api_key_env), key_header=("Authorization", "Bearer "))
    reply = await http.exchange("POST", "/chat/completions", body)
    if reply.status != 200:
        raise http.refused(reply)

An exchange is one attempt. Every failure becomes a `TransientError` or a `PermanentError`; its
``kind`` says how to count it, and its ``maybe_billed`` whether the whole request was sent before
the answer was lost. The key is held in a ``SecretStr`` and cut out of everything that a server
sends back; redirects are refused, because they would pass the key on.
"""

from __future__ import annotations

import json
from asyncio import get_running_loop
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO

from stepsynth.config.teacher import UNNAMED
from stepsynth.errors import PermanentError, TeacherError, did_you_mean
from stepsynth.teachers.failures import network_error, web_page
from stepsynth.teachers.headers import read_headers
from stepsynth.teachers.proxies import check_proxy, find_proxy
from stepsynth.teachers.redaction import MESSAGE_CHARS, is_page, scrubbed
from stepsynth.teachers.replies import Reply, refusal_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    import aiohttp
    from pydantic import SecretStr
    from yarl import URL

    from stepsynth.config import TeacherConfig
    from stepsynth.teachers.proxies import Proxy

__all__ = ["MAX_BODY_BYTES", "HttpClient"]

MAX_BODY_BYTES = 16 * 1024 * 1024
# Idle connections are closed before common servers close them (uvicorn after 5 s): a request that
# crosses with their FIN is lost, and it is unknown whether it was read.
_IDLE_S = 4.0
_JSON = {"Content-Type": "application/json"}
_REMEMBERED_PATHS = 64


@dataclass(frozen=True, slots=True)
class _Route:
    """The URL of a path, and the proxy that the environment sets for it."""

    url: URL
    via: Proxy | None

    @property
    def proxied(self) -> dict[str, Any]:
        """The proxy as arguments for aiohttp."""
        if self.via is None:
            return {}
        # aiohttp sends this header to the proxy only, as Proxy-Authorization.
        headers = {"Authorization": self.via.sign_in} if self.via.user else None
        return {"proxy": self.via.url, "proxy_headers": headers}


class HttpClient:
    """One aiohttp session per event loop, opened on first use.

    Args:
        config: ``concurrency`` (connections), ``timeout_s`` (seconds for one attempt),
            ``connect_timeout_s`` (seconds for a connection); ``model`` and ``api_key_env`` for hints.
        base_url: the prefix of all paths, without a trailing slash.
        key: sent with every request; ``None`` for no key.
        key_header: the header that carries the key, and the prefix before it.
        headers: additional headers of every request.

    Attributes:
        base_url: as given.
        watch: called with the method, path and reply (with headers) of every exchange; for `check`.

    Raises:
        ConfigError: the environment sets a proxy that is not supported.
    """

    def __init__(
        self,
        config: TeacherConfig,
        base_url: str,
        key: SecretStr | None,
        *,
        key_header: tuple[str, str] = ("Authorization", "Bearer "),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._config = config
        self._key = key
        self._key_header = key_header
        self._headers = dict(headers or {})
        self._own_headers = read_headers(config)
        self._opened: aiohttp.ClientSession | None = None
        self._loop: object = None
        self._routes: dict[str, _Route] = {}
        self.base_url = base_url
        self.watch: Callable[[str, str, Reply], object] | None = None
        check_proxy(base_url)

    async def exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        form: Mapping[str, str | tuple[str, bytes | BinaryIO]] | None = None,
        timeout_s: float | None = None,
    ) -> Reply:
        """Send a request once and read the whole answer, whatever its status.

        Args:
            method: the HTTP method.
            path: begins with a slash; may hold a query.
            body: sent as JSON.
            form: sent as multipart/form-data instead of a body; a pair is a file's name and content.
            timeout_s: replaces the config's, for uploads.

        Raises:
            TransientError: a time-out, a lost or refused connection, or a body that broke off.
            PermanentError: no trusted connection, no usable URL, or more than 16 MB.
        """
        import aiohttp

        # Raised outside the handler, so that our error keeps no library frame with headers in it.
        state = SimpleNamespace(sent=False)
        try:
            outcome = await self._send(method, path, _payload(body, form), timeout_s, state)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            outcome = network_error(error, self._config, self.base_url, sent=state.sent, timeout_s=timeout_s)
        # Some servers send a page instead of a list of models; a page is never an answer.
        if (
            isinstance(outcome, Reply)
            and outcome.ok
            and is_page(outcome.text)
            and (body is not None or find_proxy(self.base_url))
        ):
            outcome = web_page(self.base_url, outcome.status, outcome.text)
        if isinstance(outcome, TeacherError):
            raise outcome
        if self.watch is not None:
            self.watch(method, path, outcome)
        return outcome

    async def lines(self, path: str) -> AsyncIterator[str]:
        """Yield the lines of a body of any length, without line endings; at most 16 MB are held.

        Raises:
            TransientError: as for `exchange`; lines yielded before are good.
            PermanentError: as for `exchange`, or a line has more than 16 MB.
        """
        import aiohttp

        failure: TeacherError | None = None
        pending = bytearray()
        # A long body has no overall time-out, only one for each pause.
        patience = aiohttp.ClientTimeout(sock_connect=self._config.connect_timeout_s, sock_read=self._config.timeout_s)
        try:
            session, route = self._session(), self._route(path)
            async with session.get(
                route.url, headers=self._sent_headers(), allow_redirects=False, timeout=patience, **route.proxied
            ) as response:
                if not 200 <= response.status < 300:
                    read = await self._read(response)
                    failure = read if isinstance(read, TeacherError) else self.refused(read)
                else:
                    async for chunk in response.content.iter_any():
                        pending += chunk
                        if b"\n" in chunk:
                            *whole, rest = pending.split(b"\n")
                            pending = bytearray(rest)
                            for line in whole:
                                yield self.scrub(line.decode("utf-8", "replace")).removesuffix("\r")
                        if len(pending) > MAX_BODY_BYTES:
                            response.close()
                            failure = self._too_long()
                            break
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = network_error(error, self._config, self.base_url, sent=False, timeout_s=None)
        if failure is not None:
            raise failure
        if pending:
            yield self.scrub(pending.decode("utf-8", "replace")).removesuffix("\r")

    async def close(self) -> None:
        """Release connections; a later exchange opens new ones."""
        session, self._opened = self._opened, None
        if session is not None:
            await session.close()

    def scrub(self, text: str) -> str:
        """Cut the key and the values of own headers, plain, URL-encoded or in base64, out of a server's text."""
        for secret in (self._key, *self._own_headers.values()):
            text = scrubbed(text, secret)
        return text

    def refused(self, reply: Reply) -> TeacherError:
        """Return the error for a status that is not 2xx."""
        return refusal_error(reply, self._config, self.base_url)

    def unknown_model(self, ids: Iterable[str]) -> PermanentError:
        """Return the error for a model that a server does not list, with the nearest names that it lists."""
        listed, model = list(ids), self._config.model
        hint = did_you_mean(model, listed)
        if len(hint) > MESSAGE_CHARS:
            hint = f"{hint[:MESSAGE_CHARS]}... ({len(listed)} models)"
        if model == UNNAMED:
            hint = f"That is asked for where teacher.model is not set; name one of the server's. {hint}"
        return PermanentError(f"{self.base_url} has no model {model!r}.", hint=hint, kind="refused", final=True)

    def _session(self) -> aiohttp.ClientSession:
        import aiohttp

        loop = get_running_loop()
        if self._opened is None or self._opened.closed or self._loop is not loop:
            trace = aiohttp.TraceConfig()
            trace.on_request_chunk_sent.append(_mark_sent)
            self._opened = aiohttp.ClientSession(
                # Not the key: aiohttp also sends a session's headers to a proxy that opens a tunnel. Short answers gain nothing
                # from compression, and without it a few bytes cannot become gigabytes.
                headers={"Accept-Encoding": "identity"},
                connector=aiohttp.TCPConnector(limit=self._config.concurrency, keepalive_timeout=_IDLE_S),
                # `connect` would also count the wait for a free connection.
                timeout=aiohttp.ClientTimeout(total=self._config.timeout_s, sock_connect=self._config.connect_timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trace_configs=[trace],
            )
            self._loop = loop
        return self._opened

    def _sent_headers(self) -> dict[str, str]:
        """Return the headers of a request; they go through a proxy's tunnel, not to the proxy."""
        own = {name: value.get_secret_value() for name, value in self._own_headers.items()}
        found = {**self._headers, **own}
        if self._key is not None:
            name, before = self._key_header
            found[name] = before + self._key.get_secret_value()
        return found

    def _route(self, path: str) -> _Route:
        """Return the route of a path; cached for repeated paths."""
        known = self._routes.get(path)
        if known is None:
            from yarl import URL

            if len(self._routes) >= _REMEMBERED_PATHS:
                self._routes.clear()
            known = self._routes[path] = _Route(URL(self.base_url + path), find_proxy(self.base_url))
        return known

    async def _send(
        self, method: str, path: str, data: bytes | aiohttp.FormData | None, timeout_s: float | None, state: SimpleNamespace
    ) -> Reply | TeacherError:
        import aiohttp

        session, route = self._session(), self._route(path)
        extra: dict[str, Any] = {}
        if timeout_s is not None:
            extra["timeout"] = aiohttp.ClientTimeout(total=timeout_s, sock_connect=self._config.connect_timeout_s)
        async with session.request(
            method,
            route.url,
            data=data,
            headers=self._sent_headers() | (_JSON if isinstance(data, bytes) else {}),
            allow_redirects=False,
            trace_request_ctx=state,
            **route.proxied,
            **extra,
        ) as response:
            return await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> Reply | TeacherError:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            what = f"{self.base_url} compressed its answer although it was asked not to."
            return PermanentError(
                what, hint="Turn off compression in the server or in a proxy in front of it.", kind="damaged", final=True
            )
        received = await response.content.readany()
        if not response.content.at_eof():
            rest = bytearray(received)
            while chunk := await response.content.readany():
                rest += chunk
                if len(rest) > MAX_BODY_BYTES:
                    response.close()
                    return self._too_long()
            received = bytes(rest)
        status = response.status
        headers: dict[str, str] = {}
        if self.watch is not None or not 200 <= status < 300:
            headers = {name.lower(): self.scrub(value) for name, value in response.headers.items()}
        return Reply(status, self.scrub(received.decode("utf-8", "replace")), headers)

    def _too_long(self) -> PermanentError:
        what = f"{self.base_url} sent more than {MAX_BODY_BYTES // 2**20} MB as one answer; the rest was not read."
        return PermanentError(what, hint="Check that teacher.base_url is right.", kind="damaged")


def _payload(
    body: Mapping[str, object] | None, form: Mapping[str, str | tuple[str, bytes | BinaryIO]] | None
) -> bytes | aiohttp.FormData | None:
    if form is None:
        # ASCII escapes carry any text, lone surrogates included, and decode to the same text.
        return None if body is None else json.dumps(body).encode("ascii")
    import aiohttp

    data = aiohttp.FormData()
    for name, value in form.items():
        if isinstance(value, str):
            data.add_field(name, value)
        else:
            data.add_field(name, value[1], filename=value[0], content_type="application/octet-stream")
    return data


async def _mark_sent(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    """Record that the body was sent: from now on the server may have read the whole request."""
    if (state := context.trace_request_ctx) is not None:
        state.sent = True
