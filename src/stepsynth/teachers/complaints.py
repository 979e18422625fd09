"""What a server's error says, whatever its form: objects, arrays, strings, HTML, an error inside an error.

OpenAI      {"error": {"message": ..., "code": ..., "param": ...}}
Gemini      [{"error": {"message": ..., "status": ..., "details": [{"fieldViolations": [...]}]}}]
FastAPI     {"detail": "..."} or {"detail": [{"loc": [...], "msg": ...}]}
OpenRouter  {"error": {"message": "Provider returned error", "metadata": {"raw": "(such a body as a string)"}}}
a proxy     <html><head><title>502 Bad Gateway</title>...
"""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["error_fields", "named", "said"]

# Nobody needs more of an error; it bounds the work on a hostile one.
_LONGEST = 20_000
_DEEPEST = 12
_WIDEST = 8
_MESSAGES = (
    "message",
    "msg",
    "detail",
    "error_description",
    "error_message",
    "errorMessage",
    "status_msg",
    "description",
    "title",
)
# Where an error hides inside an error, the outermost first.
_INSIDE = ("error", "errors", "message", "innererror", "base_resp", "metadata", "raw", "details", "fieldViolations", "detail")
_VAGUE = re.compile(
    r"^\W*(?:provider returned error|bad request|error|unknown error|invalid request|upstream error)?\W*$", re.IGNORECASE
)
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{1,400})", re.IGNORECASE)
_NO_TEXT = re.compile(r"<(script|style)\b[^<]{0,5000}", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]{0,1000}>")


def said(text: str) -> str:
    """Return what a body says of an error, on one line; nothing where it says nothing.

    Args:
        text: the body.
    """
    value = _value(text)
    if value is None:
        return _plain(text[:_LONGEST])
    found: list[str] = []
    for message in _messages(value, 0):
        line = " ".join(message.split())
        if line and not any(line in other for other in found):
            found.append(line)
    telling = [line for line in found if not _VAGUE.match(line)] or found
    return "; ".join(telling[:_WIDEST])[:_LONGEST]


def error_fields(text: str) -> list[dict[str, Any]]:
    """Return the objects of an error, the outermost first."""
    return list(_objects(_value(text), 0))


def named(text: str, names: Iterable[str]) -> list[str]:
    """Return those of some parameters that an error is about, in the given order.

    What an error echoes of the request does not count.

    Args:
        text: the body.
        names: of parameters.
    """
    words = said(text)
    pointed = set()
    for fields in error_fields(text):
        place = fields.get("loc")
        pointed |= {str(part) for part in place} if isinstance(place, list) else set()
        for key in ("param", "field", "parameter"):
            pointed |= set(re.split(r"[.\[\]/]", str(fields.get(key) or "")[:_LONGEST]))
    return [name for name in names if name in pointed or re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words)]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _objects(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    if isinstance(value, str) and depth and value[:1] in "{[":
        value = _value(value)
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for member in value[:_WIDEST]:
            yield from _objects(member, depth + 1)
    elif isinstance(value, dict):
        yield value
        for key in _INSIDE:
            yield from _objects(value.get(key), depth + 1)


def _messages(value: Any, depth: int) -> Iterator[str]:
    """Yield messages, the outermost first."""
    if depth > _DEEPEST:
        return
    if isinstance(value, str):
        inner = _value(value) if depth and value[:1] in "{[" else None
        if isinstance(inner, dict | list):
            yield from _messages(inner, depth + 1)
        else:
            yield _plain(value[:_LONGEST])
    elif isinstance(value, list):
        for member in value[:_WIDEST]:
            yield from _messages(member, depth + 1)
    elif isinstance(value, dict):
        yield from _of_object(value, depth)


def _of_object(value: dict[str, Any], depth: int) -> Iterator[str]:
    for key in _MESSAGES:
        message = value.get(key)
        if isinstance(message, str) and message:
            where = value.get("loc")
            place = ".".join(str(part) for part in where[:_WIDEST]) + ": " if isinstance(where, list) else ""
            yield from _messages(place + message if message[:1] not in "{[" else message, depth + 1)
            break
    for key in _INSIDE:
        inner = value.get(key)
        if isinstance(inner, dict | list) or (key in {"error", "errors", "raw"} and isinstance(inner, str)):
            yield from _messages(inner, depth + 1)


def _plain(text: str) -> str:
    """Return a page's title, or its words; a text that is none as it is."""
    if "<" not in text or not re.search(r"<(?:!doctype|html|head|body|title|h1|center|p)\b", text[:2000], re.IGNORECASE):
        return text
    title = _TITLE.search(text)
    words = title[1] if title else _TAG.sub(" ", _NO_TEXT.sub(" ", text))
    return " ".join(html.unescape(words).split())
