"""What one client may ask for, and how much may wait at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stepsynth.errors import ConfigError

__all__ = ["Limits"]

_BOUNDS = {
    "max_batch": (1, 100_000),
    "max_rows": (1, 100_000),
    "max_body": (1, 2**30),
    "max_waiting": (1, 10_000_000),
    "max_wait": (0, 60_000),
}


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Attributes:
        max_batch: rows that the model is given at a time, at most.
        max_rows: rows of one request.
        max_body: bytes of a request's body.
        max_waiting: rows that wait for the model, of all requests together; a request that would exceed it is refused.
        max_wait: milliseconds that a free model waits for more rows to fill a batch; with 0 it never waits.

    Raises:
        ConfigError: a limit is out of its range, or no request of ``max_rows`` could ever wait.
    """

    max_batch: int = 64
    max_rows: int = 256
    max_body: int = 1_048_576
    max_waiting: int = 2048
    max_wait: float = 0

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value <= most):
                raise ConfigError(f"{name} is {value!r}.", hint=f"Use a number from {least:,} to {most:,}.")
        if self.max_waiting < self.max_rows:
            raise ConfigError(
                f"max_waiting is {self.max_waiting:,}, less than the {self.max_rows:,} rows of one request (max_rows).",
                hint="Raise max_waiting, or lower max_rows.",
            )
