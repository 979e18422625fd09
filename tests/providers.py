"""Providers by their names, played on 127.0.0.1 as they are documented.

    with play("gemini", rate_limited_after=15) as server:
        ...  # ask server.base_url with the key `played.KEY`

`PROVIDERS` names them all. What each of them does, and who says so, is in ``played_clouds.py``,
``played_hosts.py`` and ``played_local.py``; the switches are those of `PlayedProvider`. A switch
that no document describes for a provider raises `NotImplementedError` when the request comes, see `plays`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from played import KEY, PlayedProvider
from played_clouds import Anthropic, Azure, AzureV1, Bedrock, Gemini, OpenAI, Vertex
from played_hosts import DashScope, DeepSeek, Groq, HuggingFace, Mistral, OpenRouter, Together
from played_local import VLLM, LlamaCpp, LMStudio, Ollama, SGLang

__all__ = ["KEY", "PROVIDERS", "play", "plays"]

PROVIDERS: Mapping[str, type[PlayedProvider]] = {
    "openai": OpenAI,
    "azure": Azure,
    "azure-v1": AzureV1,
    "anthropic": Anthropic,
    "gemini": Gemini,
    "openrouter": OpenRouter,
    "together": Together,
    "groq": Groq,
    "deepseek": DeepSeek,
    "mistral": Mistral,
    "dashscope": DashScope,
    "huggingface": HuggingFace,
    "bedrock": Bedrock,
    "vertex": Vertex,
    "vllm": VLLM,
    "sglang": SGLang,
    "llama.cpp": LlamaCpp,
    "ollama": Ollama,
    "lmstudio": LMStudio,
}
_BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello."}]}


def play(name: str, **switches: Any) -> PlayedProvider:
    """Return a server, not yet started, that behaves like the provider of that name.

    Args:
        name: one of `PROVIDERS`.
        switches: how it misbehaves, and what else `PlayedProvider` takes.
    """
    return PROVIDERS[name](**switches)


def plays(name: str, what: str) -> bool:
    """Tell whether it is known how a provider says ``slow_down``, ``no_money``, ``overloaded``, ``withheld`` or ``wrong_key``."""
    server = play(name)
    arguments: dict[str, tuple[Any, ...]] = {
        "slow_down": (1.0,),
        "no_money": (),
        "overloaded": (_BODY,),
        "withheld": (_BODY,),
        "wrong_key": ("",),
    }
    try:
        getattr(server, f"says_{what}")(*arguments[what])
    except NotImplementedError:
        return False
    return True
