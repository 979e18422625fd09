"""Stand-ins for packages that tests cannot install: just what their documentation says of the calls that we make.

They answer as `FakeTeacher` does and write down how they were called; they check argument names, so
that a misspelt one fails here as it would there.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from loopback import completion

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

__all__ = ["LiteLlmLog", "VllmLog", "install_litellm", "install_vllm"]


@dataclass
class VllmLog:
    """What was asked of vLLM."""

    engines: list[dict[str, Any]] = field(default_factory=list)
    chats: list[list[list[dict[str, str]]]] = field(default_factory=list)
    sampling: list[Any] = field(default_factory=list)


def install_vllm(monkeypatch: pytest.MonkeyPatch, *, structured: str = "StructuredOutputsParams") -> VllmLog:
    """Put a ``vllm`` into ``sys.modules``; ``structured`` is the name of its class for schemas."""
    log = VllmLog()

    @dataclass
    class SamplingParams:
        temperature: float = 1.0
        top_p: float = 1.0
        min_p: float = 0.0
        repetition_penalty: float = 1.0
        max_tokens: int = 16
        seed: int | None = None
        structured_outputs: Any = None
        guided_decoding: Any = None

    @dataclass
    class Structure:
        json: Any

    class LLM:
        def __init__(self, model: str, *, trust_remote_code: bool = False, seed: int = 0, **settings: Any) -> None:
            if "explode" in settings:
                raise ValueError("unknown\nsetting")
            assert not trust_remote_code
            log.engines.append({"model": model, "seed": seed, **settings})

        def chat(
            self, messages: Sequence[Any], sampling_params: Sequence[SamplingParams], use_tqdm: bool = True
        ) -> list[SimpleNamespace]:
            assert not use_tqdm
            assert len(messages) == len(sampling_params)
            log.chats.append(list(messages))
            log.sampling += sampling_params
            return [self._answer(chat, one) for chat, one in zip(messages, sampling_params, strict=True)]

        def _answer(self, chat: list[dict[str, str]], sampling: SamplingParams) -> SimpleNamespace:
            words = [f"word{(sampling.seed or 0) % 97}", *chat[-1]["content"].split()]
            kept = words[: sampling.max_tokens]
            answer = SimpleNamespace(
                text=" ".join(kept),
                token_ids=list(range(len(kept))),
                finish_reason="length" if len(kept) < len(words) else "stop",
            )
            read = sum(len(turn["content"].split()) for turn in chat)
            return SimpleNamespace(outputs=[answer], prompt_token_ids=list(range(read)))

    module: Any = ModuleType("vllm")
    parameters: Any = ModuleType("vllm.sampling_params")
    module.LLM, module.SamplingParams, module.sampling_params = LLM, SamplingParams, parameters
    setattr(parameters, structured, Structure)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", parameters)
    return log


@dataclass
class LiteLlmLog:
    """What was asked of LiteLLM, and what its next call raises."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    failure: Exception | None = None
    module: Any = None
    most_choices: int = 128


_KNOWN = {"model", "messages", "temperature", "top_p", "max_tokens", "seed", "n", "response_format", "timeout", "num_retries"}
_KNOWN |= {"max_retries", "caching", "cache", "api_key", "api_base", "api_version", "min_p", "repetition_penalty", "extra"}


def install_litellm(monkeypatch: pytest.MonkeyPatch, takes: Sequence[str] = ("seed", "n", "response_format")) -> LiteLlmLog:
    """Put a ``litellm`` into ``sys.modules``; ``takes`` is what the provider supports."""
    log = LiteLlmLog()
    module: Any = ModuleType("litellm")

    async def acompletion(**arguments: Any) -> SimpleNamespace:
        assert set(arguments) <= _KNOWN, set(arguments) - _KNOWN
        log.calls.append(arguments)
        if log.failure is not None:
            failure, log.failure = log.failure, None
            raise failure
        body = completion(f"answer {arguments.get('seed', 0)}", arguments)
        count = min(arguments.get("n", 1), log.most_choices)
        body["choices"] = [{**body["choices"][0], "index": index} for index in range(count)]
        return SimpleNamespace(model_dump_json=lambda: json.dumps(body))

    module.acompletion = acompletion
    module.get_supported_openai_params = lambda model: list(takes)
    log.module = module
    monkeypatch.setitem(sys.modules, "litellm", module)
    return log
