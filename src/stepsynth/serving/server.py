"""Runs the application with uvicorn until it is asked to stop, then answers what is in progress."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import resource
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from stepsynth.errors import ConfigError
from stepsynth.serving.app import create_app

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from stepsynth.serving.limits import Limits
    from stepsynth.serving.students import Served

__all__ = ["address_of", "is_private", "listen", "serve"]

_KEEP_ALIVE_SECONDS = 15
_DRAIN_SECONDS = 30
_CONNECTIONS = 1000
_OTHER_FILES = 64


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; nobody can connect before `serve`.

    Args:
        host: a name or an address.
        port: 0 for any that is free.

    Raises:
        ConfigError: the address is unknown or taken.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"the port is {port}.", hint="Use one from 0 (any that is free) to 65535.")
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"the host {host!r} is unknown: {_reason(error)}.", hint="Use 127.0.0.1 for this machine only."
        ) from None
    opened = socket.socket(family, kind, number)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError as error:
        opened.close()
        raise _refused(host, port, error) from None
    return opened


def address_of(opened: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = opened.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_private(opened: socket.socket) -> bool:
    """Whether only this machine can connect."""
    return ipaddress.ip_address(opened.getsockname()[0].partition("%")[0]).is_loopback


def serve(
    served: Served,
    limits: Limits,
    opened: socket.socket,
    *,
    stop: threading.Event,
    threshold: float | None = None,
    started: Callable[[], None] | None = None,
) -> None:
    """Answer requests until ``stop`` is set, then those that are in progress.

    Args:
        served: the student.
        limits: of requests.
        opened: from `listen`; closed at the end.
        stop: a flag that any thread or signal handler may set.
        threshold: abstain below this confidence.
        started: called when requests are answered.

    Raises:
        ConfigError: another program took the port in the meantime.
    """
    _, port = opened.getsockname()[:2]
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = min(_CONNECTIONS, soft - _OTHER_FILES) if soft > 0 else _CONNECTIONS
    config = uvicorn.Config(
        create_app(served, limits, threshold),
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        http="h11",
        loop="asyncio",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=max(2, connections),
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    try:
        asyncio.run(_Server(config, stop, started).serve(sockets=[opened]))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise _refused(opened.getsockname()[0], port, error) from None
    finally:
        opened.close()


class _Server(uvicorn.Server):
    """uvicorn's server, without its own signal handlers: signals are the program's.

    Args:
        config: of uvicorn.
        stop: ends it.
        started: called when requests are answered.
    """

    def __init__(self, config: uvicorn.Config, stop: threading.Event, started: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._stop = stop
        self._announce = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        if self.started and self._announce:
            self._announce()

    async def on_tick(self, counter: int) -> bool:
        """Look every tenth of a second whether to stop."""
        self.should_exit = self.should_exit or self._stop.is_set()
        return await super().on_tick(counter)


def _refused(host: str, port: int, error: OSError) -> ConfigError:
    """Return the error for an address that cannot be used."""
    hints = {
        errno.EADDRINUSE: "Another program uses it: choose another port, or 0 for any that is free.",
        errno.EACCES: "Ports below 1024 are the system's: choose another one.",
        errno.EADDRNOTAVAIL: "It is no address of this machine: use 127.0.0.1, or 0.0.0.0 for all of its addresses.",
    }
    return ConfigError(
        f"cannot listen on {host!r}, port {port}: {_reason(error)}.", hint=hints.get(error.errno or 0, "Choose another address.")
    )


def _reason(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
