"""The nouns of the library: what a config's sections are in Python.

    task = Classification("tickets", "Decide which team a ticket belongs to.", {"billing": "invoices", "technical": "faults"})
    method, teacher = S3(rounds=2, seed_rows=300), OpenAITeacher("gpt-4.1-mini", api_key_env="OPENAI_API_KEY")

Each takes the keys of its section in a YAML config as keyword arguments, checks them at once, and refuses what it has no use for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from stepsynth.api.labels import natural_labels
from stepsynth.config import BudgetConfig, MethodConfig, SourceConfig, StudentConfig, TaskConfig, TeacherConfig
from stepsynth.config.loading import first_problem
from stepsynth.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import BaseModel

__all__ = [
    "S3",
    "AnthropicTeacher",
    "Budget",
    "Classification",
    "CrossFit",
    "EmbeddedTeacher",
    "ExtractiveQA",
    "Gold",
    "GoldGen",
    "MultiLabel",
    "OpenAITeacher",
    "Pair",
    "S3WithGold",
    "SeedOnly",
    "Source",
    "Student",
    "Teacher",
    "TeacherAlone",
    "ZeroGen",
    "plain_value",
]


class _Noun:
    """A section of a config with some of its keys fixed.

    Attributes:
        section: the section's class.
        fixed: the keys that say which noun this is.
        keys: the keys that may be given; all but the fixed ones where there are none.
    """

    section: ClassVar[type[BaseModel]]
    fixed: ClassVar[Mapping[str, object]] = {}
    keys: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, **settings: Any) -> None:
        name, known = type(self).__name__, self.keys or set(self.section.model_fields) - set(self.fixed)
        if unknown := next((key for key in settings if key not in known), None):
            raise ConfigError(f"{name} has no argument {unknown!r}.", hint=did_you_mean(unknown, sorted(known)))
        given = {key: plain_value(value) for key, value in settings.items()}
        try:
            self.section.model_validate({**self.fixed, **given})
        except ValidationError as error:
            raise ConfigError(f"{name}: {first_problem(error)}") from None
        self._given = given

    @property
    def values(self) -> dict[str, Any]:
        """The section as a YAML config has it: what was given, and which kind it is."""
        return {**self.fixed, **self._given}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, _Noun) and self.values == other.values

    def __hash__(self) -> int:
        return hash((type(self), repr(self.values)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self._given.items())})"


def plain_value(value: Any) -> Any:
    """Return a value as a config has it: a noun's keys, a path as text, numpy's numbers as Python's, a copy of a list."""
    if isinstance(value, _Noun):
        return value.values
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {key: plain_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(inner) for inner in value]
    return value.item() if hasattr(value, "item") and callable(value.item) else value


# tasks ----------------------------------------------------------------------------------


class Task(_Noun):
    """What the student has to decide; see the keys of ``task``."""

    section = TaskConfig

    def __init__(self, **settings: Any) -> None:
        if "labels" in settings:
            settings["labels"] = natural_labels(settings["labels"])
        super().__init__(**settings)


class Classification(Task):
    """One label for each text.

    Args:
        name: short name, used in file names and titles.
        instruction: one sentence that tells a person what to decide.
        labels: label -> what it means; or labels that say it themselves: a list, a set (sorted), an `Enum` of texts, an array.
        settings: other keys of ``task``: ``text_kind``, ``prompts``, ...

    Raises:
        ConfigError: what is wrong, in one line.

    Example:
        >>> task = Classification("tickets", "Decide who answers.", {"billing": "invoices", "technical": "faults"})
        >>> task.values["family"]
        'classification'
    """

    fixed: ClassVar = {"family": "classification"}

    def __init__(self, name: str, instruction: str, labels: Mapping[str, str] | Iterable[str], **settings: Any) -> None:
        super().__init__(name=name, instruction=instruction, labels=labels, **settings)


class MultiLabel(Task):
    """Any number of labels for each text; arguments as for `Classification`.

    Example:
        >>> MultiLabel("topics", "Say what a post is about.", ["sport", "politics"]).values["family"]
        'multi_label'
    """

    fixed: ClassVar = {"family": "multi_label"}

    def __init__(self, name: str, instruction: str, labels: Mapping[str, str] | Iterable[str], **settings: Any) -> None:
        super().__init__(name=name, instruction=instruction, labels=labels, **settings)


class Pair(Task):
    """One label for two texts, of which one is kept and the other written.

    Args:
        name: short name.
        instruction: one sentence that tells a person what to decide.
        labels: label -> what it means.
        context: what the text that is kept is called, for instance ``premise``; column ``text1``.
        target: what the text that is written is called, for instance ``hypothesis``; column ``text2``.
        settings: other keys of ``task``.

    Raises:
        ConfigError: what is wrong, in one line.

    Example:
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
        **settings: Any,
    ) -> None:
        fields = {"text1": {"name": context, "context": True}, "text2": {"name": target}}
        super().__init__(name=name, instruction=instruction, labels=labels, **{"fields": fields, **settings})


class ExtractiveQA(Task):
    """A question about a passage, whose answer is a piece of it.

    Example:
        >>> ExtractiveQA("handbook", "Answer with words of the passage.").values["family"]
        'extractive_qa'
    """

    fixed: ClassVar = {"family": "extractive_qa"}

    def __init__(self, name: str, instruction: str, **settings: Any) -> None:
        super().__init__(name=name, instruction=instruction, **settings)


# data -----------------------------------------------------------------------------------


class Source:
    """Rows, and how they are read: only needed where there is something to say of them.

    Args:
        data: a path, a hub id, a DataFrame, a list of dicts, ...; see `stepsynth.synthesize`.
        settings: keys of a source in a config: ``columns``, ``labels``, ``sample``, ``seed``, ``split``, ``encoding``, ...

    Raises:
        ConfigError: no such key.

    Example:
        >>> Source("tickets.csv", columns={"text": "body"}, sample=60).settings
        {'columns': {'text': 'body'}, 'sample': 60}
    """

    def __init__(self, data: object, **settings: Any) -> None:
        known = set(SourceConfig.model_fields) - {"path", "hub"}
        if unknown := next((key for key in settings if key not in known), None):
            raise ConfigError(f"Source has no argument {unknown!r}.", hint=did_you_mean(unknown, sorted(known)))
        self.data, self.settings = data, settings

    def __repr__(self) -> str:
        return f"Source({type(self.data).__name__}{''.join(f', {key}={value!r}' for key, value in self.settings.items())})"


# methods --------------------------------------------------------------------------------

_ROWS = {"seed_rows", "rows_per_answer", "max_overgeneration", "feedback"}
_REASONS = {"rationales", "rationales_per_row", "seed_from", "demonstrations"}
_CHECK = {"label_check", "label_check_ratio"}
_LOOP = {"rounds", "rows_per_mistake", "balance", "stop"}


class Method(_Noun):
    """How data is made; see the keys of ``method``."""

    section = MethodConfig

    @property
    def name(self) -> str:
        """What it is called in a config, in results and on pages."""
        return str(self.fixed["name"])


class CrossFit(Method):
    """The default: the loop with every labelled row in it, and a last student from written and labelled rows.

    Example:
        >>> CrossFit(rounds=1, seed_rows=120).name
        'crossfit'
    """

    fixed: ClassVar = {"name": "crossfit"}
    keys = frozenset(_ROWS | _REASONS | _LOOP | {"folds", "final"})


class S3(Method):
    """The paper's loop: half of the labelled rows supply mistakes, the other half picks the best round (arXiv 2310.13671).

    Example:
        >>> S3(rounds=2, seed_rows=300).values
        {'name': 's3', 'rounds': 2, 'seed_rows': 300}
    """

    fixed: ClassVar = {"name": "s3"}
    keys = frozenset(_ROWS | _REASONS | _LOOP | _CHECK | {"mistakes_of"})


class S3WithGold(Method):
    """`S3`, and a last student on its rows and the labelled rows together.

    Example:
        >>> S3WithGold(rounds=1).name
        's3+gold'
    """

    fixed: ClassVar = {"name": "s3+gold"}
    keys = S3.keys


class SeedOnly(Method):
    """The first stage of `S3` alone: rows from reasons (the paper's ablation).

    Example:
        >>> SeedOnly(seed_rows=200).name
        'seed-only'
    """

    fixed: ClassVar = {"name": "seed-only"}
    keys = frozenset(_ROWS | _REASONS | _CHECK)


class ZeroGen(Method):
    """Plain prompts, no reasons, no feedback (Ye et al. 2022).

    Example:
        >>> ZeroGen(seed_rows=200).name
        'zerogen'
    """

    fixed: ClassVar = {"name": "zerogen"}
    keys = frozenset(_ROWS | _CHECK)


class GoldGen(Method):
    """Rows like all labelled rows of the harvest half, not only like the mistakes.

    Example:
        >>> GoldGen(seed_rows=200).name
        'goldgen'
    """

    fixed: ClassVar = {"name": "goldgen"}
    keys = frozenset(_ROWS | _CHECK | {"demonstrations"})


class Gold(Method):
    """The labelled rows themselves, nothing written: the number to beat.

    Example:
        >>> Gold().values
        {'name': 'gold'}
    """

    fixed: ClassVar = {"name": "gold"}
    # A baseline that writes nothing takes part in a budget, which counts rows.
    keys = frozenset({"seed_rows"})


class TeacherAlone(Method):
    """The large model answers itself, without a student.

    Example:
        >>> TeacherAlone(few_shot=2).name
        'teacher'
    """

    fixed: ClassVar = {"name": "teacher"}
    keys = frozenset({"few_shot"})


# teachers -------------------------------------------------------------------------------


class Teacher(_Noun):
    """Any teacher: ``backend`` and the keys that go with it; `OpenAITeacher` and the others are shorter.

    Example:
        >>> Teacher(backend="transformers", model="owner/name").values
        {'backend': 'transformers', 'model': 'owner/name'}
    """

    section = TeacherConfig


class EmbeddedTeacher(Teacher):
    """A model in this process, without key or server; by default the best one that the machine has room for.

    Args:
        model: ``auto``, the name of an embedded model, or a GGUF file (local, or of the hub as ``owner/name:file.gguf``).
        settings: other keys of ``teacher``.

    Example:
        >>> EmbeddedTeacher("smollm2-135m").values
        {'backend': 'openvino', 'model': 'smollm2-135m'}
    """

    fixed: ClassVar = {"backend": "openvino"}

    def __init__(self, model: str = "auto", **settings: Any) -> None:
        super().__init__(model=model, **settings)


class OpenAITeacher(Teacher):
    """A server with OpenAI's chat completions: OpenAI itself, vLLM, llama.cpp, Ollama, most providers.

    Args:
        model: the server's name of the model.
        api_key_env: name of the environment variable with the key, never the key; none for a server without keys.
        base_url: the server's root.
        settings: other keys of ``teacher``: ``sampling``, ``concurrency``, ``mode``, ``price``, ...

    Example:
        >>> OpenAITeacher("qwen", base_url="http://127.0.0.1:8000/v1").values["base_url"]
        'http://127.0.0.1:8000/v1'
    """

    fixed: ClassVar = {"backend": "openai"}

    def __init__(
        self, model: str, *, api_key_env: str | None = None, base_url: str = "https://api.openai.com/v1", **settings: Any
    ) -> None:
        super().__init__(model=model, base_url=base_url, **({"api_key_env": api_key_env} if api_key_env else {}), **settings)


class AnthropicTeacher(Teacher):
    """Anthropic's messages; arguments as for `OpenAITeacher`.

    Example:
        >>> AnthropicTeacher("claude-haiku-4-5", api_key_env="ANTHROPIC_API_KEY").values["backend"]
        'anthropic'
    """

    fixed: ClassVar = {"backend": "anthropic"}

    def __init__(self, model: str, *, api_key_env: str | None = None, **settings: Any) -> None:
        super().__init__(model=model, **({"api_key_env": api_key_env} if api_key_env else {}), **settings)


# student and budget -----------------------------------------------------------------------


class Student(_Noun):
    """The small model and how it is trained; see the keys of ``student``.

    Example:
        >>> Student("minilm-l6", min_steps=200).values
        {'model': 'minilm-l6', 'min_steps': 200}
    """

    section = StudentConfig

    def __init__(self, model: str = "minilm-l6", **settings: Any) -> None:
        super().__init__(model=model, **settings)


class Budget(_Noun):
    """Hard caps, never passed: ``requests``, ``tokens``, ``usd``.

    Example:
        >>> Budget(usd=5).values
        {'usd': 5}
    """

    section = BudgetConfig
