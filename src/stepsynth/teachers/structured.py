"""Answers as a JSON object with the text in it: how to ask for it, and how to read the text.

A teacher passes the object on unchanged; the text is read after the journal, when answers become
candidates, so that a fix to this reader asks nothing again. The object is requested with a schema if
the backend supports one, and with a sentence at the end of the prompt, which weaker servers need and
OpenAI's ``json_object`` requires.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from stepsynth.teachers.redaction import well_formed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.types import Message

__all__ = ["INSTRUCTION", "SCHEMA", "asked", "text_of"]

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
INSTRUCTION = 'Answer with one JSON object of the form {"text": "..."} that holds your answer, and with nothing else.'
_STRING = r'"((?:[^"\\]|\\.)*)'
_TEXT = re.compile(rf'"text"\s*:\s*{_STRING}', re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{0,4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def asked(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return a chat in wire form, with the request for JSON at the end of its last turn.

    Args:
        messages: ends with the user's turn, whose text stays unchanged at the start.
    """
    turns = [{"role": message.role, "content": message.content} for message in messages]
    if turns:
        turns[-1]["content"] += f"\n\n{INSTRUCTION}"
    return turns


def text_of(answer: str) -> str:
    """Return the text in an answer, whatever surrounds the JSON object.

    Code fences and talk around the object are ignored; from an object that is cut off, the text so far
    is used. An object with one string under another name counts, too. An answer without an object is
    itself the text: the model ignored the form.

    Args:
        answer: the model's words.
    """
    start = answer.find("{")
    if start < 0:
        return _quoted(answer)
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(answer, start)
    except (ValueError, RecursionError):
        found = _TEXT.search(answer, start)
        return well_formed(_ESCAPE.sub(_unescaped, found[1])) if found else answer
    text = value.get("text")
    if isinstance(text, str):
        return well_formed(text)
    strings = [member for member in value.values() if isinstance(member, str)]
    return well_formed(strings[0]) if len(value) == len(strings) == 1 else ""


def _quoted(answer: str) -> str:
    """Read an answer that is a JSON string instead of an object."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return answer
    return well_formed(value) if isinstance(value, str) else answer


def _unescaped(match: re.Match[str]) -> str:
    escape = match[1]
    if escape[0] == "u":
        return chr(int(escape[1:], 16)) if len(escape) == 5 else ""
    return _ESCAPES.get(escape, escape)
