"""OpenRouter, Together, Groq, DeepSeek, Mistral, DashScope and Hugging Face's router, as they are documented; see `played`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from loopback import Fault, completion
from played import THOUGHT, THOUGHT_TOKENS, PlayedProvider, counted, names, openai_error, whole

__all__ = ["DashScope", "DeepSeek", "Groq", "HuggingFace", "Mistral", "OpenRouter", "Together"]


class OpenRouter(PlayedProvider):
    """https://openrouter.ai/docs/api/reference, as documented."""

    path_prefix = "/api/v1"
    served = ("qwen/qwen-2.5-72b-instruct", "deepseek/deepseek-v4-flash", "deepseek/deepseek-v4-flash:nitro")
    thinking = frozenset({"deepseek/deepseek-v4-flash", "deepseek/deepseek-v4-flash:nitro"})
    # Documented: the list needs no key.
    public_list = True

    def error(self, message: str, code: str | int | None = None, kind: str = "invalid_request_error") -> Any:
        # Documented: the code is a number, the status; what an upstream said is in metadata.
        return {"error": {"message": message, "code": code}, "user_id": "user_played"}

    def says_wrong_key(self, given: str) -> Fault:
        return Fault.status(401, body=self.error("User not found.", 401))

    def says_no_model(self, model: str) -> Fault:
        # Reported: an unknown model is a 400.
        return Fault.status(400, body=self.error(f"{model} is not a valid model ID", 400))

    def says_slow_down(self, wait: float) -> Fault:
        # Reported: the end of the window in milliseconds since 1970, as a header and once more in the metadata.
        limits = {
            "X-RateLimit-Limit": "20",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(int((time.time() + wait) * 1000)),
        }
        body = self.error("Rate limit exceeded: free-models-per-min. ", 429)
        body["error"]["metadata"] = {"headers": limits}
        return Fault.status(429, limits, body)

    def says_no_money(self) -> Fault:
        # Documented: 402, insufficient credits. Reported: the words.
        said = "This request requires more credits, or fewer max_tokens. You requested up to 64 tokens, but can only afford 0."
        return Fault.status(402, body=self.error(said, 402))

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        # Documented: what goes wrong upstream is a 200 with an error in it. Reported: in the choice, beside half a text.
        found = completion("Half a text that broke", dict(body), "error")
        found["choices"][0]["error"] = {"code": 502, "message": "Upstream error from Played: the connection was lost"}
        found["choices"][0]["native_finish_reason"] = "error"
        return Fault.status(200, body=found)

    def says_withheld(self, body: Mapping[str, Any]) -> Fault:
        # Documented: 403 for flagged input, the reasons in the metadata.
        found = self.error("Your chosen model requires moderation and your input was flagged", 403)
        found["error"]["metadata"] = {
            "reasons": ["violence"],
            "flagged_input": "...",
            "provider_name": "Played",
            "model_slug": "m",
        }
        return Fault.status(403, body=found)

    def listed(self) -> tuple[str, ...]:
        # Documented: :nitro, :floor and the like are ways to route, not models of the list.
        return tuple(name for name in self.served if not name.endswith(":nitro"))

    def silenced(self, body: Mapping[str, Any]) -> bool:
        # Documented: reasoning {effort: none} or {enabled: false}.
        wish = body.get("reasoning") or {}
        return wish.get("effort") == "none" or wish.get("enabled") is False

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: message.reasoning, and reasoning_details beside it.
        choice["message"]["reasoning"] = THOUGHT
        choice["message"]["reasoning_details"] = [{"type": "reasoning.text", "text": THOUGHT}]
        counted(usage)

    def finished(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: the upstream's own word beside the common one.
        choice["native_finish_reason"] = {"stop": "completed", "length": "MAX_TOKENS"}[choice["finish_reason"]]


class Together(PlayedProvider):
    """https://docs.together.ai/docs/error-codes and .../rate-limits, as documented."""

    served = ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "openai/gpt-oss-20b")
    thinking = frozenset({"openai/gpt-oss-20b"})

    def listing(self) -> Any:
        # Documented: the list is a bare array.
        return [{"id": name, "object": "model", "type": "chat"} for name in self.served]

    def says_slow_down(self, wait: float) -> Fault:
        # Documented: dynamic limits; x-ratelimit-reset holds seconds, error_type says which limit it was.
        body = openai_error("You have reached the dynamic rate limit of this model.", None, "rate_limit")
        body["error"]["error_type"] = "dynamic_request_limited"
        return Fault.status(429, {"x-ratelimit-reset": str(whole(wait)), "x-ratelimit-remaining": "0"}, body)

    def says_no_money(self) -> Fault:
        # Documented: 402, the spending limit is reached or credits have run out.
        said = "Credit limit exceeded, please navigate to billing to add credits."
        return Fault.status(402, body=openai_error(said, None, "credit_limit"))

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        # Documented: 503 engine overloaded.
        return Fault.status(503, body=openai_error("The server is overloaded or not ready yet.", None, "service_unavailable"))

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: message.reasoning.
        choice["message"]["reasoning"] = THOUGHT
        usage["completion_tokens"] += THOUGHT_TOKENS
        usage["total_tokens"] += THOUGHT_TOKENS

    def finished(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: eos is a finish reason of its own.
        if choice["finish_reason"] == "stop":
            choice["finish_reason"] = "eos"


class Groq(PlayedProvider):
    """https://console.groq.com/docs/openai, .../reasoning, .../rate-limits and .../spend-limits, as documented."""

    path_prefix = "/openai/v1"
    served = ("llama-3.3-70b-versatile", "openai/gpt-oss-20b", "qwen/qwen3-32b")
    thinking = frozenset({"openai/gpt-oss-20b", "qwen/qwen3-32b"})
    known = names(
        "model messages temperature top_p max_tokens max_completion_tokens n seed response_format "
        "reasoning_effort reasoning_format include_reasoning stop stream service_tier user tools tool_choice"
    )

    def says_wrong_key(self, given: str) -> Fault:
        return Fault.status(401, body=openai_error("Invalid API Key", "invalid_api_key"))

    def says_unknown(self, name: str, value: object) -> Fault | None:
        # Reported: the words of a refused property.
        return Fault.status(400, body=openai_error(f"property '{name}' is unsupported"))

    def checked(self, body: Mapping[str, Any]) -> Fault | None:
        # Documented: n must be 1.
        if body.get("n", 1) != 1:
            return Fault.status(400, body=openai_error("'n' : number must be at most 1"))
        # Documented: a schema is taken by some models only.
        if (body.get("response_format") or {}).get("type") == "json_schema" and "gpt-oss" not in body["model"]:
            said = "This model does not support response format `json_schema`. See supported models in the documentation."
            return Fault.status(400, body=openai_error(said))
        # Documented: the effort is none or default for Qwen, low, medium or high for gpt-oss.
        efforts = {"qwen/qwen3-32b": {"none", "default"}, "openai/gpt-oss-20b": {"low", "medium", "high"}}.get(
            body["model"], set()
        )
        if "reasoning_effort" in body and body["reasoning_effort"] not in efforts:
            return Fault.status(400, body=openai_error(f"`reasoning_effort` must be one of {sorted(efforts)}"))
        return None

    def says_slow_down(self, wait: float) -> Fault:
        # Documented: retry-after in seconds; resets as 2m59.56s. Reported: the wait in the message, too.
        said = (
            f"Rate limit reached for model `m` on requests per minute (RPM): Limit 30, Used 30. Please try again in {wait:.3f}s."
        )
        headers = {
            "retry-after": str(whole(wait)),
            "x-ratelimit-reset-requests": f"{wait:.3f}s",
            "x-ratelimit-remaining-tokens": "5000",
        }
        return Fault.status(429, headers, openai_error(said, "rate_limit_exceeded", "requests"))

    def says_no_money(self) -> Fault:
        # Documented: a reached spend limit is a 400 with the code blocked_api_access.
        said = "API access is blocked: the spend limit of your organization is reached. Raise it in the billing settings."
        return Fault.status(400, body=openai_error(said, "blocked_api_access"))

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        # Documented: 498, capacity exceeded, a status of Groq's own (flex tier); retry later.
        return Fault.status(498, body=openai_error("Flex tier capacity exceeded, try again later.", "capacity_exceeded"))

    def silenced(self, body: Mapping[str, Any]) -> bool:
        return body.get("reasoning_effort") == "none"

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        message = choice["message"]
        # Documented: gpt-oss has them in message.reasoning, others raw, in <think> tags of the content.
        if "gpt-oss" in self.completions[-1].json["model"]:
            if self.completions[-1].json.get("include_reasoning", True):
                message["reasoning"] = THOUGHT
        else:
            message["content"] = f"<think>\n{THOUGHT}\n</think>\n\n{message['content']}"
        counted(usage)


class DeepSeek(PlayedProvider):
    """https://api-docs.deepseek.com, as documented."""

    served = ("deepseek-flash", "deepseek-v4-pro")
    thinking = frozenset(served)
    # Documented: no limit on the rate, and no header when it is said to be one.
    says_wait = False

    def says_wrong_key(self, given: str) -> Fault:
        # Reported: the last digits of the key are repeated.
        said = f"Authentication Fails, Your api key: ****{given[-4:]} is invalid"
        return Fault.status(401, body=openai_error(said, "invalid_request_error", "authentication_error"))

    def says_no_model(self, model: str) -> Fault:
        return Fault.status(400, body=openai_error("Model Not Exist", "invalid_request_error"))

    def checked(self, body: Mapping[str, Any]) -> Fault | None:
        # Documented: text and json_object; reported: the words for a schema.
        if (body.get("response_format") or {}).get("type") == "json_schema":
            return Fault.status(400, body=openai_error("This response_format type is unavailable now", "invalid_request_error"))
        return None

    def says_slow_down(self, wait: float) -> Fault:
        return Fault.status(429, body=openai_error("You are sending requests too quickly. Please pace your requests reasonably."))

    def says_no_money(self) -> Fault:
        # Documented: 402. Reported: its body.
        return Fault.status(402, body=openai_error("Insufficient Balance", "invalid_request_error", "unknown_error"))

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        # Documented: 503, or a 200 whose finish reason is insufficient_system_resource.
        return Fault.status(200, body=completion("Half a text that broke", dict(body), "insufficient_system_resource"))

    def says_withheld(self, body: Mapping[str, Any]) -> Fault:
        # Reported: a 400 whose code says nothing.
        return Fault.status(400, body=openai_error("Content Exists Risk", "invalid_request_error"))

    def silenced(self, body: Mapping[str, Any]) -> bool:
        # Documented: thinking is on unless {type: disabled} is sent.
        return (body.get("thinking") or {}).get("type") == "disabled"

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: message.reasoning_content.
        choice["message"]["reasoning_content"] = THOUGHT
        counted(usage)

    def _encoded(self, value: dict[str, Any]) -> bytes:
        # Documented: blank lines are sent while a request waits for its turn.
        return b"\n\n\n" + json.dumps(value).encode()


class Mistral(PlayedProvider):
    """https://docs.mistral.ai/api and .../capabilities/reasoning, as documented."""

    served = ("mistral-small-latest", "mistral-large-latest")
    known = names(
        "model messages temperature top_p max_tokens n random_seed response_format reasoning_effort stop "
        "stream safe_prompt presence_penalty frequency_penalty tools tool_choice prediction prompt_mode "
        "parallel_tool_calls"
    )
    # Not found: how long to wait is not documented.
    says_wait = False

    def says_wrong_key(self, given: str) -> Fault:
        # Reported: a text, not an object. A key whose quota is used up gets the same.
        return Fault.status(401, body={"detail": "Unauthorized"})

    def says_no_model(self, model: str) -> Fault:
        body = {"object": "error", "message": f"Invalid model: {model}", "type": "invalid_model", "param": None, "code": "1500"}
        return Fault.status(400, body=body)

    def says_unknown(self, name: str, value: object) -> Fault | None:
        # Reported: 422 in the words of a schema; the seed is called random_seed here.
        row = {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": value}
        return Fault.status(422, body={"detail": [row]})

    def says_slow_down(self, wait: float) -> Fault:
        # Reported: no header, no wait.
        body = {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "param": None, "code": "1300"}
        return Fault.status(429, body=body)

    def says_no_money(self) -> Fault:
        # Documented: 402 payment required; its body was not found.
        return Fault.status(
            402, body={"object": "error", "message": "Payment required", "type": "payment_required", "code": None}
        )

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        # Documented: error is a finish reason.
        return Fault.status(200, body=completion("Half a text that broke", dict(body), "error"))

    def thinks(self, body: Mapping[str, Any]) -> bool:
        # Documented: reasoning_effort high thinks, none does not.
        return (self.reasoning is True and body.get("reasoning_effort") != "none") or body.get("reasoning_effort") == "high"

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: the content is a list, thoughts in a chunk of their own. They are not counted apart.
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}], "closed": True}
        choice["message"]["content"] = [thought, {"type": "text", "text": choice["message"]["content"]}]
        usage["completion_tokens"] += THOUGHT_TOKENS
        usage["total_tokens"] += THOUGHT_TOKENS

    def cut(self, choice: dict[str, Any]) -> None:
        # Documented: model_length beside length, where the model's window is full.
        choice["message"]["content"], choice["finish_reason"] = "", "model_length"


class DashScope(PlayedProvider):
    """https://www.alibabacloud.com/help/en/model-studio/error-code and .../deep-thinking, as documented."""

    path_prefix = "/compatible-mode/v1"
    served = ("qwen-plus", "qwen3-8b")
    thinking = frozenset({"qwen3-8b"})
    # Documented: 429 Throttling, to be tried again later; no header.
    says_wait = False

    def error(self, message: str, code: str | int | None = None, kind: str = "invalid_request_error") -> Any:
        return {**openai_error(message, code, kind), "request_id": "played"}

    def checked(self, body: Mapping[str, Any]) -> Fault | None:
        # Documented: some models refuse to think without a stream, and think unless they are told not to.
        if body["model"] == "qwen3-8b" and body.get("enable_thinking") is not False:
            said = "parameter.enable_thinking must be set to false for non-streaming calls"
            return Fault.status(400, body=self.error(said, "invalid_parameter_error"))
        return None

    def says_slow_down(self, wait: float) -> Fault:
        said = "Requests rate limit exceeded, please try again later."
        return Fault.status(429, body=self.error(said, "Throttling.RateQuota", "Throttling.RateQuota"))

    def says_no_money(self) -> Fault:
        # Documented: Arrearage, a 400.
        said = "Access denied, please make sure your account is in good standing."
        return Fault.status(400, body=self.error(said, "Arrearage", "Arrearage"))

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        # Not found in so many words; a plain 503.
        return Fault.status(
            503,
            body=self.error(
                "Too many requests. Your requests are being throttled due to system capacity limits.", "ServiceUnavailable"
            ),
        )

    def says_withheld(self, body: Mapping[str, Any]) -> Fault:
        # Documented: data_inspection_failed, of the prompt (Input data) or of the answer (Output data).
        which = "Input" if self.lot(body, "which") < 0.5 else "Output"
        said = f"{which} data may contain inappropriate content."
        return Fault.status(400, body=self.error(said, "data_inspection_failed", "data_inspection_failed"))

    def silenced(self, body: Mapping[str, Any]) -> bool:
        return body.get("enable_thinking") is False

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: message.reasoning_content.
        choice["message"]["reasoning_content"] = THOUGHT
        counted(usage)


class HuggingFace(PlayedProvider):
    """https://huggingface.co/docs/inference-providers, as documented; the bodies of its errors as reported."""

    served = ("openai/gpt-oss-20b", "openai/gpt-oss-20b:groq", "Qwen/Qwen3-32B")
    thinking = frozenset(served)
    # Not found: limits are those of the provider behind it.
    says_wait = False

    def error(self, message: str, code: str | int | None = None, kind: str = "invalid_request_error") -> Any:
        # Reported: the error is a text.
        return {"error": message}

    def says_wrong_key(self, given: str) -> Fault:
        return Fault.status(401, body=self.error("Invalid username or password."))

    def says_no_model(self, model: str) -> Fault:
        said = f"The requested model '{model}' is not supported by any provider you have enabled."
        return Fault.status(400, body=openai_error(said, "model_not_supported"))

    def says_slow_down(self, wait: float) -> Fault:
        return Fault.status(429, body=self.error("Too Many Requests"))

    def says_no_money(self) -> Fault:
        # Reported: 402.
        said = "You have exceeded your monthly included credits for Inference Providers. Subscribe to PRO to get more."
        return Fault.status(402, body=self.error(said))

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        # Not found; a gateway in front of it answers in HTML.
        return Fault.status(504, {"Content-Type": "text/html"}, "<html><head><title>504 Gateway Time-out</title></head></html>")

    def listed(self) -> tuple[str, ...]:
        # Documented: MODEL:provider picks the provider; the list holds the models alone.
        return tuple(name for name in self.served if ":" not in name)

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Not found: it depends on the provider behind it; one has the field, another the tags.
        if self.lot({"messages": choice, "seed": 0}, "which") < 0.5:
            choice["message"]["reasoning"] = THOUGHT
        else:
            choice["message"]["content"] = f"<think>{THOUGHT}</think>{choice['message']['content']}"
        counted(usage)
