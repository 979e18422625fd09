"""The network guard of `tests/guard.py` for child processes: Python imports this by itself when it starts."""

from __future__ import annotations

import os
import sys

__all__: list[str] = []

# The same name as in `tests/guard.py`, which cannot be imported here: every start of Python would wait for pytest.
_LOG = os.environ.get("STEPSYNTH_TEST_NETWORK_LOG")
_LOCAL = (None, "", "localhost", "localhost.localdomain", "::1")


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if not event.startswith("socket."):
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) and address else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    name = host.decode("latin-1") if isinstance(host, bytes | bytearray) else host
    if name in _LOCAL or (str(name).startswith("127.") and str(name).replace(".", "").isdigit()):
        return
    line = f"{event} {name!r}"
    with open(str(_LOG), "a", encoding="utf-8") as log:
        log.write(f"{line}\n")
    raise PermissionError(f"tests do not leave this machine: {line}")


if _LOG:
    sys.addaudithook(_watch)
