"""Answers as a JSON object with one text or several in it: how to ask for it, and how to read the texts.

A teacher passes the object on unchanged; the texts are read after the journal, when answers become
candidates, so that a fix to this reader asks nothing again. The object is requested with a schema if
the backend supports one, and with a sentence at the end of the prompt, which weaker servers need and
OpenAI's ``json_object`` requires. A request for several texts asks for ``{"texts": [...]}``, where no text
can be taken for two and no line break for a new one.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from stepsynth.teachers.redaction import well_formed

if TYPE_CHECKING:
    from stepsynth.types import Request

__all__ = ["INSTRUCTION", "INSTRUCTION_OF_SEVERAL", "asked", "schema_of", "text_of", "texts_of"]

INSTRUCTION = 'Answer with one JSON object of the form {"text": "..."} that holds your answer, and with nothing else.'
# Templates ask for a numbered list; without "do not number" its numbers would end up in the strings.
INSTRUCTION_OF_SEVERAL = (
    'Do not number them after all: answer with one JSON object of the form {"texts": ["...", "..."]} that holds each of them as '
    "one string, and with nothing else."
)
_STRING = r'"((?:[^"\\]|\\.)*)'
_TEXT = re.compile(rf'"texts?"\s*:\s*(?:\[\s*)?{_STRING}', re.DOTALL)
_LIST = re.compile(r'\{\s*"[^"\\]*"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{0,4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_DECODER = json.JSONDecoder(strict=False)


def _schema(name: str, value: dict[str, Any]) -> dict[str, Any]:
    # Strict servers want every property required, and refuse limits on a list's length.
    return {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}


_ONE = _schema("text", {"type": "string"})
_SEVERAL = _schema("texts", {"type": "array", "items": {"type": "string"}})


def schema_of(request: Request) -> dict[str, Any]:
    """Return the JSON schema of a request's answer: an object with one text, or with a list of texts.

    Args:
        request: its ``parts`` decide.
    """
    return _ONE if request.parts == 1 else _SEVERAL


def asked(request: Request) -> list[dict[str, str]]:
    """Return a request's chat in wire form, with the request for JSON at the end of its last turn.

    Args:
        request: its chat ends with the user's turn, whose text stays unchanged at the start.
    """
    turns = [{"role": message.role, "content": message.content} for message in request.messages]
    if turns:
        turns[-1]["content"] += f"\n\n{INSTRUCTION if request.parts == 1 else INSTRUCTION_OF_SEVERAL}"
    return turns


def text_of(answer: str) -> str:
    """Return the text in an answer, whatever surrounds the JSON object.

    Code fences and talk around the object are ignored; from an object that is cut off, the text so far
    is used. An object with one string under another name counts, too; of a list of texts, each is a line. An
    answer without an object is itself the text: the model ignored the form.

    Args:
        answer: the model's words.
    """
    start = answer.find("{")
    if start < 0:
        return _quoted(answer)
    try:
        value, _ = _DECODER.raw_decode(answer, start)
    except (ValueError, RecursionError):
        if whole := _whole(answer, start):
            return "\n".join(whole)
        found = _TEXT.search(answer, start)
        return well_formed(_ESCAPE.sub(_unescaped, found[1])) if found else answer
    text = value.get("text")
    if isinstance(text, str):
        return well_formed(text)
    strings = [member for member in value.values() if isinstance(member, str)]
    if len(value) == len(strings) == 1:
        return well_formed(strings[0])
    return "\n".join(_members(value) or ())


def texts_of(answer: str) -> list[str] | None:
    """Return the texts in an answer to a request for several, or ``None`` if it holds no list of texts.

    Around the object, anything is ignored. From a list that is cut off, its whole texts are used; a list under another name, and
    one of objects with a text each, count, too.

    Args:
        answer: the model's words.
    """
    bare, start = answer.find("["), answer.find("{")
    # A bracket within an object is part of it.
    starts = [start] if 0 <= start < bare or bare < 0 else [start, bare]
    for place in starts:
        found = _texts_at(answer, place) if place >= 0 else None
        if found or (found is not None and place == start):
            return found
    return None


def _texts_at(answer: str, start: int) -> list[str] | None:
    try:
        value, _ = _DECODER.raw_decode(answer, start)
    except (ValueError, RecursionError):
        return _whole(answer, start) or None
    return _members(value)


def _members(value: Any) -> list[str] | None:
    """Return the texts of a list, or of the list called ``texts`` or the only list of texts in an object."""
    if isinstance(value, dict):
        if isinstance(value.get("texts"), list):
            return _members(value["texts"])
        lists = [found for member in value.values() if isinstance(member, list) and (found := _members(member)) is not None]
        return lists[0] if len(lists) == 1 else None
    texts = [_member(item) for item in value]
    return [well_formed(text) for text in texts if text is not None] if None not in texts else None


def _member(item: Any) -> str | None:
    """Return a member's text: a string, or the only string of an object, which may have other values."""
    if isinstance(item, dict):
        strings = [value for value in item.values() if isinstance(value, str)]
        item = item.get("text", strings[0] if len(strings) == 1 else None)
    return item if isinstance(item, str) else None


def _whole(answer: str, start: int) -> list[str]:
    """Return the texts of a list that is damaged or cut off, up to the first one that is not whole."""
    opened = _LIST.match(answer, start)
    place, found = (opened.end() if opened else start + 1), list[str]()
    while opened or answer[start] == "[":
        place = _BETWEEN.match(answer, place).end()  # type: ignore[union-attr]
        try:
            value, place = _DECODER.raw_decode(answer, place)
        except (ValueError, RecursionError):
            break
        if (text := _member(value)) is None:
            break
        found.append(well_formed(text))
    return found


def _quoted(answer: str) -> str:
    """Read an answer that is a JSON string, or a list of them, instead of an object."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return answer
    if isinstance(value, list):
        return "\n".join(_members(value) or (answer,))
    return well_formed(value) if isinstance(value, str) else answer


def _unescaped(match: re.Match[str]) -> str:
    escape = match[1]
    if escape[0] == "u":
        return chr(int(escape[1:], 16)) if len(escape) == 5 else ""
    return _ESCAPES.get(escape, escape)
