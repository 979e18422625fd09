"""Task families, methods, teachers, students, filters and trackers by name: built in, given by the program, or from a package.

    METHODS.load("s3")(rounds=2)
    METHODS.names()

A name is looked up among the built-in ones first, then among those the program added (`Registry.add`), then among
the entry points of installed packages. Nothing is imported before it is asked for.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from inspect import isabstract
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from stepsynth.errors import ConfigError, StepsynthError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["FAMILIES", "FILTERS", "METHODS", "STUDENTS", "TEACHERS", "TRACKERS", "Registry"]

T = TypeVar("T")


class Registry:
    """Everything of one kind, by name.

    Args:
        kind: the word for one in messages, for instance ``method``.
        group: the entry-point group under which packages register theirs.
        built_in: name -> ``module:attribute``.

    Examples:
        >>> shapes = Registry("shape", "example.shapes", {"circle": "fractions:Fraction"})
        >>> shapes.load("circle")
        <class 'fractions.Fraction'>
        >>> shapes.names()
        ['circle']
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, str]) -> None:
        self.kind, self.group = kind, group
        self.built_in: dict[str, str] = dict(built_in)
        self._given: dict[str, Any] = {}
        self._defined: WeakValueDictionary[str, type] = WeakValueDictionary()
        self._held: Counter[str] = Counter()
        self._counting = Lock()

    def names(self) -> list[str]:
        """Return every available name: built-in ones in their order, then the others sorted."""
        others = {*self._given, *entry_points(group=self.group).names} - set(self.built_in)
        return [*self.built_in, *sorted(others)]

    def __contains__(self, name: object) -> bool:
        """Whether something is available under a name; installed packages are looked through only if they have to be."""
        return name in self.built_in or name in self._given or name in entry_points(group=self.group).names

    def add(self, name: str, thing: Any) -> None:
        """Register a program's own class for the rest of the process; the last one given counts.

        Raises:
            ConfigError: the name is built in, or a run in progress uses another class of this name.
        """
        if name in self.built_in:
            raise ConfigError(
                f"the {self.kind} {name!r} of this program has the name of a built-in one.", hint="Give it another name."
            )
        if self._held[name] and self.load(name) is not thing:
            raise ConfigError(
                f"a run in progress uses another {self.kind} {name!r}.",
                hint="Give this one another name, or wait until that run has ended.",
            )
        self._given[name] = thing

    def define(self, name: str, own: type) -> None:
        """Note a class when it is defined, so that a notebook can read its runs again; the last one of a name counts.

        Only `load` knows of it, after everything else.
        """
        self._defined[name] = own

    def is_installed(self, name: str) -> bool:
        """Whether another process finds the same under a name: it is built in, or from an installed package."""
        return name in self.built_in or (name not in self._given and name in entry_points(group=self.group).names)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Keep a name's current meaning until the end of the block."""
        with self._counting:
            self._held[name] += 1
        try:
            yield
        finally:
            with self._counting:
                self._held[name] -= 1

    def load(self, name: str) -> Any:
        """Return the object registered under a name; a plug-in's module is imported here.

        Raises:
            ConfigError: nothing has this name, or the plug-in cannot be imported.
        """
        if where := self.built_in.get(name):
            module, _, attribute = where.partition(":")
            return getattr(import_module(module), attribute)
        if name in self._given:
            return self._given[name]
        point = next((point for point in entry_points(group=self.group) if point.name == name), None)
        if point is None:
            if (own := self._defined.get(name)) is not None and not isabstract(own):
                return own
            guess = did_you_mean(name, self.names())
            raise ConfigError(
                f"{self.kind} {name!r} is not known. {guess}".strip(),
                hint=f"Define its class in this program first, or register it in the group {self.group!r}.",
            )
        return self.guarded(name, point.load)

    def guarded(self, name: str, work: Callable[[], T]) -> T:
        """Run a plug-in's code.

        Raises:
            ConfigError: it raised something that is not one of our errors.
        """
        try:
            return work()
        except StepsynthError:
            raise
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        what = f"the {self.kind} plug-in {name!r} failed: {said}."
        raise ConfigError(what, hint="Correct it." if name in self._given else "Ask its author, or uninstall it.")


TEACHERS = Registry(
    "teacher",
    "stepsynth.teachers",
    {
        "openvino": "stepsynth.teachers.local_openvino:OpenVinoTeacher",
        "openai": "stepsynth.teachers.openai:OpenAITeacher",
        "anthropic": "stepsynth.teachers.anthropic:AnthropicTeacher",
        "transformers": "stepsynth.teachers.local_transformers:TransformersTeacher",
        "vllm": "stepsynth.teachers.local_vllm:VllmTeacher",
        "litellm": "stepsynth.teachers.litellm:LiteLlmTeacher",
        "fake": "stepsynth.teachers.fake:from_config",
    },
)
METHODS = Registry(
    "method",
    "stepsynth.methods",
    {
        "s3": "stepsynth.methods.s3:S3",
        "seed-only": "stepsynth.methods.s3:SeedOnly",
        "zerogen": "stepsynth.methods.baselines:ZeroGen",
        "goldgen": "stepsynth.methods.baselines:GoldGen",
        "gold": "stepsynth.methods.baselines:Gold",
        "s3+gold": "stepsynth.methods.s3:S3WithGold",
        "crossfit": "stepsynth.methods.crossfit:CrossFit",
        "teacher": "stepsynth.methods.baselines:TeacherAlone",
        "pool": "stepsynth.methods.pool:SelfTraining",
        "annotate": "stepsynth.methods.annotate:Annotate",
    },
)
FAMILIES = Registry(
    "task family",
    "stepsynth.families",
    {
        "classification": "stepsynth.tasks.classification:Classification",
        "multi_label": "stepsynth.tasks.classification:MultiLabel",
        "pair": "stepsynth.tasks.pair:Pair",
        "extractive_qa": "stepsynth.tasks.extractive_qa:ExtractiveQA",
    },
)
STUDENTS = Registry(
    "student",
    "stepsynth.students",
    {
        "classifier": "stepsynth.students.classifier:Classifier",
        "extractive_qa": "stepsynth.students.extractive_qa:ExtractiveQA",
    },
)
FILTERS = Registry("filter", "stepsynth.filters", {})
TRACKERS = Registry(
    "tracker",
    "stepsynth.trackers",
    {
        "mlflow": "stepsynth.tracking.mlflow:MlflowTracker",
        "wandb": "stepsynth.tracking.wandb:WandbTracker",
        "tensorboard": "stepsynth.tracking.tensorboard:TensorBoardTracker",
        "trackio": "stepsynth.tracking.trackio:TrackioTracker",
    },
)
