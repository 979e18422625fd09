"""The logs of a run's attempts: ``logs/attempt-n.log``."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from stepsynth.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ENDED_WITH", "attempt_log", "package_log"]

# What an attempt's log says last if an error ended it.
ENDED_WITH = "the attempt ended with "
# The run whose log takes what is said in this context.
_logged: ContextVar[Path | None] = ContextVar("logged", default=None)


@contextmanager
def package_log(folder: Path) -> Iterator[logging.Handler]:
    """Write this package's log into ``logs/attempt-n.log``; no other logger is touched.

    Records of other runs in this process, in threads of their own, are left to those.
    """
    token = _logged.set(folder)
    logger = logging.getLogger("stepsynth")
    try:
        # The attempt's last line comes after the block, so the context has to last longer than that.
        with attempt_log(folder) as handler:
            handler.addFilter(lambda _: _logged.get() == folder)
            logger.addHandler(handler)
            try:
                yield handler
            finally:
                logger.removeHandler(handler)
    finally:
        _logged.reset(token)


@contextmanager
def attempt_log(folder: Path) -> Iterator[logging.Handler]:
    """Yield a handler that writes ``logs/attempt-n.log`` of a run directory; it is attached to no logger."""
    logs = folder / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    number = 1 + sum(1 for _ in logs.glob("attempt-*.log"))
    handler = logging.FileHandler(logs / f"attempt-{number}.log", encoding="utf-8")
    (logs / f"attempt-{number}.log").chmod(0o600)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    began = f"attempt {number} began at {time.strftime('%Y-%m-%dT%H:%M:%S')}"
    handler.handle(logging.LogRecord("stepsynth", logging.INFO, __file__, 0, began, None, None))
    try:
        yield handler
    except Exception as error:
        if not isinstance(error, Interrupted):
            # Without the message, which is the user's to keep; `stepsynth.report.listing` tells a failure from a stop by it.
            said = f"{ENDED_WITH}{type(error).__name__}"
            handler.handle(logging.LogRecord("stepsynth", logging.ERROR, __file__, 0, said, None, None))
        raise
    finally:
        handler.close()
