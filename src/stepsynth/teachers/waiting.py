"""How long a server asks to wait, in any of the ways in which servers say it."""

from __future__ import annotations

import contextlib
import math
import re
import time
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["retry_after"]

_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
_DURATION = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m(?!s))?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?")
_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return seconds to wait, or ``None`` where a server says nothing that makes sense.

    ``retry-after-ms`` comes first, then ``Retry-After`` (seconds or an HTTP date). Where there is
    neither, the reset times of those limits that are used up count: OpenAI's
    ``x-ratelimit-reset-requests`` and ``-tokens`` (``6m0s``), Anthropic's
    ``anthropic-ratelimit-...-reset`` (a time in RFC 3339).

    Args:
        headers: by lower-case name.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000.0
    value = headers.get("retry-after", "").strip()
    seconds = _number(value)
    if seconds is not None:
        return seconds
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return _reset(headers)


def _reset(headers: Mapping[str, str]) -> float | None:
    waits = []
    for name, left in headers.items():
        if left.strip() != "0":
            continue
        if name.startswith("x-ratelimit-remaining-"):
            waits.append(_duration(headers.get(name.replace("remaining", "reset", 1), "")))
        elif name.startswith("anthropic-ratelimit-") and name.endswith("-remaining"):
            waits.append(_until(headers.get(name.removesuffix("remaining") + "reset", "")))
    return max((wait for wait in waits if wait is not None), default=None)


def _number(value: str) -> float | None:
    with contextlib.suppress(ValueError):
        number = float(value)
        return number if math.isfinite(number) and number >= 0 else None
    return None


def _duration(value: str) -> float | None:
    found = _DURATION.fullmatch(value.strip())
    if not found or not value.strip():
        return None
    return sum(float(part) * unit for part, unit in zip(found.groups(), _UNITS, strict=True) if part)


def _until(value: str) -> float | None:
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(value.strip())
        return max(0.0, moment.timestamp() - time.time()) if moment.tzinfo else None
    return None
