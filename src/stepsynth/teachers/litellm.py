"""A teacher through LiteLLM, for providers that support neither OpenAI's nor Anthropic's format.

LiteLLM is an optional dependency: ``pip install 'stepsynth[litellm]'``. It is used only as a
translator: no retries, cache, callbacks or telemetry, and no download of its price list on import.
Parameters that a provider does not accept according to LiteLLM (``seed``, ``n``,
``response_format``) are left out; an unsupported sampling setting is an error.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError, PermanentError, RetryModifiedError, TransientError
from stepsynth.teachers.chat import request_seed
from stepsynth.teachers.completions import read_completion
from stepsynth.teachers.error_body import read_error
from stepsynth.teachers.headers import read_headers
from stepsynth.teachers.redaction import MESSAGE_CHARS, read_key, scrubbed, without_keys
from stepsynth.teachers.refusals import classify
from stepsynth.teachers.replies import NO_MONEY_HINT, TRANSIENT, refusal_error
from stepsynth.teachers.retry_after import retry_after
from stepsynth.teachers.settings import FIXED, is_refused, may_be_left_out, note_of, refused_setting, without_again
from stepsynth.teachers.structured import asked, schema_of
from stepsynth.types import Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.teachers.refusals import Refusal
    from stepsynth.types import Request, Sampling

__all__ = ["LiteLlmTeacher"]

_OVERLOAD = frozenset({429, 529})
# Errors of httpx that mean that nothing was sent.
_NOT_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"})


class LiteLlmTeacher:
    """Chat completions through ``litellm.acompletion``.

    Args:
        config: ``model`` in LiteLLM's spelling (``gemini/gemini-2.5-flash``, ``bedrock/...``);
            ``base_url`` and ``api_version`` if the provider needs them; ``api_key_env`` (by default
            LiteLLM reads the provider's own variables); ``options`` and ``headers`` go into every call.

    Attributes:
        rows_limit: most rows that one request can give.
        notes: messages for the user; the caller that shows them removes them.

    Raises:
        ConfigError: LiteLLM is not installed, or the key's variable is unset.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self._litellm = _litellm()
        self._config = config
        self._identity = config.identity()
        self._key = read_key(config.api_key_env)
        self._headers = read_headers(config)
        self._without: frozenset[str] = frozenset()
        self.notes: list[str] = []
        self._takes = set(self._litellm.get_supported_openai_params(model=config.model) or ())
        self.rows_limit = config.rows_per_request if "n" in self._takes else 1

    async def generate(self, request: Request) -> Response:
        """Answer one request with one attempt.

        Raises:
            TransientError: an overload, a time-out, a lost connection or a damaged answer.
            PermanentError: a wrong key, an unknown model or a refused request.
        """
        return (await self._ask(request, 1))[0]

    async def generate_many(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests that differ only in their replicate with one attempt; see `OpenAITeacher.generate_many`."""
        if self.rows_limit == 1 or len(requests) == 1:
            return await self._ask(requests[0], 1)
        answers = await self._ask(requests[0], len(requests))
        if len(answers) < len(requests):
            self.rows_limit = 1
        return answers

    async def capabilities(self) -> dict[str, str]:
        """Return the settings that the provider does not accept according to LiteLLM."""
        names = ("seed", "n", "logprobs")
        return {name: "LiteLLM's list does not have it for this model" for name in names if name not in self._takes}

    def learned(self) -> dict[str, object]:
        """Return the findings that save later runs from repeating them; see `stepsynth.teachers.learned`."""
        found: dict[str, object] = {"without": sorted(self._without)} if self._without else {}
        return found | ({"many": False} if self._config.rows_per_request > 1 and self.rows_limit == 1 else {})

    def start_with(self, learned: Mapping[str, Any]) -> None:
        """Start with the findings of an earlier run."""
        self._without = without_again(self._config, learned, self.notes, "LiteLLM")
        if learned.get("many") is False:
            self.rows_limit = 1

    @staticmethod
    def check(config: TeacherConfig) -> str:
        """Check the package and the key, send nothing; return one sentence.

        Raises:
            ConfigError: LiteLLM is not installed, or the key's variable is unset.
        """
        _litellm()
        read_key(config.api_key_env)
        return f"{config.model} through LiteLLM (nothing was sent)"

    async def close(self) -> None:
        """Release the connections that LiteLLM keeps, if this version can."""
        close = getattr(self._litellm, "close_litellm_async_clients", None)
        if close is not None:
            await close()

    async def _ask(self, request: Request, count: int) -> list[Response]:
        # Raised outside the handler: LiteLLM's errors hold headers and whole requests.
        failure: TeacherError
        without = self._without
        try:
            answer = await self._litellm.acompletion(**self._arguments(request, count))
            raw = self._scrubbed(str(answer.model_dump_json()))
        except Exception as error:
            if type(error).__name__ == "ContentPolicyViolationError" or self._about(error) == "withheld":
                return [Response("", "refusal", raw=self._said(error)) for _ in range(count)]
            failure = self._learned(error, request.sampling, without) or self._converted(error)
        else:
            url = f"{self._config.model} through LiteLLM"
            return read_completion(
                raw, count, lambda reply: refusal_error(reply, self._config, url), "\n".join(m.content for m in request.messages)
            )
        raise failure

    def _arguments(self, request: Request, count: int) -> dict[str, Any]:
        config, sampling = self._config, request.sampling
        turns = [{"role": m.role, "content": m.content} for m in request.messages]
        arguments: dict[str, Any] = {
            **config.options,
            "model": config.model,
            "messages": asked(request) if config.structured == "json" else turns,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "timeout": config.timeout_s,
            "num_retries": 0,
            "max_retries": 0,
            "caching": False,
            "cache": {"no-cache": True, "no-store": True},
        }
        # Sent only if set: without them the provider's default holds; providers refuse those they do not know.
        given = {"min_p": (sampling.min_p, 0.0), "repetition_penalty": (sampling.repetition_penalty, 1.0)}
        arguments |= {name: value for name, (value, off) in given.items() if value != off}
        if "seed" in self._takes:
            arguments["seed"] = request_seed(request.key(self._identity))
        if count > 1:
            arguments["n"] = count
        if config.structured == "json" and "response_format" in self._takes:
            form = {"name": "answer", "strict": True, "schema": schema_of(request)}
            arguments["response_format"] = {"type": "json_schema", "json_schema": form}
        places = {"api_base": config.base_url, "api_version": config.api_version}
        arguments |= {name: value for name, value in places.items() if value}
        if self._headers:
            arguments["extra_headers"] = {name: value.get_secret_value() for name, value in self._headers.items()}
        for name in self._without:
            arguments.pop(name, None)
        if self._key is not None:
            arguments["api_key"] = self._key.get_secret_value()
        return arguments

    def _learned(self, error: Exception, sampling: Sampling, without: frozenset[str]) -> TeacherError | None:
        """Leave out refused settings that may be left out; otherwise return what the user has to change."""
        if getattr(error, "status_code", None) not in {400, 422}:
            return None
        said = self._scrubbed(str(error))
        named = [name for name in read_error(said).named(FIXED) if name not in without]
        free = [name for name in named if may_be_left_out(self._config, sampling, name)]
        if not free or not is_refused(said):
            return refused_setting(self._config, said, sampling, "LiteLLM")
        if changed := [name for name in free if name not in self._without and getattr(sampling, name) != 1.0]:
            self.notes.append(note_of("LiteLLM", self._config.model, changed))
        self._without |= set(free)
        return RetryModifiedError(f"{self._config.model} (LiteLLM) refused {' and '.join(free)}; it is asked again without.")

    def _scrubbed(self, text: str) -> str:
        for secret in (self._key, *self._headers.values()):
            text = scrubbed(text, secret)
        return text

    def _said(self, error: Exception) -> str:
        said = " ".join(without_keys(self._scrubbed(str(error))).split())
        return said[:MESSAGE_CHARS]

    def _about(self, error: Exception) -> Refusal:
        status = getattr(error, "status_code", None)
        return classify(status, str(error), wait=retry_after({}, str(error))) if isinstance(status, int) else ""

    def _converted(self, error: Exception) -> TeacherError:
        """Convert one of LiteLLM's errors to ours, by its class and its ``status_code``."""
        name, model = type(error).__name__, self._config.model
        status = getattr(error, "status_code", None)
        what = f"{model} through LiteLLM: {name}: {self._said(error)!r}."
        if name == "Timeout" or isinstance(error, TimeoutError):
            hint = "Raise teacher.timeout_s or lower teacher.concurrency."
            return TransientError(what, hint=hint, kind="timeout", maybe_billed=not _NOT_SENT & set(_causes(error)))
        if name == "APIConnectionError" or isinstance(error, OSError):
            hint = "Check that the server runs and that teacher.base_url is right."
            return TransientError(what, hint=hint, kind="connection", maybe_billed=not _NOT_SENT & set(_causes(error)))
        about = self._about(error)
        if about == "money":
            return PermanentError(what, hint=NO_MONEY_HINT, kind="refused", final=True)
        if about == "busy" or status in TRANSIENT:
            kind = "overload" if about == "busy" or status in _OVERLOAD else "timeout" if status == 408 else "unavailable"
            response = getattr(error, "response", None)
            headers = {str(k).lower(): str(v) for k, v in dict(getattr(response, "headers", None) or {}).items()}
            wait = retry_after(headers, str(error))
            hint = "If it persists, lower teacher.concurrency."
            return TransientError(what, hint=hint, kind=kind, retry_after=wait, why=repr(self._said(error)))
        hint = "Check teacher.model, teacher.api_key_env and teacher.sampling."
        final = about in ("key", "model") or status in (401, 403, 404)
        return PermanentError(what, hint=hint, kind="refused" if isinstance(status, int) else "other", final=final)


def _causes(error: BaseException) -> list[str]:
    """Return the class names of an error and of its causes."""
    names: list[str] = []
    current: BaseException | None = error
    while current is not None and len(names) < 20:
        names.append(type(current).__name__)
        current = current.__cause__ or current.__context__
    return names


def _litellm() -> Any:
    litellm: Any
    # Importing it would fetch a price list from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        litellm = import_module("litellm")
    except ImportError:
        litellm = None
    if litellm is None:
        raise ConfigError(
            "backend 'litellm' needs the package litellm.", hint="Install it with: pip install 'stepsynth[litellm]'"
        )
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.num_retries = 0
    litellm.cache = None
    return litellm
