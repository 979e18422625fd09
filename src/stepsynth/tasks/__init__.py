"""Task families: everything that differs between classification, pairs, questions and a user's own tasks.

    family = create_family(config.task)
    family.evaluate(gold, predictions)

A family is one class, see `stepsynth.tasks.TaskFamily`. Other rooms ask it and never branch on its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.registry import FAMILIES
from stepsynth.tasks.classification import Classification, MultiLabel
from stepsynth.tasks.extractive_qa import ExtractiveQA
from stepsynth.tasks.family import AnswerKind, SplitRule, TaskFamily
from stepsynth.tasks.labels import even_targets, join_labels, label_phrase, label_words, split_labels
from stepsynth.tasks.pair import Pair
from stepsynth.tasks.trial import check_declared

if TYPE_CHECKING:
    from stepsynth.config import TaskConfig

__all__ = [
    "AnswerKind",
    "Classification",
    "ExtractiveQA",
    "MultiLabel",
    "Pair",
    "SplitRule",
    "TaskFamily",
    "create_family",
    "even_targets",
    "join_labels",
    "knows_family",
    "label_phrase",
    "label_words",
    "register_family",
    "split_labels",
    "stored_family",
]


def register_family(family: object) -> str:
    """Register a user's own family class, and return the name that selects it.

    Args:
        family: a class derived from `TaskFamily`; a built-in one keeps its name.

    Raises:
        ConfigError: it is not such a class, lacks a method, or has the name of a built-in one.
    """
    if not (isinstance(family, type) and issubclass(family, TaskFamily)):
        raise ConfigError(f"family is {family!r}.", hint="Derive its class from stepsynth.TaskFamily, and give the class.")
    if missing := sorted(getattr(family, "__abstractmethods__", ())):
        raise ConfigError(f"the task family {family.__name__!r} lacks {', '.join(missing)}().", hint="Implement it in the class.")
    if own := next((name for name in FAMILIES.built_in if FAMILIES.load(name) is family), None):
        return own
    name = family.name or family.__name__
    FAMILIES.add(name, family)
    return name


def create_family(task: TaskConfig) -> TaskFamily:
    """Return the family of a task.

    Raises:
        ConfigError: the family is unknown here, or its constructor fails.
    """
    made = FAMILIES.load(task.family)
    if task.family in FAMILIES.built_in:
        return made(task)  # type: ignore[no-any-return]
    if not (isinstance(made, type) and issubclass(made, TaskFamily)):
        raise ConfigError(f"the task family {task.family!r} is {made!r}.", hint="Derive its class from stepsynth.TaskFamily.")
    family: TaskFamily = FAMILIES.guarded(task.family, lambda: made(task))
    for what, known in (("answer_kind", get_args(AnswerKind)), ("split_rule", get_args(SplitRule))):
        if (found := getattr(family, what)) not in known:
            raise ConfigError(
                f"the {what} of the task family {task.family!r} is {found!r}.", hint=did_you_mean(str(found), known)
            )
    check_declared(family)
    return family


def knows_family(task: TaskConfig) -> bool:
    """Whether the class of a task's family is available: built in, from this program, or from an installed package."""
    return task.family in FAMILIES


def stored_family(task: TaskConfig) -> TaskFamily:
    """Return the family of a finished run; without its class, a stand-in from the run's config.

    That is enough to show rows and scores; writing or scoring rows needs `create_family`.
    """
    if knows_family(task):
        return create_family(task)
    from stepsynth.tasks.stored import StoredFamily

    return StoredFamily(task)
