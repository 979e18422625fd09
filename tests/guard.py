"""No test reaches further than this machine, and neither do the processes that tests start.

An audit hook sees every socket of a process, those opened from C included, and refuses addresses
and names that are not this machine's. A child gets the same hook from a ``sitecustomize`` that is
first on its path, and writes what it refused into a file, which is read when the test ends: code
that swallows the error, or a child whose output nobody reads, fails the test all the same.
"""

from __future__ import annotations

import ipaddress
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHILDREN", "LOG_VARIABLE", "children_guard", "network_guard"]

CHILDREN = Path(__file__).parent / "security" / "child_guard"
LOG_VARIABLE = "STEPSYNTH_TEST_NETWORK_LOG"

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


@pytest.fixture(scope="session", autouse=True)
def children_guard() -> Iterator[Path]:
    """Put the guard into every child: tests hand on ``os.environ``, ``sys.path`` or both."""
    descriptor, name = tempfile.mkstemp(prefix="stepsynth-network-", suffix=".log")
    os.close(descriptor)
    before = {variable: os.environ.get(variable) for variable in (LOG_VARIABLE, "PYTHONPATH")}
    os.environ[LOG_VARIABLE] = name
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CHILDREN), before["PYTHONPATH"])))
    sys.path.insert(0, str(CHILDREN))
    yield Path(name)
    sys.path.remove(str(CHILDREN))
    for variable, value in before.items():
        if value is None:
            del os.environ[variable]
        else:
            os.environ[variable] = value
    Path(name).unlink()


@pytest.fixture(autouse=True)
def network_guard(children_guard: Path) -> Iterator[list[str]]:
    """Fail any test that addresses another machine, in this process or in one that it started."""
    global _violations
    seen: list[str] = []
    _violations = seen
    start = children_guard.stat().st_size
    yield seen
    _violations = None
    with children_guard.open(encoding="utf-8") as log:
        log.seek(start)
        found = {*seen, *(f"{line.strip()} (in a child)" for line in log)}
    if found:
        pytest.fail(f"this test tried to leave the machine: {', '.join(sorted(found))}")
