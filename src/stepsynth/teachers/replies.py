"""An HTTP reply, and the error for a refusal, whether it came as a status or inside a 200."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepsynth.errors import PermanentError, TransientError
from stepsynth.teachers.error_body import read_error, server_message
from stepsynth.teachers.failures import proxy_wants_a_password
from stepsynth.teachers.proxies import find_proxy
from stepsynth.teachers.redaction import MESSAGE_CHARS, is_page, without_keys
from stepsynth.teachers.refusals import classify, daily_limit
from stepsynth.teachers.retry_after import retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import TeacherError

__all__ = ["NO_MONEY_HINT", "PROXY_REFUSES", "TRANSIENT", "Reply", "refusal_error"]

PROXY_REFUSES = 407
TRANSIENT = frozenset({408, 409, 425, 429, *range(500, 600)})
NO_MONEY_HINT = "Add credit or raise the spending limit, then run it again: everything obtained is kept."
# 529 is how Anthropic says that it is overloaded.
_SOON = re.compile(r"per[ _-]?(?:minute|second)|\b(?:RPM|TPM)\b|PerMinute", re.IGNORECASE)
# Parameters that our requests contain; any other that a server names belongs into teacher.options.
_OWN = frozenset(
    {
        *("model", "messages", "temperature", "top_p", "min_p", "repetition_penalty", "max_tokens", "max_completion_tokens"),
        *("seed", "n", "response_format", "output_config", "system", "prompt", "input", "content", "role"),
        *("max_output_tokens", "stream", "stream_options", "headers", "api_key", "timeout"),
    }
)
_PARAMETER = re.compile(r"(?:parameters?|argument|field)(?:\.|:? ['\"`]|:? (?=[a-z]+_))([a-z][a-z0-9_]{2,40})\b", re.IGNORECASE)
# The locations of parameters in FastAPI's errors.
_PLACES = frozenset({"body", "query", "parameters", "extra_body"})
# llama.cpp: "exceeds the available context size"; OpenAI and vLLM: "maximum context length is".
_ROOM_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_ROOM = re.compile(r"maximum (?:context|model) length|max_model_len|(?:exceeds?|longer than|over) .{0,40}context", re.IGNORECASE)
_VALUE = re.compile(r"(?:must|should|has to) be (?:set to |equal to )?['\"`]?(true|false)\b", re.IGNORECASE)
_KINDS = {408: "timeout", 429: "overload", 529: "overload"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP reply, with the key cut out of its text.

    Attributes:
        status: the HTTP status; for a failure inside a 200, the status that it stands for.
        text: the body, decoded as UTF-8; invalid bytes become U+FFFD.
        headers: by lower-case name; empty for a 2xx unless the client is watched, because nothing reads them.
    """

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


def refusal_error(reply: Reply, config: TeacherConfig, url: str) -> TeacherError:
    """Return the error for a refusal.

    Args:
        reply: a reply that is not 2xx.
        config: ``api_key_env`` and ``model`` go into the message.
        url: the server's address.
    """
    status = reply.status
    via = find_proxy(url)
    if via is not None and status == PROXY_REFUSES:
        return proxy_wants_a_password(via)
    wait = retry_after(reply.headers, reply.text)
    about = classify(status, reply.text, wait=wait)
    # The message of a 401 usually holds the key itself, partly masked.
    words = server_message(reply.text) if about == "money" or status != 401 else ""
    said = f" (HTTP {status}: {words!r})" if words else f" (HTTP {status})"
    if about == "money":
        what = f"{url}: the account has no quota or credit left{said}."
        return PermanentError(what, hint=NO_MONEY_HINT, kind="refused", final=True)
    if about == "busy" or (about != "key" and status in TRANSIENT):
        through = f", asked through {via.named}" if via is not None and is_page(reply.text) else ""
        what = f"{url} could not answer now{said}{through}."
        return _busy(what, "overload" if about == "busy" else _KINDS.get(status, "unavailable"), reply, wait, words)
    if about == "key" or status == 403:
        error = _key_refused(url, config, said, final=about == "key" or not is_page(reply.text))
        # If the key has already worked, a 403 is about this request only.
        error.unless_answered = about != "key"
        return error
    if 300 <= status < 400:
        return _redirected(url, reply)
    hint = _room_hint(reply) or _option_hint(reply, config) or "Change teacher.model or teacher.sampling."
    return PermanentError(f"{url} refused the request{said}.", hint=hint, kind="refused", final=about == "model")


def _room_hint(reply: Reply) -> str:
    """Return a hint if prompt and answer do not fit into the model's context."""
    error = read_error(reply.text)
    if not (_ROOM_CODES & error.codes.keys() or _ROOM.search(error.words)):
        return ""
    return (
        "Lower teacher.sampling.max_tokens (and teacher.reasoning_tokens), make the task's instruction and examples shorter, "
        "or give the server's model a longer context."
    )


def _option_hint(reply: Reply, config: TeacherConfig) -> str:
    """Return a hint if a server names a parameter that our requests do not contain."""
    error = read_error(reply.text)
    named = [name for name in (*sorted(error.points), *_PARAMETER.findall(error.words)) if name and name not in _PLACES]
    name = next((name for name in named if re.fullmatch(r"[a-z][a-z0-9_]{2,40}", name)), "")
    if not name or any(entry in _OWN for entry in named) or config.backend not in {"openai", "anthropic", "litellm"}:
        return ""
    value = _VALUE.search(error.words)
    example = f"{{{name}: {value[1].lower()}}}" if value else f"{{{name}: ...}}"
    return f"Set it to what the server accepts, for instance teacher.options: {example}; or change teacher.model."


def _busy(what: str, kind: str, reply: Reply, wait: float | None, words: str) -> TeacherError:
    limit = daily_limit(reply.text)
    if limit and wait is None and kind == "overload" and not _SOON.search(words):
        # It is unknown when the limit resets, and attempts within minutes are in vain.
        hint = f"Everything obtained is kept; run it again when the {limit} resets."
        return PermanentError(f"{limit}: {what}", hint=hint, kind=kind, final=True)
    why = (f"{limit}: " if limit else "") + (repr(words) if words else f"HTTP {reply.status}")
    hint = "If it persists, lower teacher.concurrency or look at the server's status."
    return TransientError(what, hint=hint, kind=kind, retry_after=wait, why=why)


def _key_refused(url: str, config: TeacherConfig, said: str, *, final: bool) -> PermanentError:
    variable = config.api_key_env
    if variable is None:
        hint = "Set teacher.api_key_env to the name of the environment variable that holds it."
        return PermanentError(f"{url} requires a key{said}.", hint=hint, kind="refused", final=final)
    hint = f"Check that {variable} holds a valid key for this server that may use {config.model!r}."
    return PermanentError(f"{url} refused the key in {variable}{said}.", hint=hint, kind="refused", final=final)


def _redirected(url: str, reply: Reply) -> PermanentError:
    target = without_keys(reply.headers.get("location", "").partition("?")[0])[:MESSAGE_CHARS]
    what = f"{url} redirects to {target!r} (HTTP {reply.status}); redirects are not followed, because they would pass the key on."
    return PermanentError(what, hint="Write the final address into teacher.base_url.", kind="refused", final=True)
