"""Join an event stream that was not asked for into the body that was meant.

data: {"choices": [{"index": 0, "delta": {"content": "The "}}]}
data: {"choices": [{"index": 0, "delta": {"content": "tram."}, "finish_reason": "stop"}]}
data: [DONE]
"""

from __future__ import annotations

import re
from typing import Any

from stepsynth.teachers.redaction import parsed_json

__all__ = ["is_event_stream", "whole_body"]

_EVENTS = re.compile(r"(?:data|event|id|retry)?:")
_DONE = "[DONE]"


def is_event_stream(raw: str) -> bool:
    """Whether a body is server-sent events; JSON never begins like that."""
    return _EVENTS.match(raw.lstrip("\ufeff \r\n")) is not None


def whole_body(raw: str) -> dict[str, Any] | None:
    """Return the body that the events form, or the first event with an error; ``None`` if the stream was cut off.

    Args:
        raw: the events.
    """
    body: dict[str, Any] = {}
    choices: dict[str, dict[str, Any]] = {}
    done = False
    for line in raw.splitlines():
        name, _, value = line.partition(":")
        if name.strip() != "data":
            continue
        done = done or value.strip() == _DONE
        event = parsed_json(value)
        if not isinstance(event, dict):
            continue
        found = event.get("choices")
        if event.get("error") or not isinstance(found, list):
            return event
        body |= {key: member for key, member in event.items() if key != "choices" and member is not None}
        for choice in found:
            if isinstance(choice, dict):
                index = choice.get("index", 0)
                _join(choices.setdefault(repr(index), {"index": index, "message": {}}), choice)
    if not choices or not (done or all(choice.get("finish_reason") for choice in choices.values())):
        return None
    return {**body, "choices": list(choices.values())}


def _join(whole: dict[str, Any], part: dict[str, Any]) -> None:
    """Add one event of a choice; texts are appended, and so are parts of a content; all other values are replaced."""
    said = part.get("delta") if isinstance(part.get("delta"), dict) else part.get("message")
    message = whole["message"]
    for key, value in said.items() if isinstance(said, dict) else ():
        if key == "content":
            message[key] = _appended(message.get(key), value)
        elif isinstance(value, str) and key != "role" and isinstance(message.get(key, ""), str):
            message[key] = message.get(key, "") + value
        elif value is not None:
            message[key] = value
    if isinstance(part.get("text"), str):
        message["content"] = _appended(message.get("content"), part["text"])
    known = {"index", "delta", "message", "text"}
    # A stop that follows a failure or a cut, from a gateway that tried again in the same stream, does not undo it.
    if whole.get("finish_reason") not in (None, "", "stop"):
        known.add("finish_reason")
    whole |= {key: value for key, value in part.items() if key not in known and value is not None}


def _appended(content: object, more: object) -> object:
    """Return a content with more of it: both may be strings, lists of parts, or a part."""
    if content is None or more is None:
        return content if more is None else more
    if isinstance(content, str) and isinstance(more, str):
        return content + more
    return [part for some in (content, more) for part in (some if isinstance(some, list) else [some])]
