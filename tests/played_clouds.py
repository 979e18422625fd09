"""OpenAI, Azure, Anthropic, Google and Amazon, as they are documented; see `played`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from loopback import Fault, Seen, completion
from played import THOUGHT, THOUGHT_TOKENS, PlayedProvider, counted, names, openai_error, whole

__all__ = ["Anthropic", "Azure", "AzureV1", "Bedrock", "Gemini", "OpenAI", "Vertex"]

# https://platform.openai.com/docs/api-reference/chat/create, as documented.
_OPENAI_KNOWN = names(
    "model messages temperature top_p max_tokens max_completion_tokens n seed response_format "
    "reasoning_effort stop stream logprobs top_logprobs logit_bias presence_penalty frequency_penalty user "
    "metadata store service_tier verbosity"
)


def refused_by_model(body: Mapping[str, Any]) -> Fault | None:
    """Refuse what OpenAI's reasoning models do not take."""
    # Documented: max_tokens is deprecated, and not taken by the o-series and gpt-5.
    if "max_tokens" in body:
        said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        return Fault.status(400, body=openai_error(said, "unsupported_parameter"))
    # Reported: a temperature other than 1 is an unsupported value, top_p an unsupported parameter.
    if body.get("temperature", 1) != 1:
        said = f"Unsupported value: 'temperature' does not support {body['temperature']} with this model. Only the default (1)"
        return Fault.status(400, body=openai_error(f"{said} value is supported.", "unsupported_value"))
    if "top_p" in body:
        said = "Unsupported parameter: 'top_p' is not supported with this model."
        return Fault.status(400, body=openai_error(said, "unsupported_parameter"))
    return None


class OpenAI(PlayedProvider):
    """https://platform.openai.com/docs/api-reference/chat and .../guides/error-codes, as documented."""

    served: ClassVar[tuple[str, ...]] = ("gpt-4o-mini", "o4-mini", "gpt-5-mini")
    thinking = frozenset({"o4-mini", "gpt-5-mini"})
    known = _OPENAI_KNOWN

    def checked(self, body: Mapping[str, Any]) -> Fault | None:
        return refused_by_model(body) if self.thinks({**body, "reasoning_effort": "high"}) else None

    def says_slow_down(self, wait: float) -> Fault:
        # Documented: x-ratelimit-reset-* hold durations such as 1s or 6m0s; the message repeats the wait.
        said = f"Rate limit reached for requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in {wait:.3f}s."
        headers = {
            "x-ratelimit-limit-requests": "3",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": f"{wait:.3f}s",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-tokens": "6ms",
        }
        return Fault.status(429, headers, openai_error(said, "rate_limit_exceeded", "requests"))

    def says_no_money(self) -> Fault:
        # Documented: 429 "You exceeded your current quota", code insufficient_quota; waiting does not help.
        said = "You exceeded your current quota, please check your plan and billing details."
        return Fault.status(429, body=openai_error(said, "insufficient_quota", "insufficient_quota"))

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        # Documented: 503, the engine is currently overloaded.
        return Fault.status(
            503, body=openai_error("The engine is currently overloaded, please try again later.", None, "server_error")
        )

    def says_withheld(self, body: Mapping[str, Any]) -> Fault:
        # Reported: a flagged prompt is a 400 with the code invalid_prompt.
        if self.lot(body, "which") < 0.5:
            said = "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again."
            return Fault.status(400, body=openai_error(said, "invalid_prompt"))
        # Documented: a model that refuses says so in message.refusal, its content is null.
        found = completion("", dict(body))
        found["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I'm sorry, I can't help with that."}
        return Fault.status(200, body=found)

    def silenced(self, body: Mapping[str, Any]) -> bool:
        # Documented: minimal and none leave the thoughts out, on the models that take them.
        return body.get("reasoning_effort") in {"none", "minimal"}

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: thoughts are never shown, and are billed as output.
        counted(usage)


class _AnyAzure(OpenAI):
    """https://learn.microsoft.com/azure/ai-foundry/openai/reference, as documented."""

    served = ("my-deployment", "my-reasoning-deployment")
    thinking = frozenset({"my-reasoning-deployment"})
    key_header = ("api-key", "")

    def says_wrong_key(self, given: str) -> Fault:
        # Reported: the code is the status, as text; the key is not repeated.
        said = (
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active "
            "subscription and use a correct regional API endpoint for your resource."
        )
        return Fault.status(401, body={"error": {"code": "401", "message": said}})

    def says_no_model(self, model: str) -> Fault:
        # Documented: a model that is not deployed is a 404 DeploymentNotFound.
        said = "The API deployment for this resource does not exist. If you created it within the last 5 minutes, please wait."
        return Fault.status(404, body={"error": {"code": "DeploymentNotFound", "message": said}})

    def says_slow_down(self, wait: float) -> Fault:
        # Documented: retry-after-ms beside Retry-After in seconds.
        said = f"Requests to ChatCompletions_Create have exceeded the call rate limit. Please retry after {whole(wait)} seconds."
        headers = {"Retry-After": str(whole(wait)), "retry-after-ms": str(int(wait * 1000))}
        return Fault.status(429, headers, {"error": {"code": "429", "message": said}})

    def says_no_money(self) -> Fault:
        raise NotImplementedError("not found: bills come later, an exhausted subscription is not documented for this API")

    def says_withheld(self, body: Mapping[str, Any]) -> Fault:
        # Documented: a filtered prompt is a 400 with content_filter, the categories are in innererror.
        if self.lot(body, "which") < 0.5:
            inner = {
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {"violence": {"filtered": True, "severity": "medium"}},
            }
            said = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
            error = {
                "message": said,
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": inner,
            }
            return Fault.status(400, body={"error": error})
        # Documented: a filtered answer is a 200 with the finish reason content_filter, its text may be cut or missing.
        found = completion("", dict(body), "content_filter")
        del found["choices"][0]["message"]["content"]
        return Fault.status(200, body=found)

    def finished(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: every choice carries what the filter found.
        choice["content_filter_results"] = {"hate": {"filtered": False, "severity": "safe"}}


class Azure(_AnyAzure):
    """The dated API: ``/openai/deployments/NAME/chat/completions?api-version=DATE``."""

    path_prefix = ""

    def path_of(self, seen: Seen) -> str | None:
        found = re.fullmatch(r"/openai/deployments/([^/]+)/chat/completions\?api-version=[\w.-]+", seen.path)
        return found[1] if found else None

    def model_of(self, seen: Seen, body: Mapping[str, Any]) -> str:
        # Documented: the deployment in the path decides, whatever the body says.
        return self.path_of(seen) or ""

    def listing(self) -> Any:
        return None


class AzureV1(_AnyAzure):
    """``/openai/v1``, without a date: https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle."""

    path_prefix = "/openai/v1"
    key_header = ("authorization", "Bearer ")

    def listed(self) -> tuple[str, ...]:
        # Reported: the list holds the base models of the region, not the deployments that may be asked for.
        return ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-11-20", "text-embedding-3-small")


class Anthropic(PlayedProvider):
    """https://platform.claude.com/docs/en/api/messages and .../api/errors, as documented."""

    served = ("claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-7")
    key_header = ("x-api-key", "")
    known = names(
        "model messages max_tokens system temperature top_p top_k stop_sequences stream metadata thinking "
        "output_config tools tool_choice service_tier"
    )
    # Documented: Claude 4.7 and later refuse temperature, top_p and top_k, and thinking with a budget.
    unsampled: ClassVar[frozenset[str]] = frozenset({"claude-opus-4-7"})

    def error(self, message: str, code: str | int | None = None, kind: str = "invalid_request_error") -> Any:
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_played"}

    def says_wrong_key(self, given: str) -> Fault:
        return Fault.status(401, body=self.error("invalid x-api-key", kind="authentication_error"))

    def says_no_model(self, model: str) -> Fault:
        return Fault.status(404, body=self.error(f"model: {model}", kind="not_found_error"))

    def says_unknown(self, name: str, value: object) -> Fault | None:
        return Fault.status(400, body=self.error(f"{name}: Extra inputs are not permitted"))

    def checked(self, body: Mapping[str, Any]) -> Fault | None:
        sampled = [name for name in ("temperature", "top_p", "top_k") if name in body]
        if sampled and body["model"] in self.unsampled:
            # Reported: the words of the refusal.
            return Fault.status(400, body=self.error(f"`{sampled[0]}` is deprecated for this model."))
        # Documented: models since 4.1 take temperature or top_p, not both.
        if {"temperature", "top_p"} <= set(body):
            said = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
            return Fault.status(400, body=self.error(said))
        # Documented: thoughts want the default temperature.
        if self.thinks(body) and body.get("temperature", 1) != 1:
            return Fault.status(400, body=self.error("`temperature` may only be set to 1 when thinking is enabled."))
        return None

    def says_slow_down(self, wait: float) -> Fault:
        # Documented: retry-after in seconds, and when each limit is full again, as RFC 3339.
        reset = (datetime.now(UTC) + timedelta(seconds=wait)).isoformat(timespec="seconds").replace("+00:00", "Z")
        headers = {
            "retry-after": str(whole(wait)),
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": reset,
        }
        said = "This request would exceed your organization's rate limit of 50 requests per minute."
        return Fault.status(429, headers, self.error(said, kind="rate_limit_error"))

    def says_no_money(self) -> Fault:
        # Documented: 402 billing_error. Reported: a 400 with these words.
        said = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to purchase credits."
        return Fault.status(400, body=self.error(said))

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        # Documented: 529 overloaded_error.
        return Fault.status(529, body=self.error("Overloaded", kind="overloaded_error"))

    def says_withheld(self, body: Mapping[str, Any]) -> Fault:
        # Documented: a streaming classifier ends an answer with the stop reason refusal, as a 200.
        found = {"id": "msg", "type": "message", "role": "assistant", "model": body["model"], "content": []}
        return Fault.status(200, body={**found, "stop_reason": "refusal", "usage": {"input_tokens": 9, "output_tokens": 0}})

    def thinks(self, body: Mapping[str, Any]) -> bool:
        # Documented: thinking {type: adaptive} or enabled; some models think unless {type: disabled} is sent.
        kind = (body.get("thinking") or {}).get("type")
        return kind in {"adaptive", "enabled"} or (bool(self.reasoning) and kind != "disabled")

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: a block of thoughts before the text; its tokens are output tokens and not told apart.
        choice["content"].insert(0, {"type": "thinking", "thinking": THOUGHT, "signature": "sig"})
        usage["output_tokens"] += THOUGHT_TOKENS

    def cut(self, choice: dict[str, Any]) -> None:
        choice.update(content=[], stop_reason="max_tokens")

    def _listed_or_not(self, seen: Seen) -> Fault:
        name = seen.path.partition("?")[0].removeprefix("/v1/models/")
        if name in self.served:
            return Fault.status(200, body={"type": "model", "id": name, "display_name": name})
        if name == "/v1/models":
            rows = [{"type": "model", "id": each, "display_name": each} for each in self.served]
            return Fault.status(200, body={"data": rows, "has_more": False})
        return Fault.status(404, body=self.error(f"model: {name}", kind="not_found_error"))


class Gemini(PlayedProvider):
    """https://ai.google.dev/gemini-api/docs/openai, as documented; the shapes of its errors as reported."""

    path_prefix = "/v1beta/openai"
    served: ClassVar[tuple[str, ...]] = ("gemini-2.5-flash", "gemini-3.5-flash")
    thinking = frozenset(served)
    # Reported: an unknown name is refused, and seed is one.
    known: ClassVar[frozenset[str] | None] = names(
        "model messages temperature top_p max_tokens max_completion_tokens n response_format reasoning_effort "
        "stop stream extra_body tools tool_choice"
    )

    def error(self, message: str, code: str | int | None = None, kind: str = "INVALID_ARGUMENT", *details: Any) -> Any:
        # Reported: errors come in an array.
        return [{"error": {"code": code or 400, "message": message, "status": kind, "details": list(details)}}]

    def says_wrong_key(self, given: str) -> Fault:
        # Reported: a wrong key is a 400, not a 401.
        reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        said = "API key not valid. Please pass a valid API key."
        return Fault.status(400, body=self.error(said, 400, "INVALID_ARGUMENT", reason))

    def says_no_model(self, model: str) -> Fault:
        said = f"models/{model} is not found for API version v1main, or is not supported for generateContent."
        return Fault.status(404, body=self.error(said, 404, "NOT_FOUND"))

    def says_unknown(self, name: str, value: object) -> Fault | None:
        said = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
        detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"description": said}]}
        return Fault.status(400, body=self.error(said, 400, "INVALID_ARGUMENT", detail))

    def says_slow_down(self, wait: float) -> Fault:
        # Reported: no header; RetryInfo in whole seconds, and the exact wait in the message.
        said = f"You exceeded your current quota, please check your plan and billing details. Please retry in {wait:.6f}s."
        info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{whole(wait)}s"}
        return Fault.status(429, body=self.error(said, 429, "RESOURCE_EXHAUSTED", info))

    def says_no_money(self) -> Fault:
        # Reported: the status of a full rate limit, told apart by the words alone.
        said = "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing."
        return Fault.status(429, body=self.error(said, 429, "RESOURCE_EXHAUSTED"))

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        # Documented: 503 UNAVAILABLE.
        return Fault.status(503, body=self.error("The model is overloaded. Please try again later.", 503, "UNAVAILABLE"))

    def says_withheld(self, body: Mapping[str, Any]) -> Fault:
        # Reported: a blocked prompt is a choice without a message, its finish reason names the filter.
        found = completion("", dict(body), "content_filter: PROHIBITED_CONTENT")
        del found["choices"][0]["message"]
        return Fault.status(200, body=found)

    def listed(self) -> tuple[str, ...]:
        # Documented: ids in the list begin with models/.
        return tuple(f"models/{name}" for name in self.served)

    def silenced(self, body: Mapping[str, Any]) -> bool:
        # Documented: none switches the thoughts of the 2.5 Flash models off, those of 2.5 Pro and 3 stay on.
        budget = body.get("extra_body", {}).get("google", {}).get("thinking_config", {}).get("thinking_budget")
        return "2.5-flash" in str(body.get("model")) and (body.get("reasoning_effort") == "none" or budget == 0)

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Reported: thoughts are hidden and in total_tokens only.
        usage["total_tokens"] += THOUGHT_TOKENS

    def cut(self, choice: dict[str, Any]) -> None:
        # Reported: a message without content.
        choice.update(message={"role": "assistant"}, finish_reason="length")


class Vertex(Gemini):
    """https://docs.cloud.google.com/vertex-ai/generative-ai/docs/migrate/openai/overview, as documented."""

    path_prefix = "/v1/projects/PROJECT/locations/global/endpoints/openapi"
    served = ("google/gemini-2.5-flash",)
    thinking = frozenset(served)
    # Documented: seed, n, logprobs and the penalties are taken here; what is unknown is ignored.
    known = None
    says_wait = False

    def says_wrong_key(self, given: str) -> Fault:
        # Documented: an access token of an hour; reported: an array with UNAUTHENTICATED when it has run out.
        said = "Request had invalid authentication credentials. Expected OAuth 2 access token."
        return Fault.status(401, body=self.error(said, 401, "UNAUTHENTICATED"))

    def says_slow_down(self, wait: float) -> Fault:
        # Documented: "Resource exhausted, please try again later", and no word on when.
        return Fault.status(429, body=self.error("Resource exhausted, please try again later.", 429, "RESOURCE_EXHAUSTED"))

    def says_no_money(self) -> Fault:
        raise NotImplementedError("not found: bills come later")

    def listing(self) -> Any:
        # Not found: no list of models is documented for this endpoint.
        return None


class Bedrock(PlayedProvider):
    """https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html, as documented."""

    path_prefix = "/openai/v1"
    served = ("openai.gpt-oss-20b-1:0", "openai.gpt-oss-120b-1:0")
    thinking = frozenset(served)
    says_wait = False

    def error(self, message: str, code: str | int | None = None, kind: str = "invalid_request_error") -> Any:
        # Reported: AWS's own shape, a message and nothing around it.
        return {"message": message}

    def says_wrong_key(self, given: str) -> Fault:
        # Reported: 403, with a capital M.
        return Fault.status(403, body={"Message": "Authentication failed: Please make sure your API Key is valid."})

    def says_no_model(self, model: str) -> Fault:
        return Fault.status(400, body=self.error("The provided model identifier is invalid."))

    def says_slow_down(self, wait: float) -> Fault:
        # Documented: ThrottlingException, 429, and no word on when.
        headers = {"x-amzn-ErrorType": "ThrottlingException"}
        return Fault.status(429, headers, self.error("Too many requests, please wait before trying again."))

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        # Documented: ServiceUnavailableException, 503.
        return Fault.status(
            503, {"x-amzn-ErrorType": "ServiceUnavailableException"}, self.error("Bedrock is unable to process your request.")
        )

    def listing(self) -> Any:
        # Documented: no other operation of the API is supported on bedrock-runtime.
        return None

    def silenced(self, body: Mapping[str, Any]) -> bool:
        # gpt-oss always thinks, the effort says how much.
        return False

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Reported: thoughts stand before the answer, in tags of their own, sometimes in several pieces.
        said, message = THOUGHT.partition("\n\n"), choice["message"]
        message["content"] = f"<reasoning>{said[0]}</reasoning><reasoning>{said[2]}</reasoning>{message['content']}"
        usage["completion_tokens"] += THOUGHT_TOKENS
        usage["total_tokens"] += THOUGHT_TOKENS

    def cut(self, choice: dict[str, Any]) -> None:
        choice.update(message={"role": "assistant", "content": ""}, finish_reason="length")
