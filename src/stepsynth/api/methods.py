"""Methods as a call takes them, objects or strings, as a comparison takes them: a config and a line of names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from stepsynth.api.making import check_noun
from stepsynth.api.nouns import Method
from stepsynth.config import MethodConfig
from stepsynth.errors import ConfigError
from stepsynth.methods import register_method

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import RunConfig

__all__ = ["leading_method", "listed_methods", "method_line", "with_methods"]


def with_methods(config: RunConfig, methods: Sequence[Method | str], plain: MethodConfig | None = None) -> tuple[RunConfig, str]:
    """Return the config with the settings of the method that leads, and the methods as the command takes them.

    Args:
        config: the config.
        methods: as for `compare`.
        plain: the defaults for keys that a method does not set; the config's own values if ``None``.

    Raises:
        ConfigError: it is not a list of methods.
    """
    base, systems = method_line(listed_methods(methods), plain or config.method)
    if base is None:
        return config, systems
    # What nobody set stays so: such keys may depend on the teacher.
    values = {**config.method.model_dump(exclude_unset=True), **_shared_settings(base)}
    return config.model_copy(update={"method": MethodConfig.model_validate(values)}), systems


def listed_methods(methods: object) -> list[Method | str]:
    """Check a list of methods, and register those that are objects.

    Raises:
        ConfigError: it is no such list, or two classes have one name.
    """
    if isinstance(methods, str | Method | type) or not isinstance(methods, Iterable) or not (listed := list(methods)):
        raise ConfigError(f"methods is {methods!r}, not a list of methods.", hint="Write [S3(), Gold()] or ['s3', 'gold'].")
    classes: dict[str, type[Method]] = {}
    for method in listed:
        if not isinstance(method, str):
            check_noun("method", method)
            if classes.setdefault(method.name, type(method)) is not type(method):
                raise ConfigError(f"two different method classes have the name {method.name!r}.", hint="Rename one of them.")
            register_method(method)
    return listed


def leading_method(methods: Sequence[Method | str]) -> Method | None:
    """Return the method that configures the loop."""
    given = [method for method in methods if not isinstance(method, str)]
    return next((method for method in given if method.leads), given[0] if given else None)


def method_line(methods: Sequence[Method | str], plain: MethodConfig) -> tuple[Method | None, str]:
    """Return the method that configures the loop, and all methods as the command takes them."""
    base = leading_method(methods)
    shared = _shared_settings(base) if base else {}
    parts = []
    for method in methods:
        if isinstance(method, str):
            parts.append(method)
            continue
        own = {key: value for key, value in _shared_settings(method).items() if shared.get(key) != value}
        if base is not None and method.name == base.name:
            # The same method again: keep only the keys in which the two differ.
            whole = {**dict(plain), **_shared_settings(method)}
            differ = [key for key in {**shared, **own} if whole[key] != {**dict(plain), **shared}[key]]
            own = {key: whole[key] for key in differ}
        usual = _usual_options(method)
        own |= {f"options.{key}": value for key, value in method.options.items() if key not in usual or usual[key] != value}
        parts.append(":".join([method.name, *(f"method.{key}={json.dumps(value)}" for key, value in own.items())]))
    return base, ",".join(parts)


def _shared_settings(method: Method) -> dict[str, Any]:
    """Return the settings of a method that other methods also have."""
    return {key: value for key, value in method.values.items() if key not in ("name", "options")}


def _usual_options(method: Method) -> dict[str, Any]:
    """Return a method's default options; empty if it cannot be made without options."""
    try:
        return type(method)().options
    except Exception:
        return {}
