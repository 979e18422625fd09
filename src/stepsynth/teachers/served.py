"""A server's list of models. It is a help, not a gate: many servers serve models that theirs does not name."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from stepsynth.errors import did_you_mean
from stepsynth.teachers.error_body import server_message
from stepsynth.teachers.redaction import MESSAGE_CHARS, parsed_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepsynth.teachers.replies import Reply

__all__ = ["after_answers", "model_ids", "not_shown", "says_unlisted", "serves", "unlisted", "unseen"]

_UNLISTED = "does not list"
_UNAUTHORIZED = 401
_NOT_SHOWN = "does not show its list of models"
_UNSEEN = "a request will show whether it serves"


def model_ids(reply: Reply) -> list[str] | None:
    """Return the listed models; ``None`` if there is no list, or only part of one."""
    value = parsed_json(reply.text) if reply.status == 200 else None
    # Together sends a bare array.
    rows = value if isinstance(value, list) else value.get("data") if isinstance(value, dict) else None
    if not isinstance(rows, list) or (isinstance(value, dict) and value.get("has_more")):
        return None
    return [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row] or None


def serves(model: str, ids: Iterable[str]) -> bool:
    """Whether a model is listed, in any of the spellings that servers use.

    ``models/NAME`` (Gemini), ``NAME:latest`` (Ollama), ``NAME:nitro`` (OpenRouter's and Hugging Face's
    choice of a provider), ``openai/*`` (LiteLLM).
    """
    wanted = {model, model.partition(":")[0]}
    return any(
        wanted & {name, name.removeprefix("models/"), name.removesuffix(":latest")} or ("*" in name and fnmatchcase(model, name))
        for name in ids
    )


def unlisted(url: str, model: str, ids: Iterable[str]) -> str:
    """Return a sentence on a model that a server does not list, with the nearest names that it lists."""
    hint = did_you_mean(model, ids)
    hint = hint if len(hint) <= MESSAGE_CHARS else f"{hint[:MESSAGE_CHARS]}..."
    return f"{url} {_UNLISTED} {model!r}; {_UNSEEN} it. {hint}".rstrip()


def not_shown(url: str, model: str, reply: Reply) -> str:
    """Return a sentence on a list that was refused or failed, which says nothing about the chat.

    Many keys may ask for answers but not for the list, and in many gateways only the list fails.
    """
    # The message of a 401 usually holds the key itself, partly masked.
    words = server_message(reply.text) if reply.status != _UNAUTHORIZED else ""
    said = f"HTTP {reply.status}: {words!r}" if words else f"HTTP {reply.status}"
    return f"{url} {_NOT_SHOWN} ({said}); {unseen(model)}"


def unseen(model: str) -> str:
    """Return the end of a sentence on a server whose list does not tell whether it serves a model."""
    return f"{_UNSEEN} {model!r}."


def after_answers(sentence: str, model: str) -> str:
    """Return a sentence of this module as it reads once the server has answered.

    Examples:
        >>> after_answers("http://localhost answered but lists no models: " + unseen("m"), "m")
        "http://localhost answered but lists no models; it answers as 'm'."
    """
    before, found, _ = sentence.partition(_UNSEEN)
    return f"{before.rstrip(' :;')}; it answers as {model!r}." if found else sentence


def says_unlisted(sentence: str) -> bool:
    """Whether a sentence is from `unlisted` or `not_shown`, which the user should see."""
    return _UNLISTED in sentence or _NOT_SHOWN in sentence
