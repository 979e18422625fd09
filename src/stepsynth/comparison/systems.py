"""The columns of a comparison: methods, each with the config keys in which it differs.

systems = parse_systems("gold,zerogen,s3,s3:method.rationales=0", config)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from stepsynth.config import SOURCES, RunConfig, parse_config, with_later_keys
from stepsynth.config.reading import read_yaml
from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.methods import create_method, method_class
from stepsynth.registry import METHODS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["System", "changed_config", "choose_reference", "in_place", "parse_systems", "sets_budget"]

# Keys that must be equal for cells to be comparable, or that name the system.
_FIXED = ("method", "method.name", "method.match", "method.options", "data", "seed")


@dataclass(frozen=True)
class System:
    """One column of a comparison.

    Attributes:
        name: as the user wrote it, for instance ``s3`` or ``s3:method.rationales=0``.
        method: the method's name.
        changes: dotted config key -> value, for ablations.
    """

    name: str
    method: str
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def folder(self) -> str:
        """The name in a form that is safe as a folder's name."""
        return re.sub(r"[^\w.+=-]+", "-", self.name).strip("-")[:80]

    @property
    def sets_budget(self) -> bool:
        """Whether it runs first for every seed and sets the budget of the others."""
        return sets_budget(self.name)

    @property
    def takes_budget(self) -> bool:
        """Whether it is given the budget; an ablation of the loop keeps its own rounds and is only measured."""
        method = method_class(self.method)
        return method.takes_budget and not method.sets_budget and method.student == "written"


def sets_budget(name: str) -> bool:
    """Whether a system of this name sets the budget of the others: a budget-setting method without changes."""
    return ":" not in name and method_class(name).sets_budget


def parse_systems(text: str, config: RunConfig) -> list[System]:
    """Read ``s3,zerogen,s3:method.rationales=0:method.rounds=1``.

    Args:
        text: names separated by commas; changes follow a name, each after a colon.
        config: the config to change.

    Raises:
        ConfigError: an unknown method, an invalid change, the same system twice, or no system.
    """
    systems = []
    for part in filter(None, (part.strip() for part in _split(text, ","))):
        name, *changes = _split(part, ":")
        if name not in METHODS:
            raise ConfigError(f"unknown method {name!r} among the methods.", hint=did_you_mean(name, METHODS.names()))
        pairs = []
        for change in changes:
            key, separator, value = change.partition("=")
            if not separator:
                raise ConfigError(f"{change!r} of {part!r} is not of the form key=value.", hint="Example: s3:method.rounds=1")
            if key in _FIXED or key.startswith("data.test"):
                raise ConfigError(
                    f"{key!r} cannot be changed for one method: it must be the same for all.", hint="Example: s3:method.rounds=1"
                )
            try:
                pairs.append((key, read_yaml(value, keys=tuple(key.split(".")))))
            except (yaml.YAMLError, ValueError, RecursionError):
                raise ConfigError(f"{value!r} of {part!r} is not a YAML value.", hint="Example: s3:method.rounds=1") from None
        systems.append(System(part, name, tuple(pairs)))
        create_method(changed_config(config, systems[-1]))
    if not systems:
        raise ConfigError("no method is named.", hint="Example: gold,zerogen,seed-only,goldgen,s3")
    for position, system in enumerate(systems):
        if same := next((other for other in systems[:position] if other.folder == system.folder), None):
            twice = f"{system.name!r} is among the methods twice, with the same settings"
            said = twice if same.name == system.name else f"{same.name!r} and {system.name!r} would have one folder"
            raise ConfigError(f"{said}.", hint="Name it once, or say what differs: s3:method.rounds=1, or S3(rounds=1).")
    return systems


def _split(text: str, mark: str) -> list[str]:
    """Split at a mark outside brackets and double quotes: a value may be a list, a mapping or a string."""
    parts, depth, quoted = [""], 0, False
    for sign in text:
        quoted ^= sign == '"'
        depth += 0 if quoted else (sign in "[{") - (sign in "]}")
        if sign == mark and not quoted and depth <= 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def choose_reference(systems: Sequence[System], wanted: str | None) -> str | None:
    """Return the system that all others are compared with.

    Args:
        systems: from `parse_systems`.
        wanted: the user's choice; ``None`` takes ``gold``, the user's own labels, or ``s3`` if gold is not compared.

    Raises:
        ConfigError: it is not one of the systems.
    """
    names = [system.name for system in systems]
    if wanted is not None and wanted not in names:
        raise ConfigError(f"the reference {wanted!r} is not among the methods.", hint=did_you_mean(wanted, names))
    plain = [(name, method_class(name)) for name in names if ":" not in name]
    ordered = sorted(plain, key=lambda found: not found[1].is_reference)
    return wanted or next((name for name, method in ordered if method.is_reference or method.sets_budget), None)


def changed_config(config: RunConfig, system: System) -> RunConfig:
    """Return the config with a system's method and changes.

    Raises:
        ConfigError: a change names no key, or gives it an invalid value.
    """
    # Missing keys would be read as defaults.
    values = with_later_keys(config.resolved())
    if system.method != config.method.name:
        values["method"]["options"] = {}
    for dotted, value in (("method.name", system.method), *system.changes):
        *parents, last = dotted.split(".")
        node = values
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None  # type: ignore[assignment]
        if not isinstance(node, dict):
            raise ConfigError(f"unknown key {dotted!r} of a method.", hint="Example: s3:method.rounds=1")
        node[last] = value
    return in_place(parse_config(values), config)


def in_place(changed: RunConfig, config: RunConfig) -> RunConfig:
    """Restore in a config made from plain values what these lack: folders, and a program's rows and filters."""
    sources = {name: getattr(config.data, name) for name in SOURCES}
    kept = {name: source.in_place_of(old) for name, old in sources.items() if old and (source := getattr(changed.data, name))}
    changed = changed.model_copy(update={"data": changed.data.model_copy(update=kept)})
    return changed if config.given_filters is None else changed.with_filters(config.given_filters)
