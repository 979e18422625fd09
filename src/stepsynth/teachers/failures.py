"""Errors on the way to a server: the network, a proxy, or a web page instead of an answer."""

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

# Errors that gateways send in place of an answer. The patterns are narrow, because a task may be about such errors.
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
    """Return a gateway's error if it is the whole answer; empty for any other text.

    Args:
        text: the answer's text.
        asked: the request's words, since its labels and gold rows may themselves look like errors.
    """
    if len(text) > _MOST_CHARS:
        return ""
    whole = text.strip()
    if is_page(whole):
        return whole if "<html" not in asked.lower() and _PAGE_OF_AN_ERROR.fullmatch(whole) else ""
    if whole[:1] == "{":
        return whole if '"error"' not in asked.lower() and _is_error(parsed_json(whole)) else ""
    sentence = whole.rstrip(".!").strip()
    return whole if sentence and _SENTENCE.fullmatch(sentence) and sentence.lower() not in asked.lower() else ""


def _is_error(value: object) -> bool:
    """Whether a value is an object with an error and nothing else."""
    if not isinstance(value, dict) or not {str(name).lower() for name in value} <= _BESIDE_AN_ERROR:
        return False
    error = value.get("error")
    return isinstance(error, dict) and isinstance(error.get("message"), str) and not {"text", "label"} & error.keys()


def network_error(error: Exception, config: TeacherConfig, base_url: str, *, sent: bool, timeout_s: float | None) -> TeacherError:
    """Convert a library's error to ours, without its message, which may hold headers or bodies.

    Args:
        error: from aiohttp or the system.
        config: ``timeout_s`` and ``connect_timeout_s`` go into the message.
        base_url: the server's address.
        sent: whether the whole request was sent.
        timeout_s: the time-out, if it differs from the config's.
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
        what = f"{base_url!r} is not a usable URL."
        return PermanentError(what, hint="Correct teacher.base_url.", kind="connection", final=True)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        what = f"{url} did not accept a connection within {config.connect_timeout_s:g} s."
        return TransientError(what, hint=reachable, kind="timeout")
    if isinstance(error, TimeoutError):
        what = f"{url} sent no complete answer within {timeout_s or config.timeout_s:g} s"
        billed = "; the answer may still be billed." if sent else "."
        hint = "Raise teacher.timeout_s or lower teacher.concurrency."
        return TransientError(what + billed, hint=hint, kind="timeout", maybe_billed=sent)
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else name
        return TransientError(f"cannot connect to {url} ({reason}).", hint=reachable, kind="connection")
    hint = "If it persists, look at the server's log."
    if isinstance(error, aiohttp.ClientPayloadError):
        what = f"{url} broke off in the middle of an answer ({name})."
        return TransientError(what, hint=hint, kind="damaged", maybe_billed=sent)
    return TransientError(f"{url} dropped the connection ({name}).", hint=hint, kind="connection", maybe_billed=sent)


def web_page(base_url: str, status: int, text: str) -> TransientError:
    """Return the error for a web page with a 200: a wrong address, or a network's sign-in page."""
    words = server_message(text)
    via = find_proxy(base_url)
    through = f" through {via.named}" if via is not None else ""
    what = f"{base_url} was asked{through} and sent a web page (HTTP {status}: {words!r}) instead of an answer."
    hint = "Check teacher.base_url, which usually ends in /v1, and whether this network requires you to sign in first"
    hint += f"; or {via.way_around}." if via is not None else "."
    return TransientError(what, hint=hint, kind="unavailable")


def proxy_wants_a_password(via: Proxy) -> PermanentError:
    """Return the error for a 407 from a proxy."""
    hint = f"Add them to it (http://USER:PASSWORD@HOST:PORT), or {via.way_around}."
    return PermanentError(f"{via.named} requires a user name and a password (HTTP 407).", hint=hint, kind="refused", final=True)


def _proxy_error(error: aiohttp.ClientError, via: Proxy, url: str) -> TeacherError:
    """Return the error for a proxy that cannot be reached, or that does not connect to the server."""
    status = getattr(error, "status", None)
    if status == 407:
        return proxy_wants_a_password(via)
    if status is not None:
        what = f"{via.named} does not connect to {url} (HTTP {status})."
        return TransientError(what, hint=f"Check the proxy and teacher.base_url, or {via.way_around}.", kind="connection")
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if number and number > 0 else type(error).__name__
    what = f"cannot connect to {via.named}, which is used for {url} ({reason})."
    return TransientError(what, hint=f"Check that the proxy runs, or {via.way_around}.", kind="connection")
