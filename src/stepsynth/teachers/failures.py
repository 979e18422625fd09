"""What a failure on the way to a server says: the network, the proxy between, or a page that nobody asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stepsynth.errors import PermanentError, TransientError
from stepsynth.teachers.error_body import server_message
from stepsynth.teachers.proxies import find_proxy

if TYPE_CHECKING:
    import aiohttp

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.teachers.proxies import Proxy

__all__ = ["network_error", "proxy_wants_a_password", "web_page"]


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
