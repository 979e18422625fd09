"""Where students are trained: in this process, in other processes of this machine, or on a Ray cluster.

    with closing(open_workers("ray", jobs=None, note=print)) as workers:
        outcome = workers.train(job, out, scratch, told)

A worker is a pure function: rows, settings and seed become files and predictions. It has no journal, no answers and no teacher.
A new way to run workers is one file here with a class that has the methods of `base.Workers`, and a line in `WAYS`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.runtime.ray_cluster import INSTALL_RAY, address_of, check_address
from stepsynth.training.workers.base import Job, Outcome, Told, Workers, step_limit
from stepsynth.training.workers.here import Here
from stepsynth.training.workers.in_order import in_order

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WAYS", "Here", "Job", "Outcome", "Told", "Workers", "check_workers", "in_order", "open_workers"]

# More is a typing error: each is a process, or waits in the cluster.
_MOST = 1024
# Each class takes an address, the number of trainings at once and `note`.
WAYS = {
    "processes": "stepsynth.training.workers.processes:Processes",
    "ray": "stepsynth.training.workers.ray:RayWorkers",
}


def check_workers(on: str | None, jobs: int | None) -> bool:
    """Return whether workers are to do the work; starts nothing.

    Args:
        on: as for `open_workers`.
        jobs: likewise.

    Raises:
        ConfigError: the way, the address or the number is wrong, or its library is missing.
        RunError: there is no cluster at the address.
    """
    if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or not 1 <= jobs <= _MOST):
        raise ConfigError(f"jobs is {jobs!r}.", hint=f"Give the number of jobs to do at once, from 1 to {_MOST:,}.")
    if on is None and (jobs or 1) == 1:
        return False
    if on is not None and not (isinstance(on, str) and on):
        raise ConfigError(f"workers cannot run on {on!r}.", hint="Give processes, ray or ray:HOST:PORT, or leave it out.")
    way, colon, address = (on or "processes").partition(":")
    if way not in WAYS:
        raise ConfigError(f"workers cannot run on {on!r}.", hint=did_you_mean(way, WAYS))
    if colon and way == "processes":
        raise ConfigError(f"workers cannot run on {on!r}.", hint="Give processes, and their number as jobs.")
    if colon and not address.strip():
        raise ConfigError(f"workers cannot run on {on!r}: it has no address.", hint="Give ray, or ray:HOST:PORT.")
    if way == "ray":
        if find_spec("ray") is None:
            raise ConfigError("Ray is not installed.", hint=INSTALL_RAY)
        check_address(address_of(on or ""))
    step_limit()
    return True


def open_workers(on: str | None, jobs: int | None, note: Callable[[str], object]) -> Workers | None:
    """Start or connect to workers; ``None`` if this process is to train itself, one student at a time.

    Args:
        on: ``processes`` or ``ray``, the latter also with an address: ``ray:10.0.0.5:6379``.
        jobs: the most trainings at once.
        note: called with a sentence about the workers: how many, what was tried again.

    Raises:
        ConfigError: the way or the number is wrong, or its library is missing.
        RunError: there is no cluster at the address.
    """
    if not check_workers(on, jobs):
        return None
    way, address = (on or "processes").partition(":")[0], address_of(on or "")
    module, _, name = WAYS[way].partition(":")
    made: Any = getattr(import_module(module), name)
    workers: Workers = made(address, jobs, note)
    return workers
