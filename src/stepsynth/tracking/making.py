"""Trackers from a config's entries and from a call's argument, checked before anything is spent.

make_trackers(config.tracking)
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from stepsynth.config import TrackerConfig
from stepsynth.config.loading import first_problem
from stepsynth.errors import ConfigError, StepsynthError, did_you_mean
from stepsynth.registry import TRACKERS
from stepsynth.runtime.imports import importing
from stepsynth.tracking.base import Tracker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import RunConfig

__all__ = ["also_tracked", "make_trackers", "needs", "split_tracking"]

_HINT = "Give a name, a mapping with a name, a Tracker, or a list of them."
_CALLS = ("start", "log", "summarise", "close")


def make_trackers(entries: Iterable[TrackerConfig]) -> list[tuple[TrackerConfig, Tracker]]:
    """Return a config's trackers; their libraries are imported.

    Raises:
        ConfigError: a tracker or one of its options is unknown, or its library is missing.
    """
    return [(entry, _made(entry)) for entry in entries]


def _made(entry: TrackerConfig) -> Tracker:
    plugin = TRACKERS.load(entry.name)
    known = [name for name, found in inspect.signature(plugin).parameters.items() if found.kind is not found.VAR_KEYWORD]
    takes_all = len(known) < len(inspect.signature(plugin).parameters)
    if not takes_all and (unknown := next((key for key in entry.options if key not in known), None)):
        raise ConfigError(f"tracking: {entry.name!r} has no option {unknown!r}. {did_you_mean(unknown, known)}".strip())
    try:
        made = plugin(**entry.options)
    except StepsynthError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(
            f"the tracker {entry.name!r} cannot be made with {entry.options!r}: {said}.", hint="Correct its options."
        ) from error
    _refuse_other(made)
    return made  # type: ignore[no-any-return]


def _refuse_other(made: object) -> None:
    missing = [name for name in _CALLS if not callable(getattr(made, name, None))]
    if isinstance(made, type) or missing:
        hint = "Give an instance." if isinstance(made, type) else "Derive its class from stepsynth.Tracker."
        raise ConfigError(f"tracking has {made!r}, which is not a tracker.", hint=hint)


def split_tracking(tracking: object) -> tuple[list[str | dict[str, Any]], list[Tracker]]:
    """Return the argument of a call as a config's entries, and the objects among them, which no config can hold.

    Raises:
        ConfigError: it is neither.
    """
    if tracking is None:
        return [], []
    several = isinstance(tracking, Iterable) and not isinstance(tracking, str | Mapping | Tracker)
    listed: Sequence[object] = list(tracking) if several else [tracking]  # type: ignore[call-overload]
    entries: list[str | dict[str, Any]] = []
    given: list[Tracker] = []
    for one in listed:
        if isinstance(one, str):
            entries.append(one)
        elif isinstance(one, Mapping):
            entries.append(dict(one))
        else:
            if one is None or isinstance(one, bool | int | float):
                raise ConfigError(f"tracking has {one!r}.", hint=_HINT)
            _refuse_other(one)
            given.append(one)  # type: ignore[arg-type]
    return entries, given


def also_tracked(config: RunConfig, tracking: object) -> tuple[RunConfig, list[Tracker]]:
    """Return a config with the trackers of a call added to its own, and the objects among them.

    Args:
        config: the config; an entry with the same name keeps its options.
        tracking: as for `split_tracking`.

    Raises:
        ConfigError: as `split_tracking`; or an entry has a wrong form.
    """
    entries, given = split_tracking(tracking)
    try:
        added = [TrackerConfig.model_validate(entry) for entry in entries]
    except ValidationError as error:
        raise ConfigError(f"tracking: {first_problem(error)}", hint=_HINT) from None
    # A name alone chooses what the config describes.
    new = [entry for entry in added if entry.options or entry.name not in {own.name for own in config.tracking}]
    if not new:
        return config, given
    replaced = {entry.name for entry in new}
    kept = [own for own in config.tracking if own.name not in replaced]
    return config.model_copy(update={"tracking": (*kept, *new)}), given


def needs(tracker: str, *modules: str, settings: Mapping[str, str] | None = None) -> None:
    """Check that a tracker's library is there and can be imported.

    Args:
        tracker: its name, which is also that of the extra.
        modules: what it imports.
        settings: environment variables that a library reads when it is imported; those that the user has set stay.

    Raises:
        ConfigError: a module is missing, or its import fails.
    """
    for name, value in (settings or {}).items():
        os.environ.setdefault(name, value)
    for module in modules:
        if not _installed(module):
            raise ConfigError(
                f"tracking with {tracker!r} needs the package {module}.",
                hint=f"Install it with: pip install 'stepsynth[{tracker}]'. Or take it out of tracking.",
            )
        try:
            with importing(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import_module(module)
        except Exception as error:  # what a broken installation raises is its own affair
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise ConfigError(
                f"tracking with {tracker!r} needs the package {module}, which cannot be imported: {said}.",
                hint=f"Install it again: pip install 'stepsynth[{tracker}]'. Or take it out of tracking.",
            ) from None


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    # A module that was put into sys.modules by hand has no spec.
    except ValueError:
        return True
