"""What a call is given, as the config that a YAML file with the same keys gives."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from stepsynth.api.nouns import Budget, FunctionTeacher, Method, Source, Student, Task, Teacher
from stepsynth.config import RunConfig, TaskConfig, parse_config
from stepsynth.data.given import place_of, rows_of
from stepsynth.data.keeping import kept_name, read_columns
from stepsynth.data.rows import SUFFIXES
from stepsynth.errors import ConfigError
from stepsynth.filters import RowFilter
from stepsynth.filters.own import describe_filter
from stepsynth.methods import register_method
from stepsynth.registry import STUDENTS
from stepsynth.students.own import StudentRecipe
from stepsynth.tracking import split_tracking

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MoreArguments", "PlanArguments", "check_noun", "make_config"]

_NOUNS: dict[str, type | tuple[type, ...]] = {
    "task": Task,
    "teacher": Teacher,
    "method": Method,
    "student": (Student, StudentRecipe),
    "budget": Budget,
}


class MoreArguments(TypedDict, total=False):
    """Arguments of `make_config` that ``compare`` passes on."""

    contexts: object
    start_from: object
    pool: object
    teacher: Teacher | None
    student: Student | StudentRecipe | None
    filters: Sequence[RowFilter | str]
    budget: Budget | None
    seed: int
    cache: str | os.PathLike[str] | None
    tracking: object


class PlanArguments(MoreArguments, total=False):
    """Those that ``plan`` passes on."""

    test: object
    method: Method | None


def make_config(
    task: Task,
    folder: Path,
    *,
    validation: object,
    test: object = None,
    contexts: object = None,
    start_from: object = None,
    pool: object = None,
    teacher: Teacher | None = None,
    method: Method | None = None,
    student: Student | StudentRecipe | None = None,
    filters: Sequence[RowFilter | str] = (),
    budget: Budget | None = None,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = "user",
    tracking: object = None,
) -> RunConfig:
    """Return the config that a YAML file with the same keys gives; rows from memory are kept in the run's folder.

    Raises:
        ConfigError: a value is wrong.
        DataError: rows have an unknown form.
    """
    sections = {"task": task, "teacher": teacher, "method": method, "student": student, "budget": budget}
    for name, section in sections.items():
        if section is not None:
            check_noun(name, section)
    if method is not None:
        register_method(method)
    if isinstance(teacher, FunctionTeacher):
        teacher.register()
    if isinstance(student, StudentRecipe):
        student.register(STUDENTS)
    filters = _listed(filters)
    if validation is None:
        raise ConfigError("validation is missing.", hint="Give labelled rows: a path, a DataFrame, a list of dicts, a hub id.")
    sources = {"validation": validation, "test": test, "contexts": contexts, "seed": start_from, "pool": pool}
    decides = TaskConfig.model_validate(task.values)
    found = {role: _source(data, role, folder, decides) for role, data in sources.items() if data is not None}
    values: dict[str, Any] = {name: section.values for name, section in sections.items() if section is not None}
    values |= {"data": {role: value for role, (value, _) in found.items()}, "seed": seed}
    if filters:
        values["filters"] = [describe_filter(own) for own in filters]
    values["cache"] = _cache(cache)
    if named := split_tracking(tracking)[0]:
        values["tracking"] = named
    config = parse_config(values, base=Path.cwd())
    if filters:
        config = config.with_filters(tuple(own if isinstance(own, RowFilter) else None for own in filters))
    held = {role: getattr(config.data, role).holding(rows) for role, (_, rows) in found.items() if rows is not None}
    return config.model_copy(update={"data": config.data.model_copy(update=held)}) if held else config


def _cache(cache: object) -> str | None:
    """Return the file of shared answers as a config writes it."""
    if cache is not None and not isinstance(cache, str | os.PathLike):
        raise ConfigError(
            f"cache is {cache!r}, a {type(cache).__name__}.", hint="Give the path of a file, 'user' for your own, or None."
        )
    return None if cache is None else str(os.fspath(cache))


def _listed(filters: object) -> list[Any]:
    if isinstance(filters, str | dict | RowFilter) or not isinstance(filters, Iterable):
        raise ConfigError(f"filters is {filters!r}, not a list of filters.", hint="Write filters=[...].")
    return list(filters)


def _source(data: object, role: str, folder: Path, task: TaskConfig) -> tuple[dict[str, Any], Sequence[dict[str, object]] | None]:
    """Return a source as a config writes it, and its rows if they are in memory."""
    data, settings = (data.data, _with_names(data.settings)) if isinstance(data, Source) else (data, {})
    rows = rows_of(data, "start_from" if role == "seed" else role)
    if rows is None:
        place = _with_names(data) if isinstance(data, dict) else place_of(data, (*SUFFIXES, ".txt"))  # type: ignore[arg-type]
        return {**place, **settings}, None
    # A run of an earlier version kept all columns in its file, and resumes with it.
    before = folder / "data" / kept_name(role, rows)
    if before.exists():
        return {"path": str(before.absolute()), **settings}, rows
    named = settings.get("columns")
    # What is no name is refused with the config.
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        named = {}
    kept = read_columns(rows, task, named, role)
    return {"path": str((folder / "data" / kept_name(role, kept)).absolute()), **settings}, kept


def _with_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a source's settings with whole numbers among its columns as texts: a frame without a header has such names."""
    if not isinstance(named := settings.get("columns"), Mapping):
        return dict(settings)
    return {**settings, "columns": {ours: str(name) if _is_whole(name) else name for ours, name in named.items()}}


def _is_whole(name: object) -> bool:
    # Integral covers numpy's integers, which a frame's columns may be.
    return isinstance(name, Integral) and not isinstance(name, bool)


def check_noun(name: str, given: object) -> None:
    """Refuse an argument of another class.

    Raises:
        ConfigError: it is a class, or an object of another one.
    """
    if not isinstance(given, _NOUNS[name]):
        what = f"the class {given.__name__}" if isinstance(given, type) else f"{given!r}, a {type(given).__name__}"
        hint = f"Write {given.__name__}(...)." if isinstance(given, type) else f"Give one of stepsynth's {name} classes."
        if name == "teacher" and callable(given) and not isinstance(given, type):
            hint = "Write FunctionTeacher(...) around a function."
        raise ConfigError(f"{name} is {what}.", hint=hint)
