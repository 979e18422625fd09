"""Says where something failed, without the error's words: they may hold a client's text."""

from __future__ import annotations

import logging
import traceback

__all__ = ["note_failure"]

logger = logging.getLogger(__name__)


def note_failure(what: str, error: BaseException) -> None:
    """Log the kind of an error and the line that raised it.

    Args:
        what: what failed, the beginning of a sentence.
        error: the error.
    """
    places = traceback.extract_tb(error.__traceback__)
    where = f" in {places[-1].filename}, line {places[-1].lineno}" if places else ""
    logger.error("%s failed: %s%s.", what, type(error).__name__, where)
