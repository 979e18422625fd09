"""Servers that people run themselves: vLLM, SGLang, llama.cpp, Ollama and LM Studio, as they are documented; see `played`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopback import Fault
from played import THOUGHT, THOUGHT_TOKENS, PlayedProvider, counted, openai_error

__all__ = ["VLLM", "LMStudio", "LlamaCpp", "Ollama", "SGLang"]


class _Local(PlayedProvider):
    """No key, no account, no filter."""

    key_header = None

    def says_slow_down(self, wait: float) -> Fault:
        raise NotImplementedError("a server of one's own has no limit on the rate")

    def says_no_money(self) -> Fault:
        raise NotImplementedError("a server of one's own costs nothing")

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        raise NotImplementedError("not found: requests wait")

    def says_withheld(self, body: Mapping[str, Any]) -> Fault:
        raise NotImplementedError("a server of one's own keeps nothing back")

    def silenced(self, body: Mapping[str, Any]) -> bool:
        # Documented by vLLM, SGLang and llama.cpp: handed on to the chat template.
        return (body.get("chat_template_kwargs") or {}).get("enable_thinking") is False


class VLLM(_Local):
    """https://docs.vllm.ai/en/stable/serving/openai_compatible_server and .../features/reasoning_outputs, as documented.

    "Seen": in the answers of the real server (0.32.0) to ``benchmarks/real_server.py``.
    """

    served = ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-8B")
    thinking = frozenset({"Qwen/Qwen3-8B"})
    # Tokens of prompt and answer.
    context = 8192

    def error(self, message: str, code: str | int | None = None, kind: str = "BadRequestError") -> Any:
        return openai_error(message, code or 400, kind)

    def says_wrong_key(self, given: str) -> Fault:
        # Seen: with --api-key, an error that is a text.
        return Fault.status(401, body={"error": "Unauthorized"})

    def says_no_model(self, model: str) -> Fault:
        # Seen: with the names that it has.
        said = f"The model `{model}` does not exist. Valid aliases: {', '.join(self.served)}."
        return Fault.status(404, body=self.error(said, 404, "NotFoundError"))

    def checked(self, body: Mapping[str, Any]) -> Fault | None:
        # Seen: a prompt, or a limit on the answer, beyond the context is refused by the name of a parameter.
        tokens, limit = sum(len(str(turn.get("content")).split()) for turn in body["messages"]), self.limit(body)
        if tokens > self.context:
            said = (
                f"This model's maximum context length is {self.context} tokens. However, your prompt contains at least "
                f"{self.context + 1} input tokens, which exceeds this limit even without any output tokens. Please reduce the "
                f"length of the input prompt. (parameter=input_tokens, value={self.context + 1})"
            )
            error = self.error(said)
            error.get("error", error)["param"] = "input_tokens"
            return Fault.status(400, body=error)
        if limit > self.context:
            said = (
                f"max_tokens={limit} cannot be greater than max_model_len={self.context}. Please request fewer output tokens. "
                f"(parameter=max_tokens, value={limit})"
            )
            error = self.error(said)
            error.get("error", error)["param"] = "max_tokens"
            return Fault.status(400, body=error)
        return None

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: with --reasoning-parser in message.reasoning (formerly reasoning_content).
        choice["message"]["reasoning"] = THOUGHT
        usage["completion_tokens"] += THOUGHT_TOKENS
        usage["total_tokens"] += THOUGHT_TOKENS

    def cut(self, choice: dict[str, Any]) -> None:
        # Reported: content is null as long as the thoughts go on.
        choice["message"]["content"], choice["finish_reason"] = None, "length"


class SGLang(VLLM):
    """https://docs.sglang.io/docs/advanced_features/separate_reasoning, as documented."""

    def error(self, message: str, code: str | int | None = None, kind: str = "BadRequest") -> Any:
        # Reported: the error is the whole body.
        return {"object": "error", "message": message, "type": kind, "param": None, "code": code or 400}

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: without --reasoning-parser they stay in the content; R1 leaves the opening tag out.
        message = choice["message"]
        message["content"] = f"{THOUGHT}\n</think>\n\n{message['content']}"
        usage["completion_tokens"] += THOUGHT_TOKENS
        usage["total_tokens"] += THOUGHT_TOKENS

    def cut(self, choice: dict[str, Any]) -> None:
        choice["message"]["content"], choice["finish_reason"] = "", "length"

    def _think(self, choice: dict[str, Any], usage: dict[str, Any], limit: int) -> None:
        if limit <= THOUGHT_TOKENS:
            # The tag that would end the thoughts never came.
            choice["message"]["content"], choice["finish_reason"] = f"<think>\n{THOUGHT}", "length"
            return
        self.with_thoughts(choice, usage)

    def finished(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: which stop ended the answer.
        choice["matched_stop"] = 151645 if choice["finish_reason"] == "stop" else None


class LlamaCpp(_Local):
    """https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, as documented.

    "Seen": in the answers of the real server to ``benchmarks/real_server.py``.
    """

    served = ("qwen3-8b-q4_k_m.gguf",)
    thinking = frozenset({"local"})
    # Answers at once, and tokens of prompt and answer in each.
    slots, context = 4, 2048

    def error(self, message: str, code: str | int | None = None, kind: str = "invalid_request_error") -> Any:
        # Documented: the code is the status, as a number.
        return {"error": {"code": code or 400, "message": message, "type": kind}}

    def says_wrong_key(self, given: str) -> Fault:
        return Fault.status(401, body=self.error("Invalid API Key", 401, "authentication_error"))

    def listed(self) -> tuple[str, ...]:
        # Documented: the path of the file, unless --alias gives a name.
        return ("/models/qwen3-8b-q4_k_m.gguf",)

    def model_of(self, seen: Any, body: Mapping[str, Any]) -> str:
        # Documented: there is one model, whatever it is called.
        return self.served[0]

    def checked(self, body: Mapping[str, Any]) -> Fault | None:
        # Seen: a choice needs a slot. Builds until 2025 refused any n over 1 (tests/cases/test_error_bodies.py).
        if not 1 <= body.get("n", 1) <= self.slots:
            said = f"Field 'n': Value must be between 1 <= value <= {self.slots}, but got {body['n']}"
            return Fault.status(400, body=self.error(said))
        # Seen: a limit on the answer that exceeds the context is no reason to refuse, a long prompt is.
        tokens = sum(len(str(turn.get("content")).split()) for turn in body["messages"])
        if tokens > self.context:
            said = f"request ({tokens} tokens) exceeds the available context size ({self.context} tokens), try increasing it"
            error = self.error(said, kind="exceed_context_size_error")
            error["error"] |= {"n_prompt_tokens": tokens, "n_ctx": self.context}
            return Fault.status(400, body=error)
        return None

    def _answered(self, body: dict[str, Any], *, anthropic: bool) -> dict[str, Any]:
        found = super()._answered(body, anthropic=anthropic)
        if len(found["choices"]) > 1:
            # Seen: the usage, and the timings, of several choices are those of the first.
            first = found["choices"][0]["message"]["content"]
            written = len(first.split()) + 3
            found["usage"] |= {"completion_tokens": written, "total_tokens": found["usage"]["prompt_tokens"] + written}
            found["timings"] = {"prompt_n": 1, "predicted_n": written}
        return found

    def says_overloaded(self, body: Mapping[str, Any]) -> Fault:
        # Documented: 503 while the model is loaded.
        return Fault.status(503, body=self.error("Loading model", 503, "unavailable_error"))

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: --reasoning-format auto has them in message.reasoning_content.
        choice["message"]["reasoning_content"] = THOUGHT
        usage["completion_tokens"] += THOUGHT_TOKENS
        usage["total_tokens"] += THOUGHT_TOKENS


class Ollama(_Local):
    """https://docs.ollama.com/api/openai-compatibility, as documented."""

    served = ("llama3.2", "gpt-oss:20b", "qwen3:8b")
    thinking = frozenset({"gpt-oss:20b", "qwen3:8b"})

    def __init__(self, **options: Any) -> None:
        # Documented: n is not supported; it is ignored.
        super().__init__(**{"most_choices": 1, **options})

    def says_wrong_key(self, given: str) -> Fault:
        raise NotImplementedError("a key is ignored")

    def says_no_model(self, model: str) -> Fault:
        # Reported: the words.
        said = f'model "{model}" not found, try pulling it first'
        return Fault.status(404, body=openai_error(said, None, "api_error"))

    def listed(self) -> tuple[str, ...]:
        # Documented: a name without a tag is listed with :latest.
        return tuple(name if ":" in name else f"{name}:latest" for name in self.served)

    def silenced(self, body: Mapping[str, Any]) -> bool:
        # Documented: none switches thinking off; gpt-oss takes low, medium and high only.
        return body.get("reasoning_effort") == "none" and "gpt-oss" not in str(body.get("model"))

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Its source: message.reasoning.
        choice["message"]["reasoning"] = THOUGHT
        usage["completion_tokens"] += THOUGHT_TOKENS
        usage["total_tokens"] += THOUGHT_TOKENS


class LMStudio(_Local):
    """https://lmstudio.ai/docs/developer/openai-compat, as documented."""

    served = ("qwen2.5-7b-instruct", "qwen/qwen3-8b")
    thinking = frozenset({"qwen/qwen3-8b"})

    def error(self, message: str, code: str | int | None = None, kind: str = "") -> Any:
        # Reported: the error is a text.
        return {"error": message}

    def says_wrong_key(self, given: str) -> Fault:
        raise NotImplementedError("not found: the body of a refused token")

    def says_no_model(self, model: str) -> Fault:
        return Fault.status(404, body=self.error(f"Model '{model}' not found"))

    def checked(self, body: Mapping[str, Any]) -> Fault | None:
        # Reported: json_object is refused, a schema is taken.
        if (body.get("response_format") or {}).get("type") == "json_object":
            return Fault.status(400, body=self.error("'response_format.type' must be 'json_schema' or 'text'"))
        return None

    def silenced(self, body: Mapping[str, Any]) -> bool:
        # Reported by its makers: reasoning_effort none, on models that can.
        return body.get("reasoning_effort") == "none"

    def with_thoughts(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        # Documented: reasoning for gpt-oss; a setting has others in reasoning_content, or leaves the tags in.
        message = choice["message"]
        message["content"] = f"<think>{THOUGHT}</think>\n\n{message['content']}"
        counted(usage)

    def cut(self, choice: dict[str, Any]) -> None:
        choice["message"]["content"], choice["finish_reason"] = "", "length"
