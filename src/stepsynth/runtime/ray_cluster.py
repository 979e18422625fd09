"""A Ray cluster: found or started, left by the last who uses it, with its nodes and the versions on them.

Students and engines both run there. Whoever needs the cluster joins it, and leaves it afterwards; the connection that this
package made ends when the last one has left.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import threading
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError, RunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = [
    "INSTALL_RAY",
    "address_of",
    "check_address",
    "import_ray",
    "join",
    "leave",
    "node_resources",
    "one_line",
    "other_versions",
    "versions_of",
]

INSTALL_RAY = "Install it with: pip install 'stepsynth[ray]'"
_REACH_S = 10.0

_guard = threading.Lock()
_members = 0
_ours = False
# Ray's own function that prints what nodes report, while it is replaced.
_prints: Any = None


def import_ray() -> Any:
    """Return the module, which sends no reports of use to its makers.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError("Ray is not installed.", hint=INSTALL_RAY) from None
    return ray


def address_of(where: str) -> str:
    """Return the address in ``ray:HOST:PORT``, empty for ``ray``; Ray's own client addresses begin with its name.

    Examples:
        >>> address_of("ray:10.0.0.5:6379"), address_of("ray"), address_of("ray://head:10001")
        ('10.0.0.5:6379', '', 'ray://head:10001')
    """
    _, _, address = where.partition(":")
    return f"ray:{address}" if address.startswith("//") else address


def check_address(address: str) -> None:
    """Check that an address is one, and that somebody listens there; connects to nothing.

    Args:
        address: as for `join`.

    Raises:
        ConfigError: it is no ``HOST:PORT``, or one of Ray's clients.
        RunError: nobody listens.
    """
    address = address or os.environ.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        raise ConfigError(
            f"{address!r} is an address of Ray's client, which cannot follow jobs.",
            hint="Run the command on a machine of the cluster and give ray, or ray:HOST:PORT with the port of its head (6379).",
        )
    if address in ("", "auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(
            f"{address!r} is no address of a Ray cluster.", hint="Give HOST:PORT of its head, such as 10.0.0.5:6379."
        )
    _reach(address)


def join(address: str, note: Callable[[str], object]) -> Any:
    """Connect to a cluster, unless this process is connected, and return the module.

    Args:
        address: ``HOST:PORT`` of its head; if empty, ``$RAY_ADDRESS``, the cluster that this machine is part of, or a local
            one that ends when all have left.
        note: called with a sentence if a local one is started.

    Raises:
        ConfigError: Ray is not installed, or the address is one of Ray's clients.
        RunError: there is no cluster at the address, or it has another version of Ray or Python.
    """
    global _members, _ours
    ray = import_ray()
    with _guard:
        if not ray.is_initialized():
            _connect(ray, address, note)
            _hush(ray, quiet=True)
            _members, _ours = 0, True
        _members += 1
    return ray


def leave() -> None:
    """Undo `join`; the last one to leave ends a connection that was made here, and with it a local cluster."""
    global _members, _ours
    with _guard:
        _members -= 1
        if _members <= 0 and _ours:
            _ours = False
            ray = import_ray()
            ray.shutdown()
            _hush(ray, quiet=False)


def _hush(ray: Any, *, quiet: bool) -> None:
    """Keep what nodes report of lost workers off our standard output, whatever ``log_to_driver`` says: we say it ourselves."""
    global _prints
    # A private name: if another version lacks it, its lines are shown.
    worker = getattr(getattr(ray, "_private", None), "worker", None)
    if quiet and _prints is None and (printing := getattr(worker, "print_to_stdstream", None)) is not None:
        _prints = printing
        worker.print_to_stdstream = lambda *_, **__: None  # type: ignore[union-attr]
    elif not quiet and _prints is not None:
        worker.print_to_stdstream = _prints  # type: ignore[union-attr]
        _prints = None


def node_resources(ray: Any) -> list[dict[str, float]]:
    """Return the resources of the nodes that are alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def one_line(error: BaseException) -> str:
    """Return an error of Ray as the end of a sentence."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of stepsynth, Python and some packages on this machine."""
    from stepsynth import __version__

    found = {"stepsynth": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
    for name in packages:
        try:
            # Builds for other processors count as the same version.
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            found[name] = "none"
    return found


def other_versions(what: str, host: str, other: object, ours: Mapping[str, str]) -> RunError:
    """Return the error for a worker with other versions, or without a stepsynth that knows its work.

    Args:
        what: the worker, such as ``a worker``.
        host: its machine.
        other: its versions, or what it said when it looked for our package.
        ours: the versions here.
    """
    from stepsynth import __version__

    hint = "Install the same versions on all machines of the cluster, with the extra: pip install 'stepsynth[ray]'"
    if not isinstance(other, dict):
        return RunError(f"{what} (on {host}) cannot do stepsynth's jobs: {other}; here it is {__version__}.", hint=hint)
    differ = ", ".join(f"{name} {other.get(name, 'none')} (here {ours[name]})" for name in ours if other.get(name) != ours[name])
    return RunError(f"{what} (on {host}) has other versions: {differ}.", hint=hint)


def _connect(ray: Any, address: str, note: Callable[[str], object]) -> None:
    check_address(address)
    address = address or os.environ.get("RAY_ADDRESS", "")
    quietly = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    # What Ray prints while it starts must not be in our output.
    with contextlib.redirect_stdout(None), _own_sigterm():
        try:
            try:
                ray.init(address=address or "auto", **quietly)
            except ConnectionError:
                if address:
                    raise
                note("Ray: no cluster runs here, so a local one is started.")
                ray.init(include_dashboard=False, **quietly)
        except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and its own
            raise RunError(
                f"cannot use the Ray cluster{f' at {address!r}' if address else ''}: {one_line(error)}",
                hint="Check the address, and that this machine is a node of it with the same versions of Ray and Python.",
            ) from None


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler of SIGTERM, in the place of which Ray sets one that ends the process at once."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def _reach(address: str) -> None:
    """Check that somebody listens, which Ray itself takes minutes to find out."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S):
            return
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise RunError(
            f"there is no Ray cluster at {address!r}: {said}.",
            hint="Give HOST:PORT of its head, as Ray prints it when the head starts.",
        ) from None
