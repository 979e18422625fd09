"""Make a server's output safe to show and keep: cut out keys, check JSON, repair text."""

from __future__ import annotations

import base64
import json
import os
import re
from urllib.parse import quote

from pydantic import SecretStr

from stepsynth.errors import ConfigError

__all__ = ["MESSAGE_CHARS", "is_page", "parsed_json", "read_key", "scrubbed", "token_count", "well_formed", "without_keys"]

MESSAGE_CHARS = 200
# Local servers accept words such as EMPTY as key; cutting those out would damage answers.
SCRUBBED_KEY_CHARS = 16
# No answer has more, and the journal cannot store numbers of any size.
_MOST_TOKENS = 10**9
_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|gsk|xai|hf)[-_][\w*.-]{6,}|\bAIza[\w-]{10,}|\bBearer\s+\S+", re.IGNORECASE)


def read_key(variable: str | None) -> SecretStr | None:
    """Return the key in an environment variable; ``None`` if no variable is named.

    Raises:
        ConfigError: the variable is unset, empty, or holds characters that no header can carry.
    """
    if variable is None:
        return None
    # Wrapped at once: a traceback with local variables must not show it.
    key = SecretStr(os.environ.get(variable, "").strip())
    if not key.get_secret_value():
        raise ConfigError(
            f"the environment variable {variable!r} with the teacher's key is not set.",
            hint=f"Run: export {variable}=... (or set teacher.api_key_env to null for a server without keys).",
        )
    if not (key.get_secret_value().isascii() and key.get_secret_value().isprintable()):
        raise ConfigError(f"the key in {variable!r} holds characters that no HTTP header can carry.", hint="Export it again.")
    return key


def scrubbed(text: str, key: SecretStr | None) -> str:
    """Cut a key, plain, URL-encoded or in base64, out of a server's text."""
    secret = key.get_secret_value() if key is not None else ""
    if len(secret) < SCRUBBED_KEY_CHARS:
        return text
    for spelling in _spellings(secret):
        text = text.replace(spelling, "[key]")
    return text


def _spellings(key: str) -> list[str]:
    """Return the forms in which servers echo a key; of its base64, the part that does not depend on the surroundings."""
    quoted = [quote(key), quote(key, safe="")]
    found = {key, key.replace("/", "\\/"), *quoted, *(re.sub("%..", lambda part: part[0].lower(), text) for text in quoted)}
    for shift, skipped in enumerate((0, 2, 3)):
        core = base64.b64encode(b"\0" * shift + key.encode()).decode().rstrip("=")[skipped:-1]
        found |= {core, core.replace("+", "-").replace("/", "_")}
    return sorted(found, key=lambda text: (-len(text), text))


def without_keys(text: str) -> str:
    """Replace anything that looks like a provider's key."""
    return _KEY_LIKE.sub("[key]", text)


def parsed_json(text: str) -> object:
    """Return the JSON value, or ``None`` for invalid JSON, hostile nesting and endless digits."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def is_page(text: str) -> bool:
    """Whether a body is HTML or XML; JSON never begins like that."""
    return text.lstrip()[:1] == "<"


def token_count(value: object) -> int:
    """Return a server's token count; 0 if it is missing or makes no sense."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
    return int(number) if 0 < number <= _MOST_TOKENS else 0


def well_formed(text: str) -> str:
    """Replace lone surrogates, which files and databases cannot store."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
