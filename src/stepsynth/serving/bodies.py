"""Reads the body of every request, within its limits, before the framework sees it.

The framework would read a body of any size and wait for it forever.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from stepsynth.serving.failures import note_failure

__all__ = ["BoundedBodies"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# A client that sends a large body reads the answer when it has sent everything, so this much is read and thrown away.
_DISCARDED = 64 * 2**20


class _Gone(Exception):
    """The client went away before its body was here."""


class BoundedBodies:
    """An ASGI middleware: refuses bodies that are too large, too slow or no JSON.

    Args:
        app: the application.
        max_body: bytes.
        seconds: to receive a body.
    """

    def __init__(self, app: App, max_body: int, seconds: float) -> None:
        self._app = app
        self._max_body = max_body
        self._seconds = seconds

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a request on with its whole body, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(scope, receive), self._seconds)
        except TimeoutError:
            await _refuse(send, 408, f"The body did not arrive within {self._seconds:g} seconds.")
            return
        except _Gone:
            return
        if body is None:
            await _refuse(send, 413, f"The body has more than {self._max_body:,} bytes. Send fewer or shorter rows.")
            return
        kind = _header(scope, b"content-type").partition(";")[0].strip().lower()
        if body and kind != "application/json":
            said = f"The content type is {kind[:60]!r}." if kind else "The request has no content type."
            await _refuse(send, 415, f"{said} Send JSON, with the header Content-Type: application/json.")
            return
        try:
            await self._app(scope, _replay(body, receive), send)
        except Exception as error:
            # The framework has answered 500. Passed on, the server would log the error's words.
            note_failure("A request", error)

    async def _read(self, scope: MutableMapping[str, Any], receive: Receive) -> bytes | None:
        """Return the body; ``None`` if it is too large."""
        told = _header(scope, b"content-length")
        # A client that expects "100 Continue" has sent nothing yet, and is asked for it by the first `receive`.
        spare = 0 if _header(scope, b"expect") else _DISCARDED
        if told.isdigit() and int(told) > self._max_body + spare:
            return None
        parts: list[bytes] = []
        size, more = 0, True
        while more and size <= self._max_body + _DISCARDED:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            part = message.get("body", b"")
            size += len(part)
            more = message.get("more_body", False)
            if size > self._max_body:
                parts.clear()
            elif part:
                parts.append(part)
        return b"".join(parts) if size <= self._max_body else None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `Receive` that gives the body, and then whatever comes."""
    first = True

    async def replay() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


def _header(scope: MutableMapping[str, Any], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _refuse(send: Send, status: int, detail: str) -> None:
    """Answer and close the connection: what is left of the body would be read as the next request."""
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
