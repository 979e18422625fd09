"""Several addresses in ``teacher.base_url``: servers of one model."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

__all__ = ["check_address", "one_or_more", "shown_addresses"]

_PORTS = {"http": 80, "https": 443}
# No one writes more by hand; each is asked for its models when a run begins.
_MOST = 256
_LONGEST = 2000


def check_address(address: str, key: str = "base_url") -> None:
    """Refuse an address that is no web address, or that holds a secret.

    Args:
        address: as the config has it.
        key: what to call it in the message.

    Raises:
        ValueError: says what to write instead.
    """
    if not re.match(r"https?://", address):
        raise ValueError(f"{key} {address!r} must start with http:// or https://")
    if "@" in address.split("//", 1)[1].split("/", 1)[0]:
        raise ValueError(f"{key} holds a user name or password; put the key into an environment variable")
    if len(address) > _LONGEST:
        raise ValueError(f"{key} has {len(address):,} characters; {_LONGEST:,} is the most")
    if odd := next((character for character in address if character.isspace() or not character.isprintable()), None):
        raise ValueError(f"{key} {address!r} holds {odd!a}, which no web address has; remove it")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        said = str(error)
        raise ValueError(f"{key} {address!r} is no web address: {said[:1].lower()}{said[1:]}") from None
    if port == 0 or not all(host.rstrip(".").split(".")):
        what = "port 0" if port == 0 else "no host"
        raise ValueError(f"{key} {address!r} has {what}; write the address of a server, for instance 'http://127.0.0.1:8000/v1'")


def one_or_more(backend: str, addresses: list[Any] | tuple[Any, ...]) -> tuple[str, ...]:
    """Return the addresses of a list, checked.

    Raises:
        ValueError: the list is empty or has an address twice, or a value is no address; says what to write instead.
    """
    if not addresses:
        raise ValueError("base_url is an empty list; write the address of at least one server")
    if len(addresses) > _MOST:
        raise ValueError(f"base_url has {len(addresses)} addresses; {_MOST} is the most")
    seen: dict[tuple[str, str, int | None, str], str] = {}
    for position, address in enumerate(addresses):
        key = f"base_url[{position}]"
        if not isinstance(address, str) or not address:
            raise ValueError(f"{key} is {address!r}; write the address of a server, for instance 'http://127.0.0.1:8000/v1'")
        check_address(address, key)
        server = _server(backend, address)
        if server in seen:
            same = f"{address!r} twice" if seen[server] == address else f"{seen[server]!r} and {address!r}, which are one server"
            raise ValueError(f"base_url has {same}; write each server once")
        seen[server] = address
    return tuple(addresses)


def shown_addresses(first: str, count: int) -> str:
    """Return how pages and messages name several servers: ``http://a/v1 and 2 more``."""
    return first if count < 2 else f"{first} and {count - 1} more"


def _server(backend: str, address: str) -> tuple[str, str, int | None, str]:
    """Return what tells one server from another: a slash at the end, upper case in the host or a written default port do not."""
    try:
        parts = urlsplit(address)
        scheme, port = parts.scheme.lower(), parts.port
    except ValueError:
        # The request's error says what is wrong with it.
        return ("", address, None, "")
    path = parts.path.rstrip("/")
    path = path.removesuffix("/v1") if backend == "anthropic" else path
    return (scheme, (parts.hostname or "").rstrip("."), port or _PORTS[scheme], f"{path}?{parts.query}")
