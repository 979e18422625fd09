"""A section of a config as a Python object: the base of the library's nouns."""

from __future__ import annotations

import inspect
import json
import os
import re
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import ValidationError

from stepsynth.config.keywords import described, signature_of
from stepsynth.config.loading import first_problem
from stepsynth.errors import ConfigError, StepsynthError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from stepsynth.registry import Registry

__all__ = ["Noun", "Optioned", "plain_value"]

_NAME = re.compile(r"[\w.+-]{1,80}")


class _Signature:
    """``__signature__`` of a class of nouns: its constructor's own arguments, and the keys of its section that it takes."""

    def __get__(self, noun: Noun | None, own: type[Noun]) -> inspect.Signature:
        return signature_of(own.__init__, own.known_keys(), own.section)


class Noun:
    """A section of a config with some of its keys fixed.

    Attributes:
        section: the section's class.
        fixed: the keys that identify this noun.
        keys: the keys that may be given; if empty, all but the fixed ones.
    """

    section: ClassVar[type[BaseModel]]
    fixed: ClassVar[Mapping[str, object]] = {}
    keys: ClassVar[frozenset[str]] = frozenset()
    # Keys that a run fills in itself.
    settled: ClassVar[frozenset[str]] = frozenset()
    _given: Mapping[str, Any] = {}
    __signature__ = _Signature()

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        # Built-in classes only: the text of a user's class is the user's.
        if cls.__module__.startswith("stepsynth.") and cls.__doc__ and hasattr(cls, "section"):
            text = inspect.cleandoc(cls.__doc__)
            missing = {key for key in cls.known_keys() if f"    {key}: " not in text}
            cls.__doc__ = f"{text}\n\n{described(cls.section, missing)}".rstrip()

    @classmethod
    def known_keys(cls) -> set[str]:
        """Return the keys of the section that the constructor takes."""
        return set(cls.keys) or set(cls.section.model_fields) - set(cls.fixed) - cls.settled

    def __init__(self, **settings: Any) -> None:
        name, known = type(self).__name__, self.known_keys()
        if unknown := next((key for key in settings if key not in known), None):
            own = set(inspect.signature(type(self).__init__).parameters) - {"self", "settings"}
            raise ConfigError(f"{name} has no argument {unknown!r}.", hint=did_you_mean(unknown, sorted(known | own)))
        given = {key: plain_value(value) for key, value in settings.items()}
        try:
            self.section.model_validate({**self.fixed, **given})
        except ValidationError as error:
            raise ConfigError(f"{name}: {first_problem(error)}") from None
        self._given = given

    def __getattr__(self, name: str) -> Any:
        """Return a setting: the value given, or the default."""
        if name.startswith("_") or name not in {*self.known_keys(), *self.fixed}:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        given = self.values
        return given[name] if name in given else self.section.model_fields[name].get_default(call_default_factory=True)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse to change a setting, which would have no effect; a user's class may have attributes of its own.

        Raises:
            ConfigError: it is a setting, or no attribute of a built-in class.
        """
        own, known = type(self), type(self).known_keys()
        if not name.startswith("_") and (name in known or own.__module__.startswith("stepsynth.")):
            hint = f"Make a new one: {own.__name__}({name}=...)." if name in known else did_you_mean(name, sorted(known))
            raise ConfigError(f"{own.__name__}.{name} cannot be set: settings do not change.", hint=hint)
        object.__setattr__(self, name, value)

    @property
    def values(self) -> dict[str, Any]:
        """The section as a YAML config writes it: the fixed keys and those that were given."""
        return {**self.fixed, **self._given}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Noun) and self.values == other.values

    def __hash__(self) -> int:
        return hash((type(self), repr(self.values)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self._given.items())})"


class Optioned:
    """A user's object that a config stores as a name and options: its constructor's arguments, kept in attributes.

    Attributes:
        called: the word for it in messages.
        name: its name in configs; by default the class's name.
    """

    called: ClassVar[str] = "thing"
    # Where its classes are found by name.
    registry: ClassVar[Registry | None] = None
    name: ClassVar[str] = ""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "name" not in vars(cls):
            cls.name = cls.__name__
        if cls.registry is not None and isinstance(cls.name, str):
            cls.registry.define(cls.name, cls)

    @classmethod
    def _arguments(cls) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(cls).parameters

    def identity(self) -> Mapping[str, Any]:
        """Return its options: plain values that identify it to a run and can construct it again.

        Raises:
            ConfigError: an argument of the constructor is not kept in an attribute of the same name, or is positional only.
        """
        arguments = self._arguments()
        unnamed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)
        if name := next((name for name, given in arguments.items() if given.kind in unnamed), None):
            raise ConfigError(
                f"the {self.called} {self.name!r} takes its argument {name!r} by position, but is constructed again by keywords.",
                hint="Use keyword arguments in its constructor, for instance a list instead of *args.",
            )
        names = [name for name, given in arguments.items() if given.kind is not inspect.Parameter.VAR_KEYWORD]
        if missing := next((name for name in names if not hasattr(self, name)), None):
            raise ConfigError(
                f"the {self.called} {self.name!r} does not keep its argument {missing!r}.",
                hint=f"Write self.{missing} = {missing} in its constructor.",
            )
        return {name: getattr(self, name) for name in names}

    @property
    def options(self) -> dict[str, Any]:
        """Its `identity` as a config stores it.

        Raises:
            ConfigError: it is not JSON.
        """
        try:
            found: dict[str, Any] = json.loads(json.dumps(plain_value(dict(self.identity())), allow_nan=False))
        except StepsynthError:
            raise
        except Exception as error:
            raise ConfigError(
                f"the identity of the {self.called} {self.name!r} is not JSON: {' '.join(str(error).split())}.",
                hint="Use numbers, texts, lists and dicts as arguments.",
            ) from None
        return found

    def register(self, registry: Registry) -> None:
        """Register its class under its name, for the rest of the process.

        Raises:
            ConfigError: its name is built in or invalid, or its options do not construct it again.
        """
        own = type(self)
        if own.name in registry.built_in and registry.load(own.name) is own:
            return
        if not _NAME.fullmatch(own.name):
            raise ConfigError(f"{own.name!r} cannot be the name of a {own.called}.", hint="Use only letters, digits and . _ + -")
        registry.add(own.name, own)
        if (again := own.made_with(self.options).options) != self.options:
            raise ConfigError(
                f"the {own.called} {own.name!r} made with {self.options!r} reports the options {again!r}.",
                hint="Make identity() return the arguments of its constructor.",
            )

    @classmethod
    def made_with(cls, options: Mapping[str, Any]) -> Self:
        """Construct one with these options.

        Raises:
            ConfigError: the constructor fails.
        """
        try:
            return cls(**options)
        except StepsynthError:
            raise
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            what = f"{cls.called} {cls.name!r} cannot be made with {dict(options)!r}: {said}."
            raise ConfigError(what, hint=f"Correct {cls.called}.options.") from error


def plain_value(value: Any) -> Any:
    """Return a value as a config stores it: nouns as their keys, paths as texts, numpy's numbers as Python's, lists copied."""
    if isinstance(value, Noun):
        return value.values
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {key: plain_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(inner) for inner in value]
    return value.item() if hasattr(value, "item") and callable(value.item) else value
