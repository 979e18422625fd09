"""The nouns of the library: a config's sections as Python classes.

    task = Classification("tickets", "Decide which team a ticket belongs to.", {"billing": "invoices", "technical": "faults"})
    method, teacher = S3(rounds=2, seed_rows=300), OpenAITeacher("gpt-4.1-mini", api_key_env="OPENAI_API_KEY")

Each takes the keys of its section as keyword arguments, checks them at once, and refuses those it does not use.
"""

from __future__ import annotations

import inspect
import os
import re
from typing import TYPE_CHECKING, Any, ClassVar

from stepsynth.api.labels import natural_labels
from stepsynth.config import BudgetConfig, SourceConfig, StudentConfig, TaskConfig, TeacherConfig
from stepsynth.config.keywords import signature_of
from stepsynth.config.nouns import Noun, plain_value
from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.methods import Method
from stepsynth.methods.annotate import Annotate
from stepsynth.methods.baselines import Gold, GoldGen, TeacherAlone, ZeroGen
from stepsynth.methods.crossfit import CrossFit
from stepsynth.methods.pool import SelfTraining
from stepsynth.methods.s3 import S3, S3WithGold, SeedOnly
from stepsynth.registry import TEACHERS
from stepsynth.tasks import register_family
from stepsynth.teachers.function import FunctionAnswers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Unpack

    from stepsynth.config.keywords import (
        AnyTask,
        AnyTeacher,
        BudgetKeys,
        FunctionKeys,
        SourceKeys,
        StudentKeys,
        TaskKeys,
        TeacherKeys,
        TeacherWithAddress,
    )
    from stepsynth.tasks import TaskFamily
__all__ = [
    "S3",
    "Annotate",
    "AnthropicTeacher",
    "Budget",
    "Classification",
    "CrossFit",
    "EmbeddedTeacher",
    "ExtractiveQA",
    "FunctionTeacher",
    "Gold",
    "GoldGen",
    "Method",
    "MultiLabel",
    "OpenAITeacher",
    "Pair",
    "S3WithGold",
    "SeedOnly",
    "SelfTraining",
    "Source",
    "Student",
    "Task",
    "Teacher",
    "TeacherAlone",
    "ZeroGen",
    "plain_value",
]


# tasks ----------------------------------------------------------------------------------


class Task(Noun):
    """What the student has to decide, for any family; `Classification` and the others are shorter.

    Args:
        name: short name, used in file names and titles.
        instruction: one sentence that tells a person what to decide.
        family: your own class, derived from `TaskFamily` or from a family of `stepsynth.tasks`; or the name of a built-in
            family or of one that a package registered.
        settings: other keys of ``task``: ``labels``, ``text_kind``, ``options``, ...

    Raises:
        ConfigError: what is wrong, in one line.

    Examples:
        >>> Task("tickets", "Decide who answers.", family="classification", labels=["billing", "technical"]).values["family"]
        'classification'
    """

    section = TaskConfig
    settled = frozenset({"identity"})

    def __init__(
        self, name: str, instruction: str, *, family: type[TaskFamily] | str | None = None, **settings: Unpack[AnyTask]
    ) -> None:
        given: dict[str, Any] = {**settings}
        if family is not None:
            given["family"] = family if isinstance(family, str) else register_family(family)
        if "labels" in given:
            given["labels"] = natural_labels(given["labels"])
        super().__init__(name=name, instruction=instruction, **given)


class Classification(Task):
    """One label for each text.

    Args:
        name: short name, used in file names and titles.
        instruction: one sentence that tells a person what to decide.
        labels: label -> meaning; or labels that explain themselves: a list, a set (sorted), an `Enum` of texts, an array.
        settings: other keys of ``task``: ``text_kind``, ``prompts``, ...

    Raises:
        ConfigError: what is wrong, in one line.

    Examples:
        >>> task = Classification("tickets", "Decide who answers.", {"billing": "invoices", "technical": "faults"})
        >>> task.values["family"]
        'classification'
    """

    fixed: ClassVar = {"family": "classification"}

    def __init__(
        self, name: str, instruction: str, labels: Mapping[str, str] | Iterable[str], **settings: Unpack[TaskKeys]
    ) -> None:
        super().__init__(name=name, instruction=instruction, labels=labels, **settings)


class MultiLabel(Task):
    """Any number of labels for each text; arguments as for `Classification`.

    Examples:
        >>> MultiLabel("topics", "Say what a post is about.", ["sport", "politics"]).values["family"]
        'multi_label'
    """

    fixed: ClassVar = {"family": "multi_label"}

    def __init__(
        self, name: str, instruction: str, labels: Mapping[str, str] | Iterable[str], **settings: Unpack[TaskKeys]
    ) -> None:
        super().__init__(name=name, instruction=instruction, labels=labels, **settings)


class Pair(Task):
    """One label for two texts, one of which is kept and the other written.

    Args:
        name: short name.
        instruction: one sentence that tells a person what to decide.
        labels: label -> meaning.
        context: the name of the text that is kept, for instance ``premise``; column ``text1``.
        target: the name of the text that is written, for instance ``hypothesis``; column ``text2``.
        settings: other keys of ``task``.

    Raises:
        ConfigError: what is wrong, in one line.

    Examples:
        >>> Pair("rte", "Does the hypothesis follow?", ["yes", "no"], context="premise", target="hypothesis").values["family"]
        'pair'
    """

    fixed: ClassVar = {"family": "pair"}

    def __init__(
        self,
        name: str,
        instruction: str,
        labels: Mapping[str, str] | Iterable[str],
        *,
        context: str = "first text",
        target: str = "second text",
        **settings: Unpack[TaskKeys],
    ) -> None:
        settings.setdefault("fields", {"text1": {"name": context, "context": True}, "text2": {"name": target}})
        super().__init__(name=name, instruction=instruction, labels=labels, **settings)


class ExtractiveQA(Task):
    """A question about a passage; the answer is a span of it.

    Examples:
        >>> ExtractiveQA("handbook", "Answer with words of the passage.").values["family"]
        'extractive_qa'
    """

    fixed: ClassVar = {"family": "extractive_qa"}

    def __init__(self, name: str, instruction: str, **settings: Unpack[TaskKeys]) -> None:
        super().__init__(name=name, instruction=instruction, **settings)


# data -----------------------------------------------------------------------------------


_OF_SOURCES = set(SourceConfig.model_fields) - {"path", "hub"}


class Source:
    """Rows and how to read them; only needed for settings beyond the data itself.

    Args:
        data: a path, a hub id, a DataFrame, a list of dicts, ...; see `stepsynth.synthesize`.
        settings: keys of a source in a config: ``columns``, ``labels``, ``sample``, ``seed``, ``split``, ``encoding``, ...

    Raises:
        ConfigError: a key is unknown.

    Examples:
        >>> Source("tickets.csv", columns={"text": "body"}, sample=60).settings
        {'columns': {'text': 'body'}, 'sample': 60}
    """

    def __init__(self, data: object, **settings: Unpack[SourceKeys]) -> None:
        if unknown := next((key for key in settings if key not in _OF_SOURCES), None):
            raise ConfigError(f"Source has no argument {unknown!r}.", hint=did_you_mean(unknown, sorted(_OF_SOURCES)))
        self.data, self.settings = data, dict(settings)

    def __repr__(self) -> str:
        shown = repr(self.data) if isinstance(self.data, str | os.PathLike) else type(self.data).__name__
        return f"Source({shown}{''.join(f', {key}={value!r}' for key, value in self.settings.items())})"


Source.__signature__ = signature_of(Source.__init__, _OF_SOURCES, SourceConfig)  # type: ignore[attr-defined]


# teachers -------------------------------------------------------------------------------


class Teacher(Noun):
    """Any teacher: ``backend`` and its keys; `OpenAITeacher` and the others are shorter.

    Examples:
        >>> Teacher(backend="transformers", model="owner/name").values
        {'backend': 'transformers', 'model': 'owner/name'}
    """

    section = TeacherConfig

    def __init__(self, **settings: Unpack[AnyTeacher]) -> None:
        super().__init__(**settings)


class EmbeddedTeacher(Teacher):
    """A model in this process, without a key or server; by default the best one that the machine has room for.

    Args:
        model: ``auto``, the name of an embedded model, or a GGUF file (a local path, or ``owner/name:file.gguf`` on the hub).
        settings: other keys of ``teacher``.

    Examples:
        >>> EmbeddedTeacher("smollm2-135m").values
        {'backend': 'openvino', 'model': 'smollm2-135m'}
    """

    fixed: ClassVar = {"backend": "openvino"}

    def __init__(self, model: str = "auto", **settings: Unpack[TeacherKeys]) -> None:
        super().__init__(model=model, **settings)


class OpenAITeacher(Teacher):
    """A server with OpenAI's chat completions: OpenAI itself, vLLM, llama.cpp, Ollama, most providers.

    Args:
        model: the server's name for the model.
        api_key_env: name of the environment variable with the key, never the key itself; ``None`` for a server without keys.
        base_url: the server's root; or a list of them, of several servers of the model.
        settings: other keys of ``teacher``: ``sampling``, ``concurrency``, ``mode``, ``price``, ...

    Examples:
        >>> OpenAITeacher("qwen", base_url="http://127.0.0.1:8000/v1").values["base_url"]
        'http://127.0.0.1:8000/v1'
    """

    fixed: ClassVar = {"backend": "openai"}

    def __init__(
        self,
        model: str,
        *,
        api_key_env: str | None = None,
        base_url: str | Sequence[str] = "https://api.openai.com/v1",
        **settings: Unpack[TeacherKeys],
    ) -> None:
        given: dict[str, Any] = {"model": model, "base_url": base_url, **settings}
        if api_key_env:
            given["api_key_env"] = api_key_env
        super().__init__(**given)


class FunctionTeacher(Teacher):
    """Your own function as the teacher: it gets a chat and returns the answer's text.

    The same function must be given again to resume a run. Answers are kept under `name` and `version`: change one of them
    when the function changes, or old answers are used again.

    Args:
        function: ``function(messages)`` with a list of ``{"role": ..., "content": ...}``, ordinary or ``async``. It gets
            ``temperature``, ``top_p``, ``max_tokens`` and ``label`` (the one asked for) by keyword, as far as it names them.
            Let it return a `stepsynth.types.Response` to report tokens or cost.
        name: what results and pages call it; by default the function's name.
        version: anything that tells this version of the function from others.
        settings: other keys of ``teacher``. ``concurrency`` is 1 by default for an ordinary function: raise it if several
            threads may call the function at once.

    Raises:
        ConfigError: it cannot be called, or the name is built in or not allowed.

    Examples:
        >>> FunctionTeacher(lambda messages: "A parcel never came.", name="parrot")
        FunctionTeacher('parrot')
    """

    settled = frozenset(
        {"api_key_env", "api_version", "backend", "base_url", "cluster", "headers", "logprobs", "mode", "model", "options"}
    ) | {"reasoning_tokens", "replicas", "resources", "rows_per_request"}

    def __init__(
        self, function: Callable[..., Any], *, name: str | None = None, version: object = None, **settings: Unpack[FunctionKeys]
    ) -> None:
        if not callable(function) or isinstance(function, type):
            raise ConfigError(f"FunctionTeacher got {function!r}, not a function.", hint="Write FunctionTeacher(answer).")
        called = str(name or getattr(function, "__name__", type(function).__name__))
        if not re.fullmatch(r"[\w.+-]{1,80}", called):
            raise ConfigError(f"{called!r} cannot be the name of a teacher.", hint="Give it one: name='mine'.")
        self._answers = FunctionAnswers(function, called)
        self.register()
        options = {"options": {"version": plain_value(version)}} if version is not None else {}
        object.__setattr__(self, "fixed", {"backend": called, "model": called, **options})
        if not inspect.iscoroutinefunction(function):
            settings.setdefault("concurrency", 1)
        super().__init__(**settings)

    def register(self) -> None:
        """Register the function under its name, for the rest of the process.

        Raises:
            ConfigError: the name is built in.
        """
        TEACHERS.add(self._answers.name, self._answers)

    def __repr__(self) -> str:
        return f"FunctionTeacher({self._answers.name!r})"


class AnthropicTeacher(Teacher):
    """Anthropic's messages; arguments as for `OpenAITeacher`.

    Examples:
        >>> AnthropicTeacher("claude-haiku-4-5", api_key_env="ANTHROPIC_API_KEY").values["backend"]
        'anthropic'
    """

    fixed: ClassVar = {"backend": "anthropic"}

    def __init__(self, model: str, *, api_key_env: str | None = None, **settings: Unpack[TeacherWithAddress]) -> None:
        given: dict[str, Any] = {"model": model, **settings}
        if api_key_env:
            given["api_key_env"] = api_key_env
        super().__init__(**given)


# student and budget -----------------------------------------------------------------------


class Student(Noun):
    """The small model and how it is trained; see the keys of ``student``.

    Examples:
        >>> Student("minilm-l6", min_steps=200).values
        {'model': 'minilm-l6', 'min_steps': 200}
    """

    section = StudentConfig

    def __init__(self, model: str = "minilm-l6", **settings: Unpack[StudentKeys]) -> None:
        super().__init__(model=model, **settings)


class Budget(Noun):
    """Hard caps, never passed: ``requests``, ``tokens``, ``usd``.

    Examples:
        >>> Budget(usd=5).values
        {'usd': 5}
    """

    section = BudgetConfig

    def __init__(self, **settings: Unpack[BudgetKeys]) -> None:
        super().__init__(**settings)
