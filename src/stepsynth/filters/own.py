"""Filters of a user: a class in a script, or one that a package registered.

    class NoUrls(RowFilter):
        reason = "has a web address"

        def keep(self, row: Example) -> bool:
            return "http" not in row.text

In Python it is given as ``filters=[NoUrls()]``; in YAML by the name under which a package registered the class as an entry point
of the group ``stepsynth.filters``::

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
    from collections.abc import Mapping, Sequence

    from stepsynth.config import OwnFilterConfig
    from stepsynth.types import Candidate, Example

__all__ = ["OwnRule", "RowFilter", "describe_filter", "own_filters"]


class RowFilter(ABC):
    """One rule that every written row has to pass; it looks at one row only and is the same each time.

    Its constructor's arguments belong into attributes of the same names: they are its `identity`, by which a run
    that goes on knows that the rule is still the same. The name of an attribute that it changes itself, a count for
    instance, begins with an underscore.

    Attributes:
        name: what it is called in configs; the class's name when absent.
        reason: why a row was dropped, a few words for tables and pages, none of the built-in reasons; the name when absent.

    Example:
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

    @abstractmethod
    def keep(self, row: Example) -> bool:
        """Return whether a row may stay: its ``text``, ``label``, and of pairs and questions its ``context`` and ``answers``."""

    def identity(self) -> Mapping[str, Any]:
        """Return what can change its verdicts, as JSON values; its public attributes unless a subclass says otherwise."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


class OwnRule(RowFilterBase):
    """A user's filter among the rules of a run.

    Args:
        own: the filter.
    """

    def __init__(self, own: RowFilter) -> None:
        self._own = own
        self._reason = own.reason or own.name or type(own).__name__

    def verdict(self, candidate: Candidate) -> Verdict:
        """Ask it.

        Raises:
            RunError: it failed; the message names the row.
        """
        try:
            kept = bool(self._own.keep(candidate.row.example))
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise RunError(
                f"the filter {_name(self._own)!r} failed on row {candidate.row.example.id!r}: {said}.",
                hint="Fix it and run the same again: no answer is lost.",
            ) from error
        return Verdict(candidate) if kept else replace(Verdict(candidate), reason=self._reason)


def _name(own: RowFilter) -> str:
    return own.name or type(own).__name__


def describe_filter(own: object) -> str | dict[str, Any]:
    """Return a filter as a config has it.

    Raises:
        ConfigError: it is no `RowFilter`, or its identity is not JSON.
    """
    if isinstance(own, str | dict):
        return own
    if not isinstance(own, RowFilter):
        hint = "Give an instance." if isinstance(own, type) else "Derive its class from stepsynth.RowFilter."
        raise ConfigError(f"filters holds {own!r}, which is no filter.", hint=hint)
    _refuse_reason(own)
    try:
        options = json.loads(json.dumps(plain_value(dict(own.identity()))))
    except Exception as error:
        raise ConfigError(
            f"the identity of the filter {_name(own)!r} is not JSON: {error}.",
            hint="Let identity() return numbers, texts, lists and dicts only.",
        ) from None
    return {"name": _name(own), "options": options}


def _refuse_reason(own: RowFilter) -> None:
    """Refuse a reason that is no text, or one of the built-in rules': rows of both would be counted as one."""
    for what in ("name", "reason"):
        if not isinstance(value := getattr(own, what), str | None):
            raise ConfigError(
                f"the {what} of the filter {type(own).__name__!r} is {value!r}, a {type(value).__name__}.",
                hint=f"Write {what} as a text, a few words.",
            )
    reason = own.reason or _name(own)
    if reason.strip().casefold() in list(DropReason):
        raise ConfigError(
            f"the filter {_name(own)!r} drops rows for the reason {reason!r}, which is one of the built-in rules'.",
            hint="Write a reason of its own in the class, a few words.",
        )


def own_filters(entries: Sequence[OwnFilterConfig], given: Sequence[RowFilter | None] = ()) -> list[RowFilter]:
    """Return the filters of a config: those that the program gave, or made by what packages registered.

    Args:
        entries: what the config says of each.
        given: the instances that the program gave for the first of them.

    Raises:
        ConfigError: there is no such filter, or it cannot be made with these options.
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
        raise ConfigError(f"filter {entry.name!r} is {made!r}.", hint="Its class has to be derived from stepsynth.RowFilter.")
    _refuse_reason(made)
    return made
