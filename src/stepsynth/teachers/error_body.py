"""Parse a server's error body: its words, its codes, the parameters that it names.

OpenAI      {"error": {"message": ..., "code": ..., "param": ...}}
Gemini      [{"error": {"message": ..., "status": ..., "details": [{"fieldViolations": [...]}]}}]
FastAPI     {"detail": "..."} or {"detail": [{"loc": [...], "msg": ...}]}
OpenRouter  {"error": {"message": "Provider returned error", "metadata": {"raw": "(such a body as a string)"}}}
MiniMax     {"base_resp": {"status_code": 1004, "status_msg": ...}}
a proxy     <html><head><title>502 Bad Gateway</title>...

Only relevant fields are read: servers echo whole requests, and a row's text must not end a run.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepsynth.teachers.redaction import MESSAGE_CHARS, parsed_json, without_keys

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ErrorBody", "read_error", "server_message"]

# More of an error is never needed; the limits bound the work on a hostile one.
_MOST_CHARS = 16_384
_MOST_VALUES = 2_000
_MOST_LINES = 16
_CODE_CHARS = 80
# Fields that hold a server's own words, and fields that hold its codes.
_WORDS = frozenset(
    {
        *("message", "msg", "detail", "details", "error", "errors", "raw", "description", "title", "reason_phrase"),
        *("error_msg", "error_message", "error_description", "errormessage", "status_msg"),
    }
)
_CODES = frozenset(
    {
        *("code", "type", "status", "status_code", "error_code", "errorcode", "innercode", "kind", "quotaid"),
        *("reason", "reasons", "blockreason", "block_reason"),
    }
)
_POINTERS = frozenset({"param", "field", "parameter"})
# Fields that may echo the request.
_ECHOES = frozenset({"input", "prompt", "messages", "request", "body", "flagged_input", "ctx", "content"})
# MiniMax's numbers in our words; https://platform.minimax.io/docs/api-reference/errorcode
_MINIMAX = {
    "1002": "rate_limit_exceeded", "1004": "invalid_api_key", "1008": "insufficient_balance", "1026": "content_filter",
    "1027": "content_filter", "1039": "rate_limit_exceeded", "2013": "invalid_request_error", "2049": "invalid_api_key",
}  # fmt: skip
_VAGUE = re.compile(
    r"^\W*(?:provider returned error|bad request|error|unknown error|invalid request|upstream error)?\W*$", re.IGNORECASE
)
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{1,400})", re.IGNORECASE)
_PAGE = re.compile(r"<(?:!doctype|html|head|body|title|h1|center|p)\b", re.IGNORECASE)
_NO_TEXT = re.compile(r"<(script|style)\b[^<]{0,5000}", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]{0,1000}>")


@dataclass(slots=True)
class ErrorBody:
    """An error's body, whatever its shape.

    Attributes:
        lines: its messages, outermost first.
        codes: codes, types and reasons in lower case, outermost first.
        points: parameters that it names.
        fields: every field that does not echo the request, at any depth: its name in lower case, and its value.
    """

    lines: list[str] = field(default_factory=list)
    codes: dict[str, None] = field(default_factory=dict)
    points: set[str] = field(default_factory=set)
    fields: list[tuple[str, object]] = field(default_factory=list)

    @property
    def words(self) -> str:
        """All messages in one line."""
        return " ".join(self.lines)[:_MOST_CHARS]

    @property
    def said(self) -> str:
        """The messages to show, without repeats and empty phrases."""
        found: list[str] = []
        for line in self.lines:
            if not any(line in other for other in found):
                found.append(line)
        return "; ".join([line for line in found if not _VAGUE.match(line)] or found)[:_MOST_CHARS]

    def named(self, names: Iterable[str]) -> list[str]:
        """Return the given parameters that the error is about, in the given order; echoes of the request do not count.

        Args:
            names: names of parameters.
        """
        return [name for name in names if name in self.points or re.search(rf"(?<!\w){re.escape(name)}(?!\w)", self.words)]

    def say(self, words: str) -> None:
        """Add a line, or the text of a page."""
        words = words[:_MOST_CHARS]
        if "<" in words and _PAGE.search(words[:2000]):
            words = _page(words)
        line = " ".join(words.split())
        if line and len(self.lines) < _MOST_LINES:
            self.lines.append(line)


def read_error(text: str) -> ErrorBody:
    """Parse an error: an object, an array of objects, a string, a page, or JSON in a string.

    Args:
        text: the body.
    """
    error, value = ErrorBody(), parsed_json(text)
    if value is None:
        error.say(text)
        return error
    # Popped from the end, so that the first field is read first.
    pending: list[tuple[str, object]] = [("message", value)]
    for _ in range(_MOST_VALUES):
        if not pending:
            break
        name, found = pending.pop()
        if isinstance(found, dict):
            pending += reversed(_of_object(found, error, minimax=name == "base_resp"))
        elif isinstance(found, list):
            pending += [(name, member) for member in reversed(found[:_MOST_VALUES])]
        elif isinstance(found, str | int) and not isinstance(found, bool):
            pending += _of_value(name, found, error)
    return error


def _of_object(found: dict[str, object], error: ErrorBody, *, minimax: bool) -> list[tuple[str, object]]:
    """Record what an object as a whole tells; return its fields."""
    named = [(str(key)[:_CODE_CHARS].lower().replace("-", "_"), member) for key, member in list(found.items())[:_MOST_VALUES]]
    own = [(name, member) for name, member in named if name not in _ECHOES]
    place = found.get("loc")
    if isinstance(place, list):
        # FastAPI gives the location of a mistake in a separate field.
        parts = [str(part)[:_CODE_CHARS] for part in place[:_MOST_LINES]]
        error.points |= set(parts)
        own = [(name, f"{'.'.join(parts)}: {value}" if name == "msg" else value) for name, value in own if name != "loc"]
    if isinstance(found.get("flagged_input"), str):
        error.codes["moderation"] = None
    if minimax:
        own = [(name, _MINIMAX.get(str(value), value) if name == "status_code" else value) for name, value in own]
    error.fields += own
    return own


def _of_value(name: str, found: str | int, error: ErrorBody) -> list[tuple[str, object]]:
    """Record a message, a code or a parameter; return the content of a string that is itself JSON."""
    said = str(found) if isinstance(found, str) or abs(found) < 10**_CODE_CHARS else ""
    if name in _CODES and said and len(said) <= _CODE_CHARS:
        error.codes[said.lower()] = None
    if name in _POINTERS:
        error.points |= set(re.split(r"[.\[\]/]", said[:_MOST_CHARS]))
    if name not in _WORDS or not isinstance(found, str):
        return []
    # Gateways pass on the error of the server behind them as a string.
    inner = parsed_json(said) if said.lstrip()[:1] in ("{", "[") else None
    if isinstance(inner, dict | list):
        return [(name, inner)]
    error.say(said)
    return []


def _page(text: str) -> str:
    """Return a page's title and the rest of its text."""
    found = _TITLE.search(text)
    title = " ".join(html.unescape(found[1]).split()) if found else ""
    rest = " ".join(html.unescape(_TAG.sub(" ", _NO_TEXT.sub(" ", text))).split())
    return f"{title} {rest.replace(title, '') if title else rest}"


def server_message(text: str) -> str:
    """Return a server's error message as one short line without keys.

    Args:
        text: the body.
    """
    line = without_keys(read_error(text).said[: 4 * MESSAGE_CHARS])
    return line if len(line) <= MESSAGE_CHARS else line[: MESSAGE_CHARS - 3] + "..."
