"""Differences between the config of a stored run and the config that resumes it.

Changes that the user made are reported as changes. If only a default has changed since the
version that made the run, the user is told what to write into the config instead.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stepsynth.config.run import earlier_defaults, with_later_keys
from stepsynth.config.sections import FREE_SOURCE_KEYS, SOURCES
from stepsynth.config.teacher import FREE_TEACHER_KEYS

if TYPE_CHECKING:
    from stepsynth.config.run import RunConfig

__all__ = ["changes_between", "moved_defaults"]

_FREE = {
    *(f"teacher.{key}" for key in FREE_TEACHER_KEYS),
    *(f"data.{source}.{key}" for source in SOURCES for key in FREE_SOURCE_KEYS),
}


def changes_between(stored: RunConfig, config: RunConfig) -> list[str]:
    """Describe each key that affects results and has a different value; moved defaults are left out."""
    moved = {line.split(":")[0] for line in moved_defaults(stored, config)}
    return [line for key, line in _differences(_values(stored), _values(config)) if key not in moved]


def moved_defaults(stored: RunConfig, config: RunConfig) -> list[str]:
    """Return ``key: value`` for each key that has the old default in the run and the new default in the config.

    Writing these lines into the config makes it match the run.
    """
    old, new, now = _values(stored), _values(config), type(config).model_fields
    found = []
    for dotted, before in earlier_defaults().items():
        section, key = dotted.split(".")
        default = now[section].annotation.model_fields[key].default  # type: ignore[union-attr]
        if old[section][key] == before and new[section][key] == default:
            found.append(f"{dotted}: {before if isinstance(before, str) else json.dumps(before)}")
    return found


def _values(config: RunConfig) -> dict[str, Any]:
    values = with_later_keys(config.resolved())
    # Servers after the first may change.
    values["teacher"]["base_url"] = config.teacher.base_url
    return values


def _differences(old: Any, new: Any, where: str = "") -> list[tuple[str, str]]:
    if where in _FREE:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        if where == "task.labels" and keys != list(new) and set(old) == set(new):
            return [(where, f"{where} were in the order {_short(list(old))}, are in {_short(list(new))}")]
        return [found for key in keys for found in _differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))]
    if old == new or where.split(".")[0] in ("budget", "cache", "report", "tracking"):
        return []
    return [(where, f"{where} was {_short(old)}, is {_short(new)}")]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
