"""A section of a config as a Python object: what a noun of the library is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from stepsynth.config.loading import first_problem
from stepsynth.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

__all__ = ["Noun", "plain_value"]


class Noun:
    """A section of a config with some of its keys fixed.

    Attributes:
        section: the section's class.
        fixed: the keys that say which noun this is.
        keys: the keys that may be given; all but the fixed ones where there are none.
    """

    section: ClassVar[type[BaseModel]]
    fixed: ClassVar[Mapping[str, object]] = {}
    keys: ClassVar[frozenset[str]] = frozenset()
    # What a run fills in itself.
    settled: ClassVar[frozenset[str]] = frozenset()
    _given: Mapping[str, Any] = {}

    def __init__(self, **settings: Any) -> None:
        name, known = type(self).__name__, self.keys or set(self.section.model_fields) - set(self.fixed) - self.settled
        if unknown := next((key for key in settings if key not in known), None):
            raise ConfigError(f"{name} has no argument {unknown!r}.", hint=did_you_mean(unknown, sorted(known)))
        given = {key: plain_value(value) for key, value in settings.items()}
        try:
            self.section.model_validate({**self.fixed, **given})
        except ValidationError as error:
            raise ConfigError(f"{name}: {first_problem(error)}") from None
        self._given = given

    @property
    def values(self) -> dict[str, Any]:
        """The section as a YAML config has it: what was given, and which kind it is."""
        return {**self.fixed, **self._given}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Noun) and self.values == other.values

    def __hash__(self) -> int:
        return hash((type(self), repr(self.values)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self._given.items())})"


def plain_value(value: Any) -> Any:
    """Return a value as a config has it: a noun's keys, a path as text, numpy's numbers as Python's, a copy of a list."""
    if isinstance(value, Noun):
        return value.values
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {key: plain_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(inner) for inner in value]
    return value.item() if hasattr(value, "item") and callable(value.item) else value
