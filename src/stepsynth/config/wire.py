"""Fields and headers that a config may add to the requests to a server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["KEY_HEADERS", "SECRET", "SECRET_NAME", "SERVERS", "check_fields", "check_headers"]

SERVERS = frozenset({"openai", "anthropic", "litellm"})
SECRET = re.compile(r"^(sk-|sk_|hf_|AIza|xai-|gsk_|Bearer\s)|^[A-Za-z0-9+/_-]{40,}$")
SECRET_NAME = re.compile(r"(?i)(api[_-]?key|secret|passw|credential|(access|auth|hf|bearer)[_-]?token)[^.]*$")
# Headers that carry a key: never a literal value, and not together with `api_key_env`.
KEY_HEADERS = frozenset({"authorization", "api-key", "x-api-key"})
_SECRET_HEADER = re.compile(r"(?i)(^|-)(authorization|api-?key|key|token|secret|password|cookie|credentials?|jwt|signature)$")
# Fields that other keys of the config set.
_OURS = {
    "model": "teacher.model",
    "messages": "task.prompts",
    "system": "task.prompts",
    "max_tokens": "teacher.sampling.max_tokens",
    "max_completion_tokens": "teacher.sampling.max_tokens",
    "max_output_tokens": "teacher.sampling.max_tokens",
    **{name: f"teacher.sampling.{name}" for name in ("temperature", "top_p", "min_p", "repetition_penalty")},
    "n": "teacher.rows_per_request",
    "response_format": "teacher.structured",
    "output_config": "teacher.structured",
    "extra_headers": "teacher.headers",
    "headers": "teacher.headers",
    "api_key": "teacher.api_key_env",
    "api_base": "teacher.base_url",
    "base_url": "teacher.base_url",
    "timeout": "teacher.timeout_s",
}
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
# Headers that the client sets on every request.
_OF_THE_CLIENT = frozenset(
    {
        *("host", "content-type", "content-length", "content-encoding", "transfer-encoding", "accept-encoding", "connection"),
        *("expect", "te", "trailer", "upgrade", "proxy-authorization", "proxy-connection", "anthropic-version"),
    }
)


def check_fields(options: Mapping[str, Any]) -> None:
    """Refuse fields of a request's body that other keys of the config set.

    Raises:
        ValueError: a field is refused; names the key to use instead.
    """
    for name in options:
        if name == "seed":
            raise ValueError("options.seed is not allowed: each request has its own seed, made from the config's seed")
        if name in _OURS:
            raise ValueError(f"options.{name} is set by {_OURS[name]}; write it there")
        if name in {"stream", "stream_options"}:
            raise ValueError(f"options.{name} is not allowed: answers are read whole")
        # Google's endpoints read their own settings from a field of this name.
        if name == "extra_body" and not (isinstance(options[name], Mapping) and "google" in options[name]):
            raise ValueError("options.extra_body is not needed: write its fields directly into options")


def check_headers(headers: Mapping[str, str | Mapping[Any, str]]) -> None:
    """Refuse headers that no request can carry, that the client sets, or that hold a literal secret.

    Raises:
        ValueError: a header is refused; says how to write it.
    """
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError(f"headers {sorted(headers)} name one header twice; case does not matter in headers")
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"headers: {name!r} is not the name of an HTTP header")
        if name.lower() in _OF_THE_CLIENT:
            raise ValueError(f"headers.{name} is set by the client and cannot be changed")
        if isinstance(value, str):
            _check_value(name, value)
        elif not _NAME.fullmatch(value.get("env", "")) or SECRET.match(value["env"]):
            raise ValueError(f"headers.{name}: write {{env: NAME}} with the name of an environment variable, never the value")


def _check_value(name: str, value: str) -> None:
    if not (value.isascii() and value.isprintable()) or value != value.strip() or not value:
        raise ValueError(f"headers.{name} is empty, or holds line breaks or other characters that no HTTP header can carry")
    variables = _VARIABLE.findall(value)
    if bad := [variable for variable in variables if not _NAME.fullmatch(variable)]:
        raise ValueError(f"headers.{name}: ${{{bad[0]}}} is not the name of an environment variable")
    secret = _SECRET_HEADER.search(name) or SECRET_NAME.search(name) or SECRET.search(value)
    if (secret and not variables) or SECRET.search(_VARIABLE.sub("", value).removeprefix("Bearer ")):
        raise ValueError(f"headers.{name} looks like it holds a key; export it and write {{env: NAME}} with its variable's name")
