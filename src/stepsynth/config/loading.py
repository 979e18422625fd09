"""YAML in, a checked and frozen `RunConfig` out, or a one-line error."""

from __future__ import annotations

import os
import re
import shlex
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from stepsynth.config.addresses import shown_path
from stepsynth.config.reading import read_yaml
from stepsynth.config.run import BudgetConfig, RunConfig, with_later_keys
from stepsynth.config.sections import SOURCES, Section, SourceConfig
from stepsynth.config.stored import at_its_place, read_stored, stored_run, was_edited
from stepsynth.config.teacher import TeacherConfig
from stepsynth.errors import ConfigError, closest, did_you_mean
from stepsynth.registry import METHODS, STUDENTS, TRACKERS
from stepsynth.runtime.files import path_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "first_problem",
    "load_config",
    "load_teacher",
    "parse_config",
    "parse_source",
    "parse_stored",
    "parse_with",
    "read_yaml_file",
]

# The form of well-known services' keys: 16 letters and digits in a row, some of each, as in no name with dashes.
_KEY = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|gh[oprsu])[-_](?:[\w-]{0,40}[-_])?(?=[A-Za-z]{0,80}\d)(?=\d{0,80}[A-Za-z])[A-Za-z\d]{16,}"
    r"|\bglpat-(?=[\w-]{0,80}\d)[\w-]{16,}|\bAIza[\w-]{30,}|\bAKIA[A-Z0-9]{16}\b"
    r"|\bBearer\s{1,9}(?=\S{0,80}\d)[\w.+/=-]{16,}",
)
# An address with user and password, or with a secret in its query.
_ADDRESS = re.compile(
    r"https?://(?:[^/?#\s]{1,200}@|\S{0,500}?[?&](?:api[-_]?key|key|token|access[-_]token|secret|password|sig)=)", re.IGNORECASE
)
_SECRET_NAME = re.compile(
    r"(?:.*[-_.])?(?:api[-_]?key|secret|password|passwd|authorization)|(?:(?:hf|auth|access|bearer)[-_]?)?token", re.IGNORECASE
)


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a YAML config, apply ``key=value`` overrides, make its paths absolute.

    Args:
        path: the YAML file; relative data paths start from its folder. Or a run directory or its ``config.json``: the
            config that the run began with; relative paths of overrides start from the current folder.
        overrides: ``method.rounds=3`` and the like; values are YAML.

    Raises:
        ConfigError: the file is missing or unreadable, a key is unknown, or a value is wrong.
    """
    return parse_config(_read(path, overrides), base=Path.cwd() if stored_run(path) else path.parent.resolve())


def load_teacher(path: Path, overrides: list[str] | None = None) -> tuple[TeacherConfig, BudgetConfig]:
    """Read only the sections ``teacher`` and ``budget`` of a config; the others may be missing or wrong.

    Args:
        path: the YAML file.
        overrides: as for `load_config`.

    Raises:
        ConfigError: as `load_config`.
    """
    values = _read(path, overrides)
    _refuse_secrets(values, "")
    if unknown := next((str(key) for key in values if key not in RunConfig.model_fields), None):
        raise ConfigError(f"unknown key {unknown!r} in the config. {_similar_key([unknown])}")
    try:
        found = _TeacherSections.model_validate({name: values[name] for name in ("teacher", "budget") if name in values})
    except ValidationError as error:
        raise ConfigError(first_problem(error)) from None
    return found.teacher, found.budget


class _TeacherSections(Section):
    teacher: TeacherConfig = TeacherConfig()
    budget: BudgetConfig = BudgetConfig()


def _read(path: Path, overrides: list[str] | None) -> dict[str, Any]:
    if problem := path_problem(path):
        raise ConfigError(f"no config at {shown_path(path)}: {problem}.", hint="Make one with: stepsynth init DIR")
    run = stored_run(path)
    values = read_yaml_file(path) if run is None else _stored_values(run)
    if "data_sets" in values and "task" not in values:
        raise ConfigError(
            f"{shown_path(path)} is a sweep, not the config of one run.",
            hint=f"Start it with: stepsynth sweep {shlex.quote(str(path))}",
        )
    for override in overrides or []:
        _apply(values, override)
    return values


def _stored_values(run: Path) -> dict[str, Any]:
    """Return the values of the config that a run began with; what a run settles by itself is left out."""
    document = read_stored(run)
    began = parse_stored(document["config"])
    if was_edited(document, began.resolved(), began.result_digest()):
        raise ConfigError(
            f"{str(run / 'config.json')!r} was edited: it does not match its digest.",
            hint="Undo the change. For other settings start a new run in another folder (out= / --out).",
        )
    values = at_its_place(with_later_keys(document["config"]), run)
    values["task"].pop("identity", None)
    return values


def read_yaml_file(path: Path, inside: Sequence[tuple[str, ...]] = ()) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Args:
        path: the file.
        inside: see `stepsynth.config.reading.read_yaml`.

    Raises:
        ConfigError: the file is missing or unreadable, or holds something else.
    """
    if path.is_dir():
        first = next((str(found) for found in sorted(path.glob("*.y*ml"))), None)
        raise ConfigError(f"{str(path)!r} is a folder; give the config file{f', e.g. {first!r}' if first else ''}.")
    if path.exists() and not path.is_file():
        raise ConfigError(
            f"{str(path)!r} is a pipe or a device; give a file.", hint="Runs are placed beside the config, and read it again."
        )
    if not path.is_file():
        raise ConfigError(f"no config at {str(path)!r}.", hint=_config_beside(path) or "Make one with: stepsynth init DIR")
    try:
        values = read_yaml(path.read_text(encoding="utf-8"), inside=inside)
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}.", hint="Check its permissions.") from None
    # A date like 2024-02-31 raises a ValueError, and so do wrong bytes.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{str(path)!r} is not valid YAML: {_yaml_problem(error)}.") from None
    if values is None:
        raise ConfigError(f"{str(path)!r} is empty.", hint="Make a config with: stepsynth init DIR")
    if not isinstance(values, dict):
        raise ConfigError(
            f"{str(path)!r} holds {type(values).__name__}, not a mapping of sections.", hint="See: stepsynth init DIR"
        )
    return values


def _config_beside(path: Path) -> str:
    """Say which config of the same folder may be meant; empty if none has a similar name."""
    with suppress(OSError):
        # Endings are alike in any case.
        named = {found.stem: found.name for found in path.parent.iterdir() if found.suffix in (".yaml", ".yml")}
        if best := closest(path.stem, named):
            return f"Did you mean {str(path.parent / named[best])!r}?"
    return ""


def _yaml_problem(error: Exception) -> str:
    """Return where and why a document is invalid, without the parser's excerpt."""
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        said = f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}"
    elif isinstance(error, yaml.reader.ReaderError):
        said = f"character {error.position + 1} is {error.character!r}, which YAML does not allow"
    else:
        said = str(error)
    return " ".join(said.split())[:200].rstrip(".")


def parse_config(values: dict[str, Any], base: Path | None = None, *, stored: bool = False) -> RunConfig:
    """Check plain values and return the config; relative data paths are joined to ``base``.

    Args:
        values: the sections.
        base: the config's folder.
        stored: whether they come from a run on disk, for which the class of the task's family may be missing.

    Raises:
        ConfigError: a key is unknown or a value is wrong; names the key and what to write.
    """
    config = _checked(values, stored)
    if stored:
        return config
    for key, name, registry in (("method.name", config.method.name, METHODS), ("student.kind", config.student.kind, STUDENTS)):
        if name is not None and name not in registry:
            raise ConfigError(f"{key} is {name!r}. {did_you_mean(name, registry.names())}")
    if unknown := next((e.name for e in config.tracking if e.name not in TRACKERS), None):
        raise ConfigError(f"tracking is {unknown!r}. {did_you_mean(unknown, TRACKERS.names())}")
    if base is None:
        return config
    data = config.data
    absolute = {name: _absolute(source, base) for name in SOURCES if (source := getattr(data, name))}
    return config.model_copy(update={"data": data.model_copy(update=absolute)})


def parse_with(values: dict[str, Any], overrides: Sequence[str], base: Path) -> RunConfig:
    """Check plain values after ``key=value`` overrides, and return the config; the values stay as they are.

    Args:
        values: the sections.
        overrides: as for `load_config`.
        base: the folder that relative paths start from.

    Raises:
        ConfigError: as `parse_config`.
    """
    changed = deepcopy(values)
    for override in overrides:
        _apply(changed, override)
    return parse_config(changed, base=base)


def parse_stored(values: dict[str, Any]) -> RunConfig:
    """Check values from `RunConfig.resolved`, of this version or an earlier one, and return the config.

    Raises:
        ConfigError: as `parse_config`, except that the method may be unknown.
    """
    return parse_config(with_later_keys(values), stored=True)


def _checked(values: dict[str, Any], stored: bool) -> RunConfig:
    _refuse_secrets(values, "")
    try:
        return RunConfig.model_validate(values, context={"stored": stored})
    except ValidationError as error:
        raise ConfigError(first_problem(error)) from None


def parse_source(values: dict[str, Any]) -> SourceConfig:
    """Check a source given on the command line.

    Raises:
        ConfigError: a value is wrong.
    """
    try:
        return SourceConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(first_problem(error)) from None


def _refuse_secrets(value: object, where: str, *, name: str = "") -> None:
    """Refuse anything that looks like a key among the values: a config is stored, printed and shared."""
    if isinstance(value, dict):
        for key, inner in value.items():
            # A secret may stand in place of a name; the message must not repeat it.
            _refuse_secrets(key, where)
            _refuse_secrets(inner, f"{where}.{key}".lstrip("."), name=str(key) if where.startswith("teacher.options") else "")
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_secrets(inner, where, name=name)
    elif isinstance(value, str) and (_KEY.search(value) or _ADDRESS.match(value) or (value and _SECRET_NAME.fullmatch(name))):
        raise ConfigError(
            f"{where or 'the config'} holds what looks like a key or a password.",
            hint="Export it as an environment variable and write that variable's name into teacher.api_key_env.",
        )


def _absolute(source: SourceConfig, base: Path) -> SourceConfig:
    if source.path is None:
        return source.beside(base)
    expanded = os.path.expandvars(source.path)
    if unset := re.search(r"\$\{?(\w+)", expanded):
        raise ConfigError(
            f"the path {str(source.path)!r} needs the environment variable {unset[1]}, which is not set.", hint="Export it."
        )
    return source.model_copy(update={"path": base / os.path.expanduser(expanded)})


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    _refuse_secrets(key, "an override")
    _refuse_secrets(override, f"the override of {key!r}")
    if not separator or not key:
        raise ConfigError(f"the override {override!r} is not of the form key=value.", hint="Example: method.rounds=3")
    *parents, last = key.split(".")
    node: Any = values
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"the override {override!r}: {parent!r} holds a plain value, not a section.")
    try:
        node[last] = read_yaml(text, keys=(*parents, last))
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"the override {override!r}: {text!r} is not a YAML value.") from None


def first_problem(error: ValidationError) -> str:
    """Return the first problem as one line: the key, the value, what to write."""
    problems = error.errors(include_url=False)
    # A typo gives two problems, an unknown key and a missing one; the unknown key says more.
    problem = next((found for found in problems if found["type"] == "extra_forbidden"), problems[0])
    location = [str(part) for part in problem["loc"] if part != "[key]"]
    where = ".".join(location)
    if problem["type"] == "extra_forbidden":
        section = ".".join(location[:-1]) or "the config"
        return f"unknown key {location[-1]!r} in {section}. {_similar_key(location)}"
    if problem["type"] == "missing":
        return f"{where} is missing. Add it to the config."
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{where or 'config'}: {message}{'' if message.endswith(('.', '?')) else '.'}"
    shown = repr(problem["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    if problem["type"] == "literal_error":
        options = [word.strip("' ") for word in re.split(r",|\bor\b", problem["ctx"]["expected"])]
        return f"{where} is {shown}. {did_you_mean(str(problem['input']), options)}"
    if problem["input"] is None:
        return f"{where} is empty."
    if wanted := _wanted(problem["type"], problem.get("ctx", {})):
        return f"{where} must be {wanted}, not {shown}."
    return f"{where} is {shown}: {message[0].lower()}{message[1:].rstrip('.')}."


def _wanted(kind: str, limits: Mapping[str, Any]) -> str:
    """Describe valid values, by pydantic's name for the problem; empty for other problems."""
    bound = {
        "greater_than_equal": ("ge", "{} or more"),
        "greater_than": ("gt", "more than {}"),
        "less_than_equal": ("le", "{} or less"),
        "less_than": ("lt", "less than {}"),
    }
    if kind in bound:
        name, words = bound[kind]
        return words.format(f"{limits[name]:,g}" if abs(limits[name]) < 1e6 else f"{limits[name]:,}")
    return {
        "int_parsing": "a whole number",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_parsing": "a number",
        "float_type": "a number",
        "finite_number": "a finite number",
        "bool_parsing": "true or false",
        "bool_type": "true or false",
        "string_type": "text (put it in quotes)",
        "dict_type": "a mapping (key: value)",
        "model_type": "a section with its own keys",
        "list_type": "a list",
        "tuple_type": "a list",
    }.get(kind, "")


def _similar_key(location: list[str]) -> str:
    """Say which key may be meant: at the top, also one of a section that has exactly this name."""
    *section, word = location
    inside = [f"{name}.{word}" for name in RunConfig.model_fields if word in _known_keys([name])]
    if inside and not section:
        return f"Did you mean {' or '.join(map(repr, inside))}?"
    return did_you_mean(word, _known_keys(section))


def _known_keys(location: list[str]) -> list[str]:
    model: type[BaseModel] = RunConfig
    parts = iter(location)
    for part in parts:
        if part not in model.model_fields:
            return []
        annotation = model.model_fields[part].annotation
        nested = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not nested:
            return []
        model = nested[0]
        if get_origin(annotation) is dict:
            next(parts, None)
    return list(model.model_fields)
