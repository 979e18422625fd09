"""OpenAI's chat completions on the wire: what a server is sent, what its replies say, and what it was found not to take.

Servers differ in which parameters they take. What one refuses with a 400 is remembered and left out
from then on, as long as the answer cannot change by it: another temperature than the one that was
configured is never taken silently. It is the same whether requests go one by one or in a batch's file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stepsynth.errors import AskAgainError, PermanentError, TransientError
from stepsynth.teachers.bodies import parsed_json, server_message, well_formed
from stepsynth.teachers.refusals import classify
from stepsynth.teachers.structured import SCHEMA, asked
from stepsynth.types import FinishReason, Request, Response, Usage

if TYPE_CHECKING:
    from stepsynth.config import TeacherConfig
    from stepsynth.teachers.http import Reply
    from stepsynth.types import Sampling

__all__ = ["ChatFormat", "Dialect", "is_withheld", "read_completion", "refuses_many", "request_seed", "withheld"]

_REFUSALS = frozenset({400, 422})
_FINISH: dict[str, FinishReason] = {"length": "length", "max_tokens": "length", "content_filter": "refusal", "refusal": "refusal"}
# How a JSON object is asked for, the strictest way first; the last is the prompt alone.
_FORMATS: tuple[dict[str, Any] | None, ...] = (
    {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}},
    {"type": "json_object"},
    None,
)
_FORMAT_WORDS = re.compile(r"response_format|json_schema|json_object|structured.output|grammar|schema", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server was found to take.

    Attributes:
        limit: what it calls the most tokens of an answer.
        without: parameters that it refuses and that change nothing.
        form: place in `_FORMATS`.
    """

    limit: str = "max_tokens"
    without: frozenset[str] = frozenset()
    form: int = 0

    def joined(self, other: Dialect) -> Dialect:
        """Return what both have learned."""
        limit = self.limit if self.limit != "max_tokens" else other.limit
        return Dialect(limit, self.without | other.without, max(self.form, other.form))


class ChatFormat:
    """The bodies for one server.

    Args:
        config: ``model``, ``base_url``, ``structured`` and what decides a request's key.

    Attributes:
        dialect: how the next request is written.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self._config = config
        self._identity = config.identity()
        self._base_url = str(config.base_url).rstrip("/")
        self.dialect = Dialect()

    def body(self, request: Request, count: int = 1) -> dict[str, object]:
        """Return what is sent for a request that wants ``count`` answers."""
        dialect, sampling = self.dialect, request.sampling
        structured = self._config.structured == "json"
        plain = [{"role": m.role, "content": m.content} for m in request.messages]
        body: dict[str, object] = {
            "model": self._config.model,
            "messages": asked(request.messages) if structured else plain,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            dialect.limit: sampling.max_tokens,
            "seed": request_seed(request.key(self._identity)),
        }
        # OpenAI refuses keys that it does not know, vLLM and llama.cpp take these two.
        if sampling.min_p != 0.0:
            body["min_p"] = sampling.min_p
        if sampling.repetition_penalty != 1.0:
            body["repetition_penalty"] = sampling.repetition_penalty
        if count > 1:
            body["n"] = count
        form = _FORMATS[dialect.form] if structured else None
        if form is not None:
            body["response_format"] = form
        for name in dialect.without:
            del body[name]
        return body

    def learn(self, reply: Reply, sampling: Sampling, *asked_in: Dialect) -> AskAgainError | None:
        """Take another dialect where a refusal names what can be left out without changing the answer.

        Args:
            reply: any that is not a 2xx.
            sampling: of the request.
            asked_in: dialects that the request may have been written in; the first that explains the refusal counts.

        Returns:
            What to raise, so that the request is sent again; ``None`` where the refusal is final.
        """
        if reply.status not in _REFUSALS:
            return None
        learned = next(filter(None, (self._learned(reply, sampling, dialect) for dialect in asked_in)), None)
        if learned is None:
            return None
        self.dialect = self.dialect.joined(learned)
        return self.ask_again(reply)

    def ask_again(self, reply: Reply) -> AskAgainError:
        """Return the error that has a request sent again."""
        said, _ = server_message(reply.text)
        return AskAgainError(f"{self._base_url} wants to be asked in another way (HTTP {reply.status}: {said!r}).")

    def _learned(self, reply: Reply, sampling: Sampling, dialect: Dialect) -> Dialect | None:
        """Return how to ask instead, or ``None`` where nothing can be left out without changing the answer."""
        said, _ = server_message(reply.text)
        if dialect.limit == "max_tokens" and "max_completion_tokens" in reply.text:
            return replace(dialect, limit="max_completion_tokens")
        for name in _harmless(sampling):
            if name not in dialect.without and re.search(rf"\b{name}\b", said):
                return replace(dialect, without=dialect.without | {name})
        form = dialect.form
        if self._config.structured == "json" and form + 1 < len(_FORMATS) and _FORMAT_WORDS.search(said):
            return replace(dialect, form=form + 1)
        return None

    def fixed_sampling(self, reply: Reply, sampling: Sampling) -> PermanentError | None:
        """Return the error of a model that takes no other temperature or top-p than its own, if that is what a refusal says."""
        said, _ = server_message(reply.text)
        fixed = [name for name in ("temperature", "top_p") if re.search(rf"\b{name}\b", said)]
        if reply.status not in _REFUSALS or not fixed:
            return None
        name = fixed[0]
        what = f"{self._base_url}: {self._config.model!r} refused {name} {getattr(sampling, name):g}: {said!r}."
        return PermanentError(what, hint=f"Set teacher.sampling.{name}: 1.0, it is left out then.", kind="refused")


def request_seed(key: str) -> int:
    """Return the sampling seed of a request: 31 bits of its key (64 hex digits of a sha256)."""
    return int(key[:8], 16) >> 1


def read_completion(raw: str, most: int = 1) -> list[Response]:
    """Return the answers in a completion's body, at least one.

    Args:
        raw: the body.
        most: how many choices to read.

    Raises:
        TransientError: it holds none.
    """
    value = parsed_json(raw)
    body = value if isinstance(value, dict) else {}
    choices = body.get("choices")
    found = [choice for choice in choices if _is_answer(choice)][:most] if isinstance(choices, list) else []
    if not found:
        said, _ = server_message(raw)
        what = "no choices" if body else "no valid JSON"
        hint = "If it persists, look at the server's log."
        raise TransientError(f"the answer holds {what}: {said!r}.", hint=hint, kind="damaged")
    usages = _split(_usage(body.get("usage")), len(found))
    # Each row keeps its own choice; the whole body with every row would grow with their square.
    raws = [raw] if len(found) == 1 else [json.dumps({**body, "choices": [choice]}) for choice in found]
    return [_response(choice, usage, text) for choice, usage, text in zip(found, usages, raws, strict=True)]


def _harmless(sampling: Sampling) -> list[str]:
    """Return parameters whose absence leaves the distribution of the answer as it is."""
    return ["seed", *(name for name in ("temperature", "top_p") if getattr(sampling, name) == 1.0)]


def is_withheld(reply: Reply) -> bool:
    """Tell whether a provider keeps the answer back for what it, or the prompt, says."""
    return not reply.ok and classify(reply.status, reply.text) == "withheld"


def refuses_many(reply: Reply) -> bool:
    """Tell a refusal of ``n``, for instance llama.cpp's "Only one completion choice is allowed"."""
    return reply.status in _REFUSALS and bool(re.search(r"\bn\b|\bchoices?\b", server_message(reply.text)[0]))


def withheld(reply: Reply) -> Response:
    """Return the answer that was kept back: a refusal."""
    return Response(text="", finish_reason="refusal", raw=reply.text)


def _is_answer(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict)


def _response(choice: dict[str, Any], usage: Usage, raw: str) -> Response:
    message = choice["message"]
    refusal = message.get("refusal")
    finish = "refusal" if refusal else _FINISH.get(str(choice.get("finish_reason")), "stop")
    return Response(text=_content(message.get("content") or refusal), finish_reason=finish, usage=usage, raw=raw)


def _content(content: object) -> str:
    """Return the answer proper: a string, or the text parts among parts (thinking left out)."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(str(part.get("text", "")) for part in parts)
    return well_formed(content) if isinstance(content, str) else ""


def _usage(value: object) -> Usage:
    counts = value if isinstance(value, dict) else {}
    numbers = (counts.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return Usage(*(n if isinstance(n, int) and n > 0 else 0 for n in numbers))


def _split(usage: Usage, parts: int) -> list[Usage]:
    """Return equal shares of what was counted; the first ones take what is left over."""
    read, written = divmod(usage.prompt_tokens, parts), divmod(usage.completion_tokens, parts)
    return [Usage(read[0] + (i < read[1]), written[0] + (i < written[1])) for i in range(parts)]
