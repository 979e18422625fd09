"""Settles a config's open values once, when a run begins, and stores them: a resumed run never changes them.

    config = settle(config, None, report=print, fetch=True)

These are the embedded teacher (``teacher.model: auto``), the templates that fit the teacher (``task.prompt_style: auto``)
and their sampling unless it is configured, the source of seed rows (``method.seed_from: auto``), the number of reasons in a
seed prompt unless it is configured (``method.rationales_per_row``), the choice of gold rows shown in prompts
(``method.demonstrations: auto``), whether the teacher is told why its answers are dropped (``method.feedback: auto``), how alike
texts of the pool may be (``method.pool_near_duplicates: auto``), and the options of a user's method or student that the config
does not name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stepsynth.config import POOL_SIMILARITY
from stepsynth.config.teacher import AUTO, SamplingConfig
from stepsynth.errors import AssetError, ConfigError
from stepsynth.methods import create_method
from stepsynth.model_cache import choose_teacher, list_assets, model_parameters, resolve
from stepsynth.prompts import Prompts
from stepsynth.students.own import student_options
from stepsynth.tasks import create_family

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from stepsynth.config import RunConfig, TaskConfig, TeacherConfig
    from stepsynth.methods import Method

__all__ = ["BEST_TEACHER", "settle", "settle_teacher", "style_for"]

BEST_TEACHER = "qwen2.5-coder-1.5b"
# Chosen by reading the embedded models' answers to both sets of templates; see docs/decisions.md.
_CAPABLE = 0.9e9
# The low temperature that keeps small models on their label makes larger ones repeat the same few sentences.
_CAPABLE_SAMPLING = {"temperature": 0.85, "top_p": 0.95}


def settle(
    config: RunConfig, begun: RunConfig | None, report: Callable[[str], None] | None = None, *, fetch: bool = False
) -> RunConfig:
    """Return the config with nothing left open.

    Args:
        config: the user's.
        begun: the config that the run began with, ``None`` for a new run.
        report: called with a sentence for every download and for the choice of a smaller model.
        fetch: download the model chosen here, or a smaller one if that fails.

    Raises:
        AssetError: no embedded teacher can be fetched.
        ConfigError: several rows per answer with templates that ask for one, or an unknown method.
    """
    made = create_method(config)
    known = begun.teacher if begun is not None and begun.teacher.backend == config.teacher.backend else None
    teacher = settle_teacher(config.teacher, known, report, fetch=fetch)
    style = config.task.prompt_style
    if style == "auto":
        style = begun.task.prompt_style if begun is not None else style_for(teacher)
    task = config.task.model_copy(update={"prompt_style": style, "identity": _identity(config.task)})
    if style == "capable":
        teacher = teacher.model_copy(update={"sampling": _varied(teacher.sampling, begun)})
    method = config.method.model_copy(
        update={
            "seed_from": _seed_from(config, begun, made, Prompts(task)),
            "demonstrations": _demonstrations(config, begun, style),
            "rationales_per_row": _rationales_per_row(config, begun, style),
            "feedback": _feedback(config, begun),
            "pool_near_duplicates": _pool_near_duplicates(config, begun),
            "options": made.options,
        }
    )
    if method.rows_per_answer > 1 and not Prompts(task).counts(method.seed_template):
        raise ConfigError(
            f"method.rows_per_answer={config.method.rows_per_answer}: the templates ask for one row per answer.",
            hint="Set task.prompt_style: capable, use templates of your own that say {{ count }}, or remove rows_per_answer.",
        )
    student = config.student.model_copy(update={"options": student_options(config)})
    return config.model_copy(update={"task": task, "teacher": teacher, "method": method, "student": student})


def _identity(task: TaskConfig) -> dict[str, Any]:
    """Return the family's own identity, which must not change during a run and is nowhere else in the config.

    Raises:
        ConfigError: it is not JSON.
    """
    family = create_family(task)
    try:
        return dict(json.loads(json.dumps(dict(family.identity()))))
    except Exception as error:
        raise ConfigError(
            f"the identity of the task family {task.family!r} is not JSON: {error}.",
            hint="Return only numbers, strings, lists and dicts from identity().",
        ) from None


def _seed_from(
    config: RunConfig, begun: RunConfig | None, method: Method, prompts: Prompts
) -> Literal["auto", "reasons", "instruction", "gold", "examples"]:
    """Choose the source of seed rows: reasons if the user wrote a seed prompt, so that it is used.

    About a context, too, rows are written like gold rows if our templates can show these.

    Raises:
        ConfigError: gold rows are to be shown beside a context, but rows have none, or the template shows none.
    """
    family = create_family(config.task)
    shows = family.has_context and not family.spans and prompts.shows("seed")
    if config.method.seed_from == "examples" and not shows:
        raise ConfigError(
            "method.seed_from is 'examples', which is for pairs, with templates for capable teachers or a seed template of "
            "your own that shows {{ examples }}.",
            hint="Use seed_from: gold, or for pairs task.prompt_style: capable.",
        )
    if config.method.seed_from != "auto":
        return config.method.seed_from
    if begun is not None:
        return begun.method.seed_from
    if "seed" in config.task.prompts or method.seeds_from != "gold":
        return "reasons" if "seed" in config.task.prompts else method.seeds_from
    return "examples" if shows else "reasons" if family.has_context else "gold"


def _demonstrations(config: RunConfig, begun: RunConfig | None, style: str) -> Literal["auto", "fixed", "drawn"]:
    """Show a capable teacher the same rows, which an engine reads once.

    With several rows per answer a label has few requests, so that its other rows would hardly be shown.
    """
    if config.method.demonstrations != "auto":
        return config.method.demonstrations
    if begun is not None:
        return begun.method.demonstrations
    return "fixed" if style == "capable" and config.method.rows_per_answer == 1 else "drawn"


def _rationales_per_row(config: RunConfig, begun: RunConfig | None, style: str) -> int:
    """Show a capable teacher one reason at a time: of several it makes a list, not a text.

    A context needs several, of which one fits; so does a prompt that asks for several rows.
    """
    method = config.method
    if "rationales_per_row" in method.model_fields_set:
        return method.rationales_per_row
    if begun is not None:
        return begun.method.rationales_per_row
    ours = style == "capable" and "seed" not in config.task.prompts and not create_family(config.task).has_context
    return 1 if ours and method.rows_per_answer == 1 else method.rationales_per_row


def _feedback(config: RunConfig, begun: RunConfig | None) -> Literal["auto", "drops", "none"]:
    if config.method.feedback != "auto":
        return config.method.feedback
    return "drops" if begun is None else begun.method.feedback


def _pool_near_duplicates(config: RunConfig, begun: RunConfig | None) -> float | Literal["auto", "none"]:
    """Choose the similarity for the pool; a run without one keeps no value for it."""
    if config.method.pool_near_duplicates != "auto":
        return config.method.pool_near_duplicates
    if begun is not None and begun.data.pool is not None:
        return begun.method.pool_near_duplicates
    return POOL_SIMILARITY if config.data.pool is not None else "none"


def _varied(sampling: SamplingConfig, begun: RunConfig | None) -> SamplingConfig:
    """Raise the variety of sampling where the user set nothing; such values still count as not set.

    A resumed run keeps its own values, even if a later version has others.
    """
    values = _CAPABLE_SAMPLING if begun is None else {key: getattr(begun.teacher.sampling, key) for key in _CAPABLE_SAMPLING}
    free = {key: value for key, value in values.items() if key not in sampling.model_fields_set}
    return SamplingConfig.model_construct(sampling.model_fields_set, **{**dict(sampling), **free})


def settle_teacher(
    teacher: TeacherConfig,
    begun: TeacherConfig | None = None,
    report: Callable[[str], None] | None = None,
    *,
    fetch: bool = False,
) -> TeacherConfig:
    """Return the teacher with its model named; see `settle`.

    Raises:
        AssetError: no embedded teacher can be fetched.
    """
    if teacher.model != AUTO:
        return teacher
    if begun is not None:
        return teacher.model_copy(update={"model": begun.model})
    say = report or (lambda _: None)
    name, reason = choose_teacher(BEST_TEACHER)
    if reason:
        say(reason)
    return teacher.model_copy(update={"model": _fetched(name, say) if fetch else name})


def _fetched(name: str, say: Callable[[str], None]) -> str:
    """Download a model, or the next smaller one that can be downloaded; return its name."""
    teachers = sorted((a for a in list_assets() if a.kind == "teacher"), key=lambda a: -a.size)
    names = [asset.name for asset in teachers]
    for place, found in enumerate(names[names.index(name) :], start=names.index(name) + 1):
        try:
            resolve(found, kind="teacher", report=say)
        except AssetError as error:
            if place == len(names):
                raise
            say(f"Using {names[place]} instead of {found}: {error.message}")
        else:
            return found
    raise AssertionError(name)


def style_for(teacher: TeacherConfig) -> Literal["small", "capable"]:
    """Choose the templates for a teacher by its size; a model of unknown size counts as large."""
    if teacher.backend == "fake":
        return "small"
    size = model_parameters(teacher.model)
    return "capable" if size is None or size >= _CAPABLE else "small"
