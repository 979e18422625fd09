"""How long a server asks to wait, in all the forms that servers use.

An explicit wait comes first: in a header (``Retry-After`` and its relatives), then in the body
(Google's ``RetryInfo``, fields such as ``retry_after``, words such as "try again in 1m26.4s").
Without one, the latest reset of the used-up limits counts.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from stepsynth.teachers.error_body import read_error

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["retry_after"]

# A longer wait must be a mistake, the server's or ours.
_LONGEST_S = 400 * 86400.0
# A number of at least this size is a time (2001 and later) in seconds, milliseconds, microseconds or nanoseconds.
_EPOCHS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3), (1e9, 1.0))
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT = r"(?:ms|milli(?:second)?s?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)"
_PART = rf"\d{{1,15}}(?:\.\d{{1,12}})?\s{{0,2}}{_UNIT}(?![a-z])"
_PARTS = re.compile(rf"(\d{{1,15}}(?:\.\d{{1,12}})?)\s{{0,2}}({_UNIT})(?![a-z])", re.IGNORECASE)
_PARTS_JOINED = rf"(?:{_PART}(?:\s{{0,2}},)?\s{{0,2}}(?:and\s)?){{1,5}}"
_DURATION = re.compile(_PARTS_JOINED, re.IGNORECASE)
# "5 minutes and try again"
_TAIL = re.compile(r"\s*(?:,|\band)?\s*$", re.IGNORECASE)
_ISO = re.compile(r"P(?:(\d{1,9})D)?T?(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?")
_SAID = re.compile(
    rf"(?:retry|retrying|try|again|wait|available|allowed|resets?)\b[^.\d]{{0,40}}?\b(?:in|after|for|wait)?[ :=~]{{0,4}}"
    rf"({_PARTS_JOINED})",
    re.IGNORECASE,
)
_SAID_BARE = re.compile(r"retry[ _-]?after[\"':= ]{1,4}(\d{1,9}(?:\.\d{1,9})?)(?![\d.]*\s?[a-z])", re.IGNORECASE)
_SAID_MOMENT = re.compile(
    r"(?:until|at|after|on) (\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?: ?(?:Z|UTC|GMT)\b|[+-]\d\d:?\d\d))",
    re.IGNORECASE,
)
_ZONE_NAME = re.compile(r" ?(?:Z|UTC|GMT)$", re.IGNORECASE)
# "allowed in 00:00:41"; what follows "at" or "after" is a time of day.
_SAID_CLOCK = re.compile(
    r"(?:retry|retrying|try|again|wait|available|allowed|resets?)\b[^.\d]{0,40}?\b(?:in|for|wait)[ :=~]{1,4}"
    r"(\d{1,3}):([0-5]\d):([0-5]\d)(?![\d:])",
    re.IGNORECASE,
)
_NUMBERS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "ten": 10, "fifteen": 15, "twenty": 20, "thirty": 30,
    "sixty": 60,
}  # fmt: skip
# "a minute" alone may be a rate.
_NUMBER = re.compile(
    r"\b(?:(one|two|three|four|five|ten|fifteen|twenty|thirty|sixty)|(?:(?<=in )|(?<=for )|(?<=after )|(?<=wait ))(an?))"
    r"(?= (?:second|minute|hour|day)s?\b)",
    re.IGNORECASE,
)
_EXPLICIT_MS = ("retry-after-ms", "x-retry-after-ms", "x-ms-retry-after-ms")
_EXPLICIT = ("retry-after", "x-retry-after", "x-ms-retry-after")
_FIELDS = {
    "retrydelay": 1.0,
    "retryafter": 1.0,
    "retryafterseconds": 1.0,
    "retryaftersecs": 1.0,
    "retryafterms": 0.001,
    "retryin": 1.0,
    "waitseconds": 1.0,
}
_LIMIT_NAME = re.compile(r"rate-?limit")
# RateLimit: limit=100, remaining=0, reset=30   and   RateLimit: "minute";r=0;t=30
_ENTRY = re.compile(r"\b(?:remaining|r)=(\d{1,12})\b[^=]{0,40}?\b(?:reset|t)=(\d{1,12})")
_GOOGLE_ZONE = "America/Los_Angeles"


def retry_after(headers: Mapping[str, str], body: str = "") -> float | None:
    """Return the seconds to wait, or ``None`` without a sensible value.

    Args:
        headers: by lower-case name.
        body: the body of the reply.
    """
    error = read_error(body) if body else None
    values = [(name.replace("_", ""), value) for name, value in error.fields] if error is not None else []
    explicit = _explicit(headers)
    if not explicit and error is not None:
        said = _in_body(values, error.words)
        explicit = explicit if said is None else said
    if any(name == "quotaid" and "perday" in str(value).lower() for name, value in values):
        # Google names a short wait here, too, but no request succeeds before the day is over.
        return max(explicit or 0.0, _until_google_midnight())
    if explicit is not None:
        return explicit
    nested = [value for name, value in values if name == "headers" and isinstance(value, dict)]
    inner = {str(key).lower(): str(value) for found in nested for key, value in found.items()}
    return _reset({**inner, **headers}) if not (wait := _explicit(inner)) else wait


def _explicit(headers: Mapping[str, str]) -> float | None:
    for name in _EXPLICIT_MS:
        milliseconds = _number(headers.get(name, ""))
        if milliseconds is not None:
            return _sound(milliseconds / 1000.0)
    return next((wait for name in _EXPLICIT if (wait := _wait(headers.get(name, ""))) is not None), None)


# bodies ------------------------------------------------------------------------------------


def _in_body(values: list[tuple[str, Any]], words: str) -> float | None:
    waits = []
    for name, value in values:
        if name in _FIELDS:
            if isinstance(value, dict):
                value = f"{value.get('seconds', 0)}s"
            number = _number(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
            waits.append(_sound(number * _FIELDS[name]) if number is not None and number < 1e9 else _wait(str(value)))
    # Google cuts off the fraction in the field but not in the words.
    waits.append(_in_words(words))
    return max((wait for wait in waits if wait is not None), default=None)


def _in_words(words: str) -> float | None:
    """Return the longest wait that a sentence names."""
    words = _NUMBER.sub(lambda found: str(_NUMBERS[found[0].lower()]), words)
    waits = [_duration(_TAIL.sub("", said)) for said in _SAID.findall(words)] + [
        _wait(said) for said in _SAID_BARE.findall(words)
    ]
    waits += [_moment(_ZONE_NAME.sub("+00:00", said)) for said in _SAID_MOMENT.findall(words)]
    waits += [_sound(int(h) * 3600.0 + int(m) * 60.0 + int(s)) for h, m, s in _SAID_CLOCK.findall(words)]
    return max((wait for wait in waits if wait is not None), default=None)


def _until_google_midnight() -> float:
    """Return the seconds until Google's daily quotas reset at midnight Pacific time."""
    now = datetime.fromtimestamp(time.time(), UTC)
    try:
        local = now.astimezone(ZoneInfo(_GOOGLE_ZONE))
    except (KeyError, OSError, ValueError):
        local = now.astimezone(timezone(timedelta(hours=-8)))
    midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(0.0, (midnight - now).total_seconds())


# limits that are used up -------------------------------------------------------------------


def _reset(headers: Mapping[str, str]) -> float | None:
    """Return the wait until the last used-up limit resets; if none is known to be used up, the shortest wait named."""
    used_up, unsaid = _structured(headers), []
    for name, value in headers.items():
        if "reset" not in name or not _LIMIT_NAME.search(name):
            continue
        left = _number(headers.get(name.replace("reset", "remaining", 1), ""))
        wait = _wait(value)
        if wait is None:
            continue
        if left == 0:
            used_up.append(wait)
        elif left is None and name.replace("reset", "remaining", 1) not in headers:
            unsaid.append(wait)
    return max(used_up) if used_up else min(unsaid, default=None)


def _structured(headers: Mapping[str, str]) -> list[float]:
    found = _ENTRY.findall(headers.get("ratelimit", "") + "," + headers.get("x-ratelimit", ""))
    return [wait for left, seconds in found if int(left) == 0 and (wait := _sound(float(seconds))) is not None]


# values ------------------------------------------------------------------------------------


def _wait(value: str) -> float | None:
    """Read a wait in seconds from a number, a time as a number, a duration or a date."""
    value = value.strip()[:200]
    number = _number(value)
    if number is not None:
        for least, scale in _EPOCHS:
            if number >= least:
                return _sound(max(0.0, number / scale - time.time()))
        return _sound(number)
    wait = _duration(value)
    return wait if wait is not None else _moment(value)


def _number(value: str) -> float | None:
    with contextlib.suppress(ValueError):
        number = float(value)
        return number if math.isfinite(number) and number >= 0 else None
    return None


def _duration(value: str) -> float | None:
    """Read ``6m0s``, ``120ms``, ``2 minutes and 3 seconds``, ``PT41S``."""
    if value[:1] == "P" and (found := _ISO.fullmatch(value)) and any(found.groups()):
        scales = (86400.0, 3600.0, 60.0, 1.0)
        return _sound(sum(float(part) * scale for part, scale in zip(found.groups(), scales, strict=True) if part))
    if not _DURATION.fullmatch(value.strip()):
        return None
    return _sound(sum(float(number) * _unit(unit) for number, unit in _PARTS.findall(value)))


def _unit(name: str) -> float:
    name = name.lower()
    return 0.001 if name.startswith(("ms", "milli")) else _UNITS[name[0]]


def _moment(value: str) -> float | None:
    """Read an HTTP or RFC 3339 date; a time without a zone is ignored."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return _sound(max(0.0, parsedate_to_datetime(value).timestamp() - time.time()))
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(value)
        return _sound(max(0.0, moment.timestamp() - time.time())) if moment.tzinfo else None
    return None


def _sound(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and 0 <= seconds <= _LONGEST_S else None
