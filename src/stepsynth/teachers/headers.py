"""The user's own headers, ``teacher.headers``: their secrets come from the environment and go only to the server."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pydantic import SecretStr

from stepsynth.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepsynth.config import TeacherConfig

__all__ = ["read_headers"]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")


def read_headers(config: TeacherConfig) -> Mapping[str, SecretStr]:
    """Return the additional headers of every request, with environment variables filled in.

    Args:
        config: its ``headers`` are literal values, ``{env: NAME}``, or texts with ``${NAME}`` in them.

    Raises:
        ConfigError: a variable is not set, or holds characters that no header can carry.
    """
    found = {}
    for name, value in config.headers.items():
        text = "${" + value["env"] + "}" if isinstance(value, dict) else value
        # Wrapped at once: a traceback with local variables must not show it.
        found[name] = SecretStr(_VARIABLE.sub(lambda match, name=name: _variable(match[1], name), text))  # type: ignore[misc]
    return found


def _variable(variable: str, header: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        what = f"the environment variable {variable!r} of teacher.headers.{header} is not set."
        raise ConfigError(what, hint=f"Run: export {variable}=...")
    if not (value.isascii() and value.isprintable()):
        what = f"the value in {variable!r} of teacher.headers.{header} holds characters that no HTTP header can carry."
        raise ConfigError(what, hint="Export it again.")
    return value
