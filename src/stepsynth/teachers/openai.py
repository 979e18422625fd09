"""A teacher behind any server that speaks OpenAI's chat completions.

    teacher = OpenAITeacher(config)      # reads the key's variable, opens nothing yet
    await teacher.probe()                # is it there, does it know us, has it the model?
    response = await teacher.generate(request)

One ``generate`` is one attempt: no retry, cache or log in here, they have one owner elsewhere.
Every failure becomes a `TransientError` or a `PermanentError` that says what to do. The key is
held in a ``SecretStr`` and cut out of all that a server sends back before anything else sees it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import re
import time
from asyncio import Lock, get_running_loop
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import SecretStr

from stepsynth.errors import ConfigError, PermanentError, TeacherError, TransientError, did_you_mean
from stepsynth.types import FinishReason, Message, Request, Response, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from stepsynth.config import TeacherConfig

__all__ = ["OpenAITeacher", "request_seed"]

MAX_BODY_BYTES = 16 * 1024 * 1024
CONNECT_TIMEOUT_S = 10.0
MESSAGE_CHARS = 200
# Local servers take words such as EMPTY as their key; cutting those out would damage answers.
SCRUBBED_KEY_CHARS = 16
_TRANSIENT = frozenset({408, 409, 425, 429, *range(500, 600)})
_CODES = ("insufficient_quota", "content_filter", "content_policy_violation")
_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|gsk|xai|hf)[-_][\w*.-]{6,}|\bAIza[\w-]{10,}|\bBearer\s+\S+", re.IGNORECASE)
_FINISH: dict[str, FinishReason] = {"length": "length", "max_tokens": "length", "content_filter": "refusal", "refusal": "refusal"}


@dataclass(frozen=True, slots=True)
class _Reply:
    """A whole HTTP answer, its text without the key."""

    status: int
    headers: Mapping[str, str]
    text: str


class OpenAITeacher:
    """Chat completions over one shared aiohttp session.

    Args:
        config: ``base_url``, ``model``, ``api_key_env`` (``None`` sends no Authorization header),
            ``concurrency`` (connections) and ``timeout_s`` (seconds for one attempt) are used.

    Raises:
        ConfigError: the variable that ``api_key_env`` names is unset, empty or not a header value.
    """

    def __init__(self, config: TeacherConfig) -> None:
        if not config.base_url:
            raise ConfigError("teacher.base_url is missing.", hint="Example: https://api.openai.com/v1")
        self._config = config
        self._base_url = config.base_url.rstrip("/")
        self._key = _read_key(config.api_key_env)
        self._limit_name = "max_tokens"
        self._open_session: aiohttp.ClientSession | None = None
        self._loop: object = None
        self._models: list[str] | None = None
        self._models_lock = Lock()

    async def generate(self, request: Request) -> Response:
        """Answer one request with one attempt.

        A server that wants ``max_completion_tokens`` is asked once more and remembered.

        Args:
            request: its messages are sent as they are; its key gives the ``seed``.

        Returns:
            The answer, possibly with an empty text; ``refusal`` where the provider withheld it.

        Raises:
            TransientError: overload, time-out, lost connection, damaged answer.
            PermanentError: wrong key, unknown model, refused request, answer over 16 MB.
        """
        limit_name = self._limit_name
        reply = await self._exchange("POST", "/chat/completions", self._body(request, limit_name))
        if reply.status == 400 and limit_name == "max_tokens" and "max_completion_tokens" in reply.text:
            self._limit_name = "max_completion_tokens"
            reply = await self._exchange("POST", "/chat/completions", self._body(request, self._limit_name))
        if 200 <= reply.status < 300:
            return _read_completion(reply)
        if reply.status == 400 and _server_message(reply.text)[1].startswith("content_"):
            return Response(text="", finish_reason="refusal", raw=reply.text)
        if reply.status in {404, 405}:
            raise await self._not_found(reply)
        raise self._refused(reply)

    async def probe(self) -> str:
        """Check server, key and model before anything is spent.

        Asks for the list of models; where there is none, for a completion of one token.

        Returns:
            One sentence on what answered.

        Raises:
            TransientError: the server cannot be reached or is overloaded.
            PermanentError: wrong key, wrong URL or unknown model, with the nearest known one.
        """
        reply = await self._exchange("GET", "/models")
        if reply.status == 401 or reply.status in _TRANSIENT:
            raise self._refused(reply)
        ids = _model_ids(reply)
        if ids is None:
            one = replace(self._config.sampling.frozen(), max_tokens=1)
            await self.generate(Request((Message("user", "Hi"),), one, replicate=0, stage="probe", index=0, label=""))
            return f"{self._base_url} answered for {self._config.model!r} (it lists no models)."
        if not _serves(self._config.model, ids):
            raise self._unknown_model(ids)
        return f"{self._base_url} serves {self._config.model!r}."

    async def close(self) -> None:
        """Release connections; a later ``generate`` opens new ones."""
        session, self._open_session = self._open_session, None
        if session is not None:
            await session.close()

    def _body(self, request: Request, limit_name: str) -> dict[str, object]:
        sampling = request.sampling
        body: dict[str, object] = {
            "model": self._config.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            limit_name: sampling.max_tokens,
            "seed": request_seed(request.key(self._config.identity())),
        }
        # OpenAI refuses keys that it does not know, vLLM and llama.cpp take these two.
        if sampling.min_p != 0.0:
            body["min_p"] = sampling.min_p
        if sampling.repetition_penalty != 1.0:
            body["repetition_penalty"] = sampling.repetition_penalty
        return body

    def _session(self) -> aiohttp.ClientSession:
        import aiohttp

        loop = get_running_loop()
        if self._open_session is None or self._open_session.closed or self._loop is not loop:
            headers = {"Content-Type": "application/json"}
            if self._key is not None:
                headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
            self._open_session = aiohttp.ClientSession(
                headers=headers,
                connector=aiohttp.TCPConnector(limit=self._config.concurrency),
                # `connect` would count the wait for a free connection too.
                timeout=aiohttp.ClientTimeout(total=self._config.timeout_s, sock_connect=CONNECT_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            self._loop, self._models_lock = loop, Lock()
        return self._open_session

    async def _exchange(self, method: str, path: str, body: dict[str, object] | None = None) -> _Reply:
        """Send once; raise outside of the handler, so that no library frame hangs on our error."""
        import aiohttp

        try:
            outcome = await self._send(method, path, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            outcome = self._network_error(error)
        if isinstance(outcome, TeacherError):
            raise outcome
        return outcome

    async def _send(self, method: str, path: str, body: dict[str, object] | None) -> _Reply | TeacherError:
        proxy, proxy_auth = _proxy(self._base_url)
        # ASCII escapes carry any text, lone surrogates included, and decode to the same text.
        data = None if body is None else json.dumps(body).encode("ascii")
        async with self._session().request(
            method, self._base_url + path, data=data, allow_redirects=False, proxy=proxy, proxy_auth=proxy_auth
        ) as response:
            received = bytearray()
            async for chunk in response.content.iter_chunked(65536):
                received += chunk
                if len(received) > MAX_BODY_BYTES:
                    response.close()
                    what = f"{self._base_url} sent more than {MAX_BODY_BYTES // 2**20} MB as one answer, the rest was not read."
                    return PermanentError(what, hint="Check that teacher.base_url is a chat completions server.")
            headers = {name.lower(): self._scrub(value) for name, value in response.headers.items()}
            return _Reply(response.status, headers, self._scrub(received.decode("utf-8", "replace")))

    def _scrub(self, text: str) -> str:
        """Cut the key out of what a server echoed: plain, URL-encoded and in base64."""
        key = self._key.get_secret_value() if self._key is not None else ""
        if len(key) < SCRUBBED_KEY_CHARS:
            return text
        encoded = base64.b64encode(key.encode()).decode().rstrip("=")
        for spelling in (key, quote(key, safe=""), encoded):
            text = text.replace(spelling, "[key]")
        return text

    def _network_error(self, error: Exception) -> TeacherError:
        """Convert; the library's own words are left out, they may hold headers or bodies."""
        import aiohttp

        url, kind = self._base_url, type(error).__name__
        reachable = "Check that the server runs and that teacher.base_url is right."
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return PermanentError(f"{url}: no trusted TLS connection ({kind}).", hint="Check the certificate or SSL_CERT_FILE.")
        if isinstance(error, aiohttp.InvalidURL):
            return PermanentError(f"{url!r} is not a URL that can be asked.", hint="Correct teacher.base_url.")
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return TransientError(f"{url} did not accept a connection within {CONNECT_TIMEOUT_S:g} s.", hint=reachable)
        if isinstance(error, TimeoutError):
            return TransientError(
                f"{url} sent no whole answer within {self._config.timeout_s:g} s; the answer may be billed all the same.",
                hint="Raise teacher.timeout_s or lower teacher.concurrency.",
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else kind
            return TransientError(f"cannot connect to {url} ({reason}).", hint=reachable)
        what = "broke off in mid-answer" if isinstance(error, aiohttp.ClientPayloadError) else "dropped the connection"
        return TransientError(f"{url} {what} ({kind}).", hint="If it persists, look at the server's log.")

    def _refused(self, reply: _Reply) -> TeacherError:
        """Return the error for a status that is not 2xx; 404 has its own question to ask first."""
        status, url, variable = reply.status, self._base_url, self._config.api_key_env
        message, code = _server_message(reply.text)
        # What a 401 says is mostly the key itself, partly masked.
        said = f" (HTTP {status}: {message!r})" if message and status != 401 else f" (HTTP {status})"
        if status in {401, 403} and variable is None:
            hint = "Set teacher.api_key_env to the name of the environment variable that holds it."
            return PermanentError(f"{url} wants a key{said}.", hint=hint)
        if status in {401, 403}:
            hint = f"Check that {variable} holds a valid key of this server that may use {self._config.model!r}."
            return PermanentError(f"{url} refused the key in {variable}{said}.", hint=hint)
        if status == 429 and code == "insufficient_quota":
            return PermanentError(f"{url}: the account has no quota left{said}.", hint="Add credit, then run again.")
        if status in _TRANSIENT:
            hint = "If it persists, lower teacher.concurrency or look at the server's status."
            return TransientError(f"{url} could not answer now{said}.", hint=hint, retry_after=_retry_after(reply.headers))
        if 300 <= status < 400:
            target = _KEY_LIKE.sub("[key]", reply.headers.get("location", "").partition("?")[0])[:MESSAGE_CHARS]
            what = f"{url} redirects to {target!r} (HTTP {status}); redirects are not followed, they would carry the key along."
            return PermanentError(what, hint="Write the final address into teacher.base_url.")
        return PermanentError(f"{url} refused the request{said}.", hint="Change teacher.model or teacher.sampling.")

    async def _not_found(self, reply: _Reply) -> TeacherError:
        async with self._models_lock:
            ids = self._models
            if ids is None:
                with contextlib.suppress(TeacherError):
                    ids = _model_ids(await self._exchange("GET", "/models"))
                self._models = ids or []
        if ids and not _serves(self._config.model, ids):
            return self._unknown_model(ids)
        message, _ = _server_message(reply.text)
        what = f"{self._base_url}/chat/completions, model {self._config.model!r}: not found (HTTP {reply.status}: {message!r})."
        return PermanentError(what, hint="Check teacher.model and teacher.base_url, which mostly ends in /v1.")

    def _unknown_model(self, ids: list[str]) -> PermanentError:
        model = self._config.model
        hint = did_you_mean(model, ids)
        if len(hint) > MESSAGE_CHARS:
            hint = f"{hint[:MESSAGE_CHARS]}... ({len(ids)} models)"
        return PermanentError(f"{self._base_url} has no model {model!r}.", hint=hint)


def request_seed(key: str) -> int:
    """Return the sampling seed of a request: 31 bits of its key (64 hex digits of a sha256)."""
    return int(key[:8], 16) >> 1


def _read_key(variable: str | None) -> SecretStr | None:
    if variable is None:
        return None
    # Wrapped at once: a traceback with local variables must not show it.
    key = SecretStr(os.environ.get(variable, "").strip())
    if not key.get_secret_value():
        raise ConfigError(
            f"the environment variable {variable!r} with the teacher's key is not set.",
            hint=f"Run: export {variable}=... (or set teacher.api_key_env to null for a server without keys).",
        )
    if not (key.get_secret_value().isascii() and key.get_secret_value().isprintable()):
        raise ConfigError(f"the key in {variable!r} holds characters that no HTTP header can carry.", hint="Export it again.")
    return key


def _proxy(url: str) -> tuple[str | None, aiohttp.BasicAuth | None]:
    """Return the proxy that the environment asks for.

    aiohttp's ``trust_env`` would also read ``~/.netrc`` for every request and send what it finds.
    """
    import aiohttp
    from yarl import URL

    parts = urlsplit(url)
    host = parts.hostname or ""
    found = getproxies().get(parts.scheme)
    if not found or host in {"localhost", "::1"} or host.startswith("127.") or proxy_bypass(host):
        return None, None
    proxy = URL(found if "//" in found else f"http://{found}")
    auth = aiohttp.BasicAuth(proxy.user, proxy.password or "") if proxy.user else None
    return str(proxy.with_user(None)), auth


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return seconds to wait, from seconds or an HTTP date; ``None`` for anything else."""
    value = headers.get("retry-after", "").strip()
    with contextlib.suppress(ValueError):
        seconds = float(value)
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None


def _parsed(text: str) -> object:
    """Return the JSON value, or ``None``: hostile nesting and endless digits included."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _server_message(text: str) -> tuple[str, str]:
    """Return what a server says of an error, in one short line without keys, and its code."""
    value = _parsed(text)
    body = value if isinstance(value, dict) else {}
    error = body.get("error", body)
    fields = error if isinstance(error, dict) else {"message": error}
    message = fields.get("message") or fields.get("detail") or (text if value is None else "")
    message = message if isinstance(message, str) else json.dumps(message)
    line = " ".join(_KEY_LIKE.sub("[key]", message[: 4 * MESSAGE_CHARS]).split())
    line = line if len(line) <= MESSAGE_CHARS else line[: MESSAGE_CHARS - 3] + "..."
    return line, next((str(fields[name]) for name in ("code", "type") if fields.get(name) in _CODES), "")


def _model_ids(reply: _Reply) -> list[str] | None:
    """Return the listed models; ``None`` where there is no list, or only a part of one."""
    value = _parsed(reply.text) if reply.status == 200 else None
    if not isinstance(value, dict) or value.get("has_more") or not isinstance(value.get("data"), list):
        return None
    return [str(row["id"]) for row in value["data"] if isinstance(row, dict) and "id" in row] or None


def _serves(model: str, ids: list[str]) -> bool:
    """Tell whether a model is listed, also as ``models/NAME`` (Gemini) or ``NAME:latest`` (Ollama)."""
    return any(model in {name, name.removeprefix("models/"), name.removesuffix(":latest")} for name in ids)


def _read_completion(reply: _Reply) -> Response:
    value = _parsed(reply.text)
    body = value if isinstance(value, dict) else {}
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        said, _ = _server_message(reply.text)
        what = "no choices" if body else "no valid JSON"
        raise TransientError(f"the answer holds {what}: {said!r}.", hint="If it persists, look at the server's log.")
    refusal = message.get("refusal")
    text = _content(message.get("content") or refusal)
    finish = "refusal" if refusal else _FINISH.get(str(choice.get("finish_reason")), "stop")
    return Response(text=text, finish_reason=finish, usage=_usage(body.get("usage")), raw=reply.text)


def _content(content: object) -> str:
    """Return the answer proper: a string, or the text parts among parts (thinking left out)."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(str(part.get("text", "")) for part in parts)
    return _well_formed(content) if isinstance(content, str) else ""


def _well_formed(text: str) -> str:
    """Replace lone surrogates, which no file or data base takes; ``raw`` keeps what was sent."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _usage(value: object) -> Usage:
    counts = value if isinstance(value, dict) else {}
    numbers = (counts.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return Usage(*(n if isinstance(n, int) and n > 0 else 0 for n in numbers))
