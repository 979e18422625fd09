"""A sweep's YAML file, read and checked; all problems are told at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.config import load_config, parse_with, read_yaml_file
from stepsynth.config.addresses import shown_path
from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.run import folder_name
from stepsynth.runtime.files import path_problem
from stepsynth.sweeps.spec import (
    KEYS,
    Part,
    Problems,
    SweepSpec,
    as_overrides,
    check_name,
    read_budget,
    read_changes,
    read_choices,
    read_settings,
    refuse_clashes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import RunConfig

__all__ = ["read_sweep"]

_EXAMPLE = "Example: {trec: configs/trec.yaml}"
_METHODS = "Example: methods: [gold, s3, crossfit]"
# Where whole configs and changes of configs stand in the file.
_INSIDE = (("data_sets", "*"), ("data_sets", "*", "config"), ("data_sets", "*", "set"), ("settings", "*"))


def read_sweep(file: Path, *, out: Path | None = None, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep file, with the config of every data set and setting.

    Args:
        file: the YAML file; relative paths in it start from its folder.
        out: the sweep's folder, in the place of the file's ``out``.
        overrides: ``key=value`` for every config, after the changes of the data set and of the setting.

    Raises:
        SweepProblems: what is wrong with it, a line per problem.
    """
    problems = Problems()
    values = _read(file, problems)
    problems.refuse()
    for key in values:
        if key not in KEYS:
            problems.add(f"unknown key {key!r} in the sweep. {did_you_mean(key, KEYS)}")
    base = file.parent.resolve()
    choices, budget = read_choices(values, problems), read_budget(values.get("budget"), problems)
    methods, settings = _methods(values.get("methods"), problems), read_settings(values.get("settings"), problems)
    name = _text(values, "name", file.stem, problems)
    place = _text(values, "out", "", problems)
    sets = _data_sets(values.get("data_sets"), problems)
    refuse_clashes([(data_set, setting) for data_set in sets for setting in settings], problems)
    parts = []
    for data_set, (source, changes) in sets.items():
        for setting, more in settings.items():
            try:
                changed = [*as_overrides(changes), *as_overrides(more), *overrides]
                parts.append(Part(data_set, setting, _config(source, changed, base), methods))
            except ConfigError as error:
                problems.add(error, f"{data_set}, {setting}" if setting else data_set)
    problems.refuse(len(sets) * len(settings))
    folder = out if out is not None else base / (_expanded(place) if place else Path("runs") / folder_name(name))
    return SweepSpec(name=name, parts=tuple(parts), budget=budget, folder=folder, **choices)


def _expanded(place: str) -> Path:
    try:
        return Path(place).expanduser()
    except RuntimeError:
        raise ConfigError(f"out is {place!r}: there is no such user.", hint="Name a folder (out= / --out).") from None


def _read(file: Path, problems: Problems) -> dict[str, Any]:
    if problem := path_problem(file) or ("" if file.exists() else "there is no such file"):
        problems.add(f"no sweep file at {shown_path(file)}: {problem}.")
        return {}
    try:
        values = read_yaml_file(file, _INSIDE)
    except ConfigError as error:
        # The hint is about configs.
        problems.add(error.message, "")
        return {}
    if "data_sets" not in values and "task" in values:
        problems.add(
            f"{str(file)!r} is the config of one run, not a sweep. Name it in a sweep file: data_sets: {{mine: {file.name}}}"
        )
    return values


def _text(values: dict[str, Any], key: str, default: str, problems: Problems) -> str:
    value = values.get(key)
    if value is None:
        return default
    if not isinstance(value, str) or not value.strip() or len(value) > 200:
        problems.add(f"{key} is {value!r}. Give a short text.")
        return default
    return value


def _methods(methods: object, problems: Problems) -> str:
    if methods is None:
        problems.add(f"methods is missing. {_METHODS}")
    elif isinstance(methods, str):
        return methods
    elif not isinstance(methods, list) or not methods:
        problems.add(f"methods is {methods!r}, not a list of methods. {_METHODS}")
    elif wrong := [each for each in methods if not isinstance(each, str)]:
        hint = "Write changes without a space after the colon: s3:method.rounds=1"
        problems.add(f"{wrong[0]!r} among the methods is not a text. {hint}")
    else:
        return ",".join(methods)
    return ""


def _data_sets(given: object, problems: Problems) -> dict[str, tuple[str | dict[str, Any], dict[str, Any]]]:
    """Return by name the config file, or the config itself, and the changes."""
    if not isinstance(given, dict) or not given:
        said = "is missing" if given is None else f"is {given!r}, not a mapping of names"
        problems.add(f"data_sets {said}. {_EXAMPLE}")
        return {}
    found: dict[str, tuple[str | dict[str, Any], dict[str, Any]]] = {}
    for name, value in given.items():
        if not check_name(name, "data set", problems):
            continue
        where = f"data_sets.{name}"
        if isinstance(value, dict) and "task" in value:
            found[name] = value, {}
        elif isinstance(value, dict) and "config" in value:
            if unknown := next((key for key in value if key not in ("config", "set")), None):
                problems.add(f"unknown key {unknown!r} in {where}. {did_you_mean(unknown, ('config', 'set'))}")
            if isinstance(value["config"], str | dict) and value["config"]:
                found[name] = value["config"], read_changes(value.get("set"), f"{where}.set", problems)
            else:
                problems.add(f"{where}.config is {value['config']!r}, not a config file. {_EXAMPLE}")
        elif isinstance(value, str) and value:
            found[name] = value, {}
        else:
            problems.add(f"{where} is {value!r}, not a config file. {_EXAMPLE}")
    return found


def _config(source: str | dict[str, Any], overrides: list[str], base: Path) -> RunConfig:
    if isinstance(source, dict):
        return parse_with(source, overrides, base)
    try:
        return load_config(base / Path(source).expanduser(), overrides)
    except RuntimeError:
        raise ConfigError(f"no config at {source!r}: there is no such user.") from None
