"""A user's own filters: a class in a script, or one registered by a package.

    class NoUrls(RowFilter):
        reason = "has a web address"

        def keep(self, row: Example) -> bool:
            return "http" not in row.text

In Python it is passed as ``filters=[NoUrls()]``. In YAML it has the name under which a package registered the class as an entry
point of the group ``stepsynth.filters``::

    filters: [no-urls, {name: longer-than, options: {words: 5}}]
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from stepsynth.config.nouns import plain_value
from stepsynth.errors import ConfigError, RunError
from stepsynth.filters.row_filters import RowFilterBase
from stepsynth.registry import FILTERS
from stepsynth.types import DropReason, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepsynth.config import OwnFilterConfig
    from stepsynth.types import Candidate, Example

__all__ = ["OwnRule", "RowFilter", "describe_filter", "own_filters", "try_filters"]


class RowFilter(ABC):
    """A rule that every written row must pass; its verdict depends on that row alone and is always the same.

    Keep its constructor's arguments in attributes of the same names: they are its `identity`, by which a resumed
    run knows that the rule is still the same. An attribute that the filter changes itself, such as a count, must
    have a leading underscore.

    Attributes:
        name: its name in configs; the class's name by default.
        reason: why a row was dropped, a few words for tables and pages, not a built-in reason; the name by default.

    Examples:
        >>> class Short(RowFilter):
        ...     reason = "more than ten words"
        ...
        ...     def keep(self, row):
        ...         return len(row.text.split()) <= 10
        >>> Short().keep(Example("1", "A few words."))
        True
    """

    name: ClassVar[str] = ""
    reason: ClassVar[str] = ""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        FILTERS.define(str(cls.name or cls.__name__), cls)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.identity().items())})"

    @abstractmethod
    def keep(self, row: Example) -> bool:
        """Whether to keep a row, which has ``text``, ``label``, and for pairs and questions ``context`` and ``answers``."""

    def identity(self) -> Mapping[str, Any]:
        """Return everything that can change its verdicts, as JSON values; by default its public attributes."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


class OwnRule(RowFilterBase):
    """A user's filter as one of a run's rules.

    Args:
        own: the filter.
    """

    def __init__(self, own: RowFilter) -> None:
        self._own = own
        self._reason = own.reason or own.name or type(own).__name__

    def verdict(self, candidate: Candidate) -> Verdict:
        """Apply the filter.

        Raises:
            RunError: it failed, or returned something else than a bool; the message names it.
        """
        try:
            kept = self._own.keep(candidate.row.example)
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise RunError(
                f"the filter {_name(self._own)!r} failed on row {candidate.row.example.id!r}: {said}.",
                hint="Fix it and run it again: no answer is lost.",
            ) from error
        if fault := _no_verdict(self._own, kept):
            raise RunError(fault, hint="Fix it and run it again: no answer is lost.")
        return Verdict(candidate) if kept else replace(Verdict(candidate), reason=self._reason)


def try_filters(filters: Iterable[RowFilter], rows: Sequence[Example]) -> None:
    """Ask each filter about a gold row before anything is spent: one that forgets its ``return`` would drop every row.

    Args:
        filters: the user's filters.
        rows: gold rows; the first one is asked about.

    Raises:
        ConfigError: a filter returns something else than a bool.
    """
    for own in filters:
        for row in rows[:1]:
            try:
                kept = own.keep(row)
            except Exception:  # noqa: S112
                # What it cannot do with a gold row it may still do with written ones.
                continue
            if fault := _no_verdict(own, kept):
                raise ConfigError(fault, hint="Return True for a row to keep and False for one to drop.")


def _no_verdict(own: RowFilter, found: object) -> str:
    """Return what is wrong with the answer of ``keep``; empty if it is a bool, Python's or numpy's."""
    kind = type(found)
    if kind is bool or (kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")):
        return ""
    shown = " ".join(repr(found).split())
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return f"the filter {_name(own)!r} returned {shown} from keep(), not True or False."


def _name(own: RowFilter) -> str:
    return own.name or type(own).__name__


def describe_filter(own: object) -> str | dict[str, Any]:
    """Return a filter in the form of the config.

    Raises:
        ConfigError: it is not a `RowFilter`, or its identity is not JSON.
    """
    if isinstance(own, str | dict):
        return own
    if not isinstance(own, RowFilter):
        hint = "Give an instance." if isinstance(own, type) else "Derive its class from stepsynth.RowFilter."
        raise ConfigError(f"filters has {own!r}, which is not a filter.", hint=hint)
    _refuse_reason(own)
    try:
        options = json.loads(json.dumps(plain_value(dict(own.identity()))))
    except Exception as error:
        raise ConfigError(
            f"the identity of the filter {_name(own)!r} is not JSON: {error}.",
            hint="Return only numbers, strings, lists and dicts from identity().",
        ) from None
    return {"name": _name(own), "options": options}


def _refuse_reason(own: RowFilter) -> None:
    """Refuse a reason that is not a string, or that a built-in rule has: rows of both would be counted together."""
    for what in ("name", "reason"):
        if not isinstance(value := getattr(own, what), str | None):
            raise ConfigError(
                f"the {what} of the filter {type(own).__name__!r} is {value!r}, a {type(value).__name__}.",
                hint=f"Write {what} as a string of a few words.",
            )
    reason = own.reason or _name(own)
    if reason.strip().casefold() in list(DropReason):
        raise ConfigError(
            f"the filter {_name(own)!r} drops rows for the reason {reason!r}, which a built-in rule already has.",
            hint="Give its class another reason, a few words.",
        )


def own_filters(entries: Sequence[OwnFilterConfig], given: Sequence[RowFilter | None] = ()) -> list[RowFilter]:
    """Return the filters of a config: instances that the program gave, or new ones of registered classes.

    Args:
        entries: the config's entries.
        given: the program's instances for the first entries.

    Raises:
        ConfigError: a filter is unknown, or cannot be made with its options.
    """
    held = [*given, *[None] * (len(entries) - len(given))]
    return [own or _registered(entry) for own, entry in zip(held, entries, strict=True)]


def _registered(entry: OwnFilterConfig) -> RowFilter:
    plugin = FILTERS.load(entry.name)
    try:
        made: RowFilter = plugin(**entry.options)
    except Exception as error:
        raise ConfigError(
            f"filter {entry.name!r} cannot be made with {entry.options!r}: {type(error).__name__}: {error}.",
            hint="Correct its options.",
        ) from error
    if not isinstance(made, RowFilter):
        raise ConfigError(f"filter {entry.name!r} is {made!r}.", hint="Derive its class from stepsynth.RowFilter.")
    _refuse_reason(made)
    return made
