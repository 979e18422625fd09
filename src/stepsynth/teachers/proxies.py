"""The proxy that the environment sets for a server.

The variables are those that urllib reads (``http_proxy``, ``https_proxy``, ``no_proxy``, lower case
before upper case), and ``all_proxy`` if the scheme has none. Servers on this machine are never
reached through a proxy.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from stepsynth.errors import ConfigError

if TYPE_CHECKING:
    from yarl import URL

__all__ = ["Proxy", "check_proxy", "find_proxy"]

_SPOKEN = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy without its credentials.

    Attributes:
        url: scheme, host and port.
        variable: the environment variable that sets it.
        host: the host of the server behind it.
        user: the user name; empty without a sign-in.
        password: the password; empty without a sign-in.
    """

    url: str
    variable: str
    host: str
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        """Show everything but the credentials."""
        return f"Proxy({self.url!r}, {self.variable!r})"

    @property
    def sign_in(self) -> str:
        """The value of its authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    @property
    def named(self) -> str:
        """Its name in messages."""
        return f"the proxy {self.url} (from {self.variable})"

    @property
    def way_around(self) -> str:
        """How to avoid it, for hints."""
        return f"unset {self.variable}, or add {self.host!r} to NO_PROXY"


def check_proxy(base_url: str) -> None:
    """Refuse an unsupported proxy before anything is sent.

    Raises:
        ConfigError: it is a SOCKS proxy, or not an address.
    """
    proxy = find_proxy(base_url)
    if proxy is None:
        return
    scheme = urlsplit(proxy.url).scheme
    if scheme in _SPOKEN and _is_address(proxy.url):
        return
    what = f"{proxy.variable} sets the proxy {proxy.url!r}, but "
    what += "SOCKS proxies are not supported" if scheme.startswith("socks") else "that is not an http:// or https:// address"
    around = proxy.way_around
    raise ConfigError(f"{what}.", hint=f"Set an HTTP proxy there, or {around} if {proxy.host} can be reached without one.")


def find_proxy(base_url: str) -> Proxy | None:
    """Return the proxy for a server; ``None`` for a direct connection.

    aiohttp's ``trust_env`` is not used: it would also read ``~/.netrc`` for every request and send what it finds.
    """
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    proxies = getproxies()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    found = proxies.get(kind)
    if not found or _is_here(host) or proxy_bypass(f"{host}:{port}" if port else host):
        return None
    return _proxy(found.strip(), _variable(f"{kind}_proxy"), host)


def _proxy(value: str, variable: str, host: str) -> Proxy:
    try:
        url = _parsed(value)
        # Every other part may hold a secret.
        address = url.origin() if url.scheme in _SPOKEN else url.with_user(None).with_path("/").with_query(None).parent
        return Proxy(str(address).rstrip("/"), variable, host, url.user or "", url.password or "")
    except (ValueError, TypeError):
        return Proxy(value.rpartition("@")[2][:100], variable, host)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _parsed(value: str) -> URL:
    from yarl import URL

    return URL(value if "//" in value else f"http://{value}")


def _variable(name: str) -> str:
    # urllib takes lower case first; if neither is set, it has read the system's settings.
    return next((spelling for spelling in (name, name.upper()) if os.environ.get(spelling)), "the system's settings")


def _is_here(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
