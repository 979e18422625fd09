"""What a failure on the way to a server says: the network, the proxy between, or a page that nobody asked for."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from stepsynth.errors import PermanentError, TransientError
from stepsynth.teachers.error_body import server_message
from stepsynth.teachers.proxies import find_proxy
from stepsynth.teachers.redaction import is_page, parsed_json

if TYPE_CHECKING:
    import aiohttp

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.teachers.proxies import Proxy

__all__ = ["error_in_place_of", "network_error", "proxy_wants_a_password", "web_page"]

# What gateways write in place of an answer. Narrow: a task may be about such errors.
_MOST_CHARS = 20_000
_PAGE_OF_AN_ERROR = re.compile(
    r"\s*<(?:!doctype html|html)\b.{0,2000}<(?:title|h1)[^<>]{0,200}>\s*(?:error\W{1,3})?(?:429|50\d|52\d|"
    r"bad gateway|service (?:temporarily )?unavailable|gateway time-?out|internal server error|too many requests)\b"
    r".*</html>\s*",
    re.IGNORECASE | re.DOTALL,
)
_NAMES = "internal server error|bad gateway|service (?:is )?(?:temporarily )?unavailable|gateway time-?out|too many requests"
_SENTENCE = re.compile(
    rf"(?:error\W{{1,3}})?(?:(?:http )?(?:429|5\d\d)\W{{1,3}})?(?:{_NAMES})"
    r"|error\W{1,3}(?:upstream )?request time(?:d )?out|(?:error\W{1,3})?upstream request time(?:d )?out"
    r"|(?:error\W{1,3})?upstream connect error or disconnect/reset before headers\b.{0,200}|no healthy upstream"
    r"|(?:error\W{1,3})?(?:the )?(?:server|service|model|engine) is (?:currently |temporarily )?"
    r"(?:overloaded|unavailable|too busy)"
    r"(?: with other requests)?(?:[.,;]? please (?:try|retry|wait)[\w ]{0,40})?",
    re.IGNORECASE,
)
_BESIDE_AN_ERROR = frozenset({"error", "code", "status", "type", "success", "request_id", "requestid", "id"})


def error_in_place_of(text: str, asked: str) -> str:
    """Return what a gateway says where a whole answer is nothing but its error; nothing of any other text.

    Args:
        text: of the answer.
        asked: the request's words: labels, gold rows and texts in it may read like that themselves.
    """
    if len(text) > _MOST_CHARS:
        return ""
    whole, words = text.strip(), asked.lower()
    if is_page(whole):
        return whole if "<html" not in words and _PAGE_OF_AN_ERROR.fullmatch(whole) else ""
    if whole[:1] == "{":
        return whole if '"error"' not in words and _is_error(parsed_json(whole)) else ""
    sentence = whole.rstrip(".!").strip()
    return whole if sentence and _SENTENCE.fullmatch(sentence) and sentence.lower() not in words else ""


def _is_error(value: object) -> bool:
    """Tell an object with an error and nothing else."""
    if not isinstance(value, dict) or not {str(name).lower() for name in value} <= _BESIDE_AN_ERROR:
        return False
    error = value.get("error")
    return isinstance(error, dict) and isinstance(error.get("message"), str) and not {"text", "label"} & error.keys()


def network_error(error: Exception, config: TeacherConfig, base_url: str, *, sent: bool, timeout_s: float | None) -> TeacherError:
    """Return our error for one of the library's, whose own words are left out: they may hold headers or bodies.

    Args:
        error: of aiohttp or the system.
        config: ``timeout_s`` and ``connect_timeout_s`` are named.
        base_url: of the server.
        sent: whether the request had left whole.
        timeout_s: where it was another than the config's.
    """
    import aiohttp

    via, name = find_proxy(base_url), type(error).__name__
    if via is not None and isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return _proxy_error(error, via, base_url)
    url = base_url if via is None else f"{base_url} (through {via.named})"
    reachable = "Check that the server runs and that teacher.base_url is right."
    if via is not None:
        reachable = f"Check the proxy and teacher.base_url, or {via.way_around}."
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        hint = "Check the certificate or SSL_CERT_FILE."
        return PermanentError(f"{url}: no trusted TLS connection ({name}).", hint=hint, kind="connection", final=True)
    if isinstance(error, aiohttp.InvalidURL) or not isinstance(error, aiohttp.ClientError | OSError):
        what = f"{base_url!r} is not a URL that can be asked."
        return PermanentError(what, hint="Correct teacher.base_url.", kind="connection", final=True)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        what = f"{url} did not accept a connection within {config.connect_timeout_s:g} s."
        return TransientError(what, hint=reachable, kind="timeout")
    if isinstance(error, TimeoutError):
        what = f"{url} sent no whole answer within {timeout_s or config.timeout_s:g} s"
        billed = "; the answer may be billed all the same." if sent else "."
        hint = "Raise teacher.timeout_s or lower teacher.concurrency."
        return TransientError(what + billed, hint=hint, kind="timeout", maybe_billed=sent)
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else name
        return TransientError(f"cannot connect to {url} ({reason}).", hint=reachable, kind="connection")
    hint = "If it persists, look at the server's log."
    if isinstance(error, aiohttp.ClientPayloadError):
        what = f"{url} broke off in mid-answer ({name})."
        return TransientError(what, hint=hint, kind="damaged", maybe_billed=sent)
    return TransientError(f"{url} dropped the connection ({name}).", hint=hint, kind="connection", maybe_billed=sent)


def web_page(base_url: str, status: int, text: str) -> TransientError:
    """Return the error of a 200 that is a page: a wrong address, or a network's own sign-in page."""
    words = server_message(text)
    via = find_proxy(base_url)
    through = f" through {via.named}" if via is not None else ""
    what = f"{base_url} was asked{through} and sent a web page (HTTP {status}: {words!r}) in place of an answer."
    hint = "Check teacher.base_url, which mostly ends in /v1, and whether this network wants you to sign in first"
    hint += f"; or {via.way_around}." if via is not None else "."
    return TransientError(what, hint=hint, kind="unavailable")


def proxy_wants_a_password(via: Proxy) -> PermanentError:
    """Return the error for a proxy that answers with a 407."""
    hint = f"Write user and password into it (http://USER:PASSWORD@HOST:PORT), or {via.way_around}."
    return PermanentError(f"{via.named} asks for a user and a password (HTTP 407).", hint=hint, kind="refused", final=True)


def _proxy_error(error: aiohttp.ClientError, via: Proxy, url: str) -> TeacherError:
    """Return the error of a proxy that cannot be reached, or that opens no way to the server."""
    status = getattr(error, "status", None)
    if status == 407:
        return proxy_wants_a_password(via)
    if status is not None:
        what = f"{via.named} opens no connection to {url} (HTTP {status})."
        return TransientError(what, hint=f"Check the proxy and teacher.base_url, or {via.way_around}.", kind="connection")
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if number and number > 0 else type(error).__name__
    what = f"cannot connect to {via.named}, through which {url} is asked ({reason})."
    return TransientError(what, hint=f"Check that the proxy runs, or {via.way_around}.", kind="connection")
