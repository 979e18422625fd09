"""A teacher behind Anthropic's Messages API.

    teacher = AnthropicTeacher(config)   # reads the key's variable, opens no connection yet
    await teacher.probe()
    response = await teacher.generate(request)

The API has no seed, no min_p and no repetition penalty, and its highest temperature is 1. At 1.0, the
API's default, temperature and top_p are not sent: several models refuse one or both of them
(https://docs.claude.com/en/api/messages). No configured setting is left out silently.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from stepsynth.config.teacher import ANTHROPIC_URL
from stepsynth.errors import ConfigError, PermanentError, RetryModifiedError, TransientError
from stepsynth.teachers.completions import end_of, failure_in, plain_error
from stepsynth.teachers.error_body import read_error, server_message
from stepsynth.teachers.http import HttpClient
from stepsynth.teachers.redaction import parsed_json, read_key, token_count, well_formed
from stepsynth.teachers.refusals import UNKNOWN_STATUS, classify
from stepsynth.teachers.replies import PROXY_REFUSES, Reply
from stepsynth.teachers.served import model_ids, not_shown, unlisted
from stepsynth.teachers.settings import FIXED, is_refused, may_be_left_out, note_of, one_of_two, refused_setting, without_again
from stepsynth.teachers.structured import asked, schema_of
from stepsynth.types import FinishReason, Response, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.types import Request, Sampling

__all__ = ["AnthropicTeacher", "read_message"]

VERSION = "2023-06-01"
PATH = "/v1/messages"
_FORMAT_WORDS = re.compile(r"output_config|output_format|json_schema|structured output|grammar|schema", re.IGNORECASE)
_FINISH: dict[str, FinishReason] = {"max_tokens": "length", "model_context_window_exceeded": "length", "refusal": "refusal"}
# The API counts prompt tokens read from its cache, and those written to it, separately.
_READ = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class AnthropicTeacher:
    """Messages over one shared HTTP session.

    Args:
        config: ``model``, ``base_url`` (by default Anthropic's own; may end in ``/v1``),
            ``api_key_env``, ``structured``, ``sampling``, and what `HttpClient` needs.

    Attributes:
        http: the session.
        by_schema: whether requests send a schema for the answer; false once the model has refused it.
        without: settings that the model refuses and that may be left out.
        notes: messages for the user; the caller that shows them removes them.

    Raises:
        ConfigError: the key's variable is unset, or the API does not have a sampling setting.
    """

    def __init__(self, config: TeacherConfig) -> None:
        sampling = config.sampling
        if sampling.temperature > 1.0:
            hint = "Anthropic takes 0.0 to 1.0."
            raise ConfigError(f"teacher.sampling.temperature is {sampling.temperature:g}.", hint=hint)
        for name, off in (("min_p", 0.0), ("repetition_penalty", 1.0)):
            if getattr(sampling, name) != off:
                what = f"teacher.sampling.{name} is {getattr(sampling, name):g}, which Anthropic's API does not have."
                raise ConfigError(what, hint=f"Leave it at {off:g}.")
        self._config = config
        self._base_url = (config.base_url or ANTHROPIC_URL).rstrip("/").removesuffix("/v1")
        self.http = HttpClient(
            config,
            self._base_url,
            read_key(config.api_key_env),
            key_header=("x-api-key", ""),
            headers={"anthropic-version": VERSION},
        )
        self.by_schema = config.structured == "json"
        self.without: frozenset[str] = frozenset()
        self.notes: list[str] = []

    async def generate(self, request: Request) -> Response:
        """Answer one request with one attempt.

        If a model refuses the schema of ``structured: json``, it is left out from then on; the
        prompt still asks for JSON.

        Args:
            request: system turns are sent in the ``system`` field, all others unchanged.

        Returns:
            The answer, possibly with an empty text; ``refusal`` if the model declined.

        Raises:
            RetryModifiedError: the schema, or a setting that the user did not set, was refused.
            TransientError: overload (429, 529), time-out, lost connection, damaged answer.
            PermanentError: wrong key, unknown model, refused request, answer over 16 MB.
        """
        by_schema, without = self.by_schema, self.without
        reply = await self.http.exchange("POST", PATH, self.body(request))
        if not reply.ok and classify(reply.status, reply.text) == "withheld":
            return Response("", "refusal", raw=reply.text)
        if not reply.ok:
            raise self.refused(reply, request.sampling, by_schema=by_schema, without=without)
        return read_message(reply.text, lambda inner: self.refused(inner, request.sampling, by_schema=by_schema, without=without))

    async def probe(self) -> str:
        """Check the key and the model in the list of models, before anything is spent.

        Only a real request can show that a key is wrong; see `OpenAITeacher.probe`.

        Raises:
            TransientError: the server cannot be reached.
            PermanentError: the URL is wrong, or a proxy refuses.
        """
        model = self._config.model
        reply = await self.http.exchange("GET", f"/v1/models/{quote(model, safe='')}")
        if reply.ok:
            return f"{self._base_url} serves {model!r}."
        listed = await self.http.exchange("GET", "/v1/models?limit=1000") if reply.status == 404 else reply
        if listed.status == PROXY_REFUSES:
            raise self.http.refused(listed)
        if not listed.ok:
            return not_shown(self._base_url, model, listed)
        return unlisted(self._base_url, model, model_ids(listed) or ())

    async def close(self) -> None:
        """Release connections; a later ``generate`` opens new ones."""
        await self.http.close()

    async def capabilities(self) -> dict[str, str]:
        """Return the capabilities that the API lacks."""
        return dict.fromkeys(("seed", "n", "logprobs"), "the Messages API has none")

    def learned(self) -> dict[str, object]:
        """Return the findings that save later runs from repeating them; see `stepsynth.teachers.learned`."""
        found: dict[str, object] = {"without": sorted(self.without)} if self.without else {}
        return found | ({"schema": False} if self._config.structured == "json" and not self.by_schema else {})

    def start_with(self, learned: Mapping[str, Any]) -> None:
        """Start with the findings of an earlier run."""
        self.by_schema = self.by_schema and learned.get("schema") is not False
        self.without = without_again(self._config, learned, self.notes, self._base_url)

    def body(self, request: Request) -> dict[str, object]:
        """Return the request body, in the form that this model is known to accept."""
        sampling = request.sampling
        turns = [{"role": m.role, "content": m.content} for m in request.messages]
        if self._config.structured == "json":
            turns = asked(request)
        body: dict[str, object] = {
            **self._config.options,
            "model": self._config.model,
            "max_tokens": sampling.max_tokens,
            "messages": [turn for turn in turns if turn["role"] != "system"],
        }
        if system := [turn["content"] for turn in turns if turn["role"] == "system"]:
            body["system"] = "\n\n".join(system)
        for name in FIXED:
            if getattr(sampling, name) != 1.0 and name not in self.without:
                body[name] = getattr(sampling, name)
        if self.by_schema:
            # https://docs.claude.com/en/build-with-claude/structured-outputs; older models refuse it.
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema_of(request)}}
        return body

    def refused(self, reply: Reply, sampling: Sampling, *, by_schema: bool, without: frozenset[str]) -> TeacherError:
        """Return the error for a status that is not 2xx; refused settings that may be left out are no longer sent.

        Args:
            reply: the server's reply.
            sampling: the request's sampling.
            by_schema: whether the request sent a schema.
            without: settings that the request left out.
        """
        said = server_message(reply.text)
        model = self._config.model
        if reply.status == 400 and by_schema and _FORMAT_WORDS.search(said):
            self.by_schema = False
            return RetryModifiedError(f"{model!r} refused the schema; the request is sent again without it.")
        if reply.status == 404:
            what = f"{self._base_url}{PATH}, model {model!r}: not found ({said!r})."
            return PermanentError(what, hint="Check teacher.model and teacher.base_url.", kind="refused", final=True)
        if reply.status == 429:
            return self._limited(reply)
        if reply.status != 400:
            return self.http.refused(reply)
        sent = [name for name in read_error(reply.text).named(FIXED) if name not in without and getattr(sampling, name) != 1.0]
        free = [name for name in one_of_two(reply.text, sent) if may_be_left_out(self._config, sampling, name)]
        if free and is_refused(reply.text):
            if not self.without.issuperset(free):
                self.notes.append(note_of(self._base_url, model, free))
            self.without |= set(free)
            return RetryModifiedError(f"{model!r} refused {' and '.join(free)}; the request is sent again without.")
        return refused_setting(self._config, reply.text, sampling, self._base_url) or self.http.refused(reply)

    def _limited(self, reply: Reply) -> TeacherError:
        error = self.http.refused(reply)
        if isinstance(error, TransientError) and error.retry_after is None:
            # https://platform.claude.com/docs/en/api/rate-limits: every other limit comes with a ``retry-after``.
            error.why = f"no waiting time is given, as when a monthly limit is reached: {error.why}"
            error.hint = "Raise the monthly limit in the Console if it is reached; else run it again later."
        return error


def read_message(raw: str, refused: Callable[[Reply], TeacherError] | None = None) -> Response:
    """Read the answer from a message's body.

    Args:
        raw: the body, or the ``message`` of a batch's result.
        refused: makes the error for a failure inside a 200.

    Raises:
        TransientError: it holds no answer, or a temporary failure.
        PermanentError: it holds a permanent failure.
    """
    value = parsed_json(raw)
    body = value if isinstance(value, dict) else {}
    if (failure := failure_in(body)) is not None:
        if classify(failure.status, failure.text) == "withheld":
            return Response("", "refusal", _usage(body.get("usage")), raw)
        raise (refused or plain_error)(failure)
    content = body.get("content")
    if not isinstance(content, list):
        said = server_message(raw)
        what = "no content" if body else "no valid JSON"
        hint = "If it persists, check teacher.base_url."
        raise TransientError(f"the answer holds {what}: {said!r}.", hint=hint, kind="damaged")
    parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    text = "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    reason, usage = body.get("stop_reason"), _usage(body.get("usage"))
    finish = _FINISH.get(str(reason)) or end_of(reason)
    if finish == "failed":
        error = (refused or plain_error)(Reply(UNKNOWN_STATUS, json.dumps({"message": f"stop_reason {reason!r}"})))
        if text or usage.completion_tokens:
            # Part of an answer came, and may be billed.
            error.kind = "damaged"
        raise error
    return Response(well_formed(text), cast("FinishReason", finish), usage, raw)


def _usage(value: object) -> Usage:
    counts = value if isinstance(value, dict) else {}
    return Usage(sum(token_count(counts.get(name)) for name in _READ), token_count(counts.get("output_tokens")))
