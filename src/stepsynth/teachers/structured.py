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
    from collections.abc import Sequence

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
# The start of a list of texts: under its name anywhere, or at the start of an answer.
_NAMED = re.compile(r'"texts"\s*:\s*\[')
_FIRST = re.compile(r'\s{0,20}(?:```[\w-]{0,20}\s{0,20})?(?:\{\s*"[^"\\]{0,100}"\s*:\s*)?\[')
_START = re.compile(r"\s{0,20}(?:```[\w-]{0,20}\s{0,20})?")
_NUMBER_NAME = re.compile(r"(?:text|row|item)?[ _-]?\d{1,3}", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*(,|\]|$)\s*")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{0,4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_SPACE = re.compile(r"\s*")
_AFTER = re.compile(r"[\s,]*\{")
_DECODER = json.JSONDecoder(strict=False)
# Far more than a request asks for.
_MOST_OBJECTS = 200


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
    is used. An object with one string under another name counts, too; of a list ``texts``, each is a line. An
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
        if (named := _NAMED.search(answer, start)) and (whole := _whole(answer, named.end())):
            return "\n".join(whole)
        found = _TEXT.search(answer, start)
        return well_formed(_ESCAPE.sub(_unescaped, found[1])) if found else answer
    text = value.get("text")
    if isinstance(text, list):
        text = text[0] if len(text) == 1 else None
    if isinstance(text, str):
        return well_formed(text)
    if isinstance(value.get("texts"), list):
        return "\n".join(_members(value["texts"]))
    strings = [member for member in value.values() if isinstance(member, str)]
    return well_formed(strings[0]) if len(value) == len(strings) == 1 else ""


def texts_of(answer: str) -> list[str] | None:
    """Return the texts in an answer to a request for several; ``None`` if it has not the form of a list of texts.

    What surrounds the object is ignored, and so are members that are no texts. A list under another name, one of objects with a
    text each, and an object for each text count, too, at the start of an answer. From a list that is damaged or cut off, the
    texts before that place are used.

    Args:
        answer: the model's words.
    """
    found = _objects(answer)
    if len(found) > 1 and all(list(each) == ["text"] for each in found):
        return _members(found)
    for value in found:
        if isinstance(value.get("texts"), list):
            return _members(value["texts"])
    if (named := _NAMED.search(answer)) and not found:
        return _whole(answer, named.end())
    start = _START.match(answer).end()  # type: ignore[union-attr]
    try:
        value, _ = _DECODER.raw_decode(answer, start)
    except (ValueError, RecursionError):
        first = _FIRST.match(answer)
        return _whole(answer, first.end()) if first else None
    if isinstance(value, list):
        return _members(value)
    if not isinstance(value, dict):
        return None
    members = list(value.values())
    if len(members) == 1 and isinstance(members[0], list):
        return _members(members[0])
    numbered = len(members) > 1 and all(_NUMBER_NAME.fullmatch(name) for name in value)
    return _members(members) if numbered else None


def _objects(answer: str) -> list[dict[str, Any]]:
    """Return the whole objects in an answer that follow one another, from the first brace on."""
    found: list[dict[str, Any]] = []
    place = answer.find("{")
    while place >= 0 and len(found) < _MOST_OBJECTS:
        try:
            value, end = _DECODER.raw_decode(answer, place)
        except (ValueError, RecursionError):
            break
        found.append(value)
        following = _AFTER.match(answer, end)
        place = following.end() - 1 if following else -1
    return found


def _members(items: Sequence[Any]) -> list[str]:
    """Return the texts of a list; members that hold none are left out."""
    return [well_formed(text) for item in items if (text := _member(item)) is not None]


def _member(item: Any) -> str | None:
    """Return a member's text: a string, or the only string of an object, which may have other values."""
    if isinstance(item, dict):
        strings = [value for value in item.values() if isinstance(value, str)]
        item = item.get("text", strings[0] if len(strings) == 1 else None)
    return item if isinstance(item, str) else None


def _whole(answer: str, place: int) -> list[str]:
    """Return the texts of a list that is damaged or cut off, from its first member up to the first one that is not whole."""
    found: list[str] = []
    while True:
        try:
            value, place = _DECODER.raw_decode(answer, _SPACE.match(answer, place).end())  # type: ignore[union-attr]
        except (ValueError, RecursionError):
            return found
        # A quotation mark within a text ends the string early; what follows is then no comma.
        after = _BETWEEN.match(answer, place)
        if after is None:
            return found
        if (text := _member(value)) is not None:
            found.append(well_formed(text))
        if after[1] != ",":
            return found
        place = after.end()


def _quoted(answer: str) -> str:
    """Read an answer that is a JSON string, or a list of one, instead of an object."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return answer
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return well_formed(value) if isinstance(value, str) else answer


def _unescaped(match: re.Match[str]) -> str:
    escape = match[1]
    if escape[0] == "u":
        return chr(int(escape[1:], 16)) if len(escape) == 5 else ""
    return _ESCAPES.get(escape, escape)
