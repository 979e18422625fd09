"""No test reaches further than this machine, and a counting server for those that ask one."""

from __future__ import annotations

import ipaddress
import sys
from typing import TYPE_CHECKING, Any

import pytest

from loopback import LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Iterator

_ADDRESS_EVENTS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_NAME_EVENTS = {"socket.getaddrinfo", "socket.gethostbyname"}
_violations: list[str] | None = None


def _is_local(host: object) -> bool:
    name = host.decode("latin-1") if isinstance(host, bytes | bytearray) else host
    if name in (None, "", "localhost", "localhost.localdomain"):
        return True
    try:
        return ipaddress.ip_address(str(name).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: it sees every socket of the process, those opened from C included."""
    if _violations is None:
        return
    if event in _ADDRESS_EVENTS:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) and address else None
    elif event in _NAME_EVENTS:
        host = arguments[0]
    else:
        return
    if not _is_local(host):
        _violations.append(f"{event} {host!r}")
        raise PermissionError(f"tests do not leave this machine: {event} {host!r}")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def network_guard() -> Iterator[list[str]]:
    """Fail any test that addresses another machine, even where the code swallows the error."""
    global _violations
    seen: list[str] = []
    _violations = seen
    yield seen
    _violations = None
    if seen:
        pytest.fail(f"this test tried to leave the machine: {', '.join(sorted(set(seen)))}")


@pytest.fixture
def loopback() -> Iterator[LoopbackServer]:
    """A running `LoopbackServer`; its settings (faults, models, ...) may be set on it."""
    with LoopbackServer() as server:
        yield server


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tests that train: a tiny network is slower on several threads, above all on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
