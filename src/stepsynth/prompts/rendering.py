"""Render requests from a task's templates.

A template is sandboxed Jinja2 with lines that name the speaker::

    --- user
    Write one {{ text_kind }} that is {{ label }}: {{ description }}.

It is split into turns before values are filled in, and values are never parsed as templates: text
from data or models reaches the teacher byte for byte. An assistant turn that renders empty is left
out together with the user turn before it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError
from stepsynth.tasks import TaskFamily, create_family
from stepsynth.tasks.guarding import guard_own
from stepsynth.tasks.labels import called, carried_labels, label_names
from stepsynth.types import Example, Message, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jinja2

    from stepsynth.config import TaskConfig

__all__ = ["Prompts"]

# Limits on a multiplication or power in a template; far more than any prompt needs.
_MOST_PRODUCT, _MOST_POWER = 10_000_000, 1_000
_SENTENCE_END = re.compile(r"[.!?]\s+(?=[^a-z])")
_FILLED = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|^--- *(?:system|user|assistant) *$", re.MULTILINE | re.DOTALL)
_TURN = re.compile(r"^--- *(system|user|assistant) *$\n?", re.MULTILINE)


@dataclass(frozen=True)
class Prompts:
    """The templates of one task.

    Attributes:
        task: the task; ``task.prompts`` overrides the default templates by name. A ``task.prompt_style``
            that is still ``auto`` means ``small`` here, see `stepsynth.run.settling`.
        avoid: what the teacher must not do, in whole sentences; templates may use it as ``{{ avoid }}``.
    """

    task: TaskConfig
    avoid: str = ""

    @cached_property
    def family(self) -> TaskFamily:
        """The task's family."""
        return create_family(self.task)

    @property
    def capable(self) -> bool:
        """Whether the templates are those for capable models."""
        return self.task.prompt_style == "capable"

    @property
    def templates(self) -> Mapping[str, str]:
        """Name -> template, from the task's family, its style and its own templates."""
        defaults = self.family.templates(capable=self.capable)
        return {name: self.task.prompts.get(name, default) for name, default in defaults.items()}  # type: ignore[call-overload]

    def counts(self, name: str) -> bool:
        """Whether a template can ask for several texts in one answer, because it uses ``{{ count }}``."""
        return "count" in _names_in(self.templates[name])

    def shows(self, name: str) -> bool:
        """Whether a template shows gold rows, because it uses ``{{ examples }}``."""
        return "examples" in _names_in(self.templates[name])

    @cached_property
    def wording(self) -> tuple[str, ...]:
        """The templates' own words: the pieces between what is filled in."""
        found = dict.fromkeys(" ".join(piece.split()) for source in self.templates.values() for piece in _FILLED.split(source))
        return tuple(piece for piece in found if piece)

    def check(self) -> None:
        """Fill every template once with sample values.

        Raises:
            ConfigError: a template is invalid, names an unknown variable or none at all, or does not end with a
                user turn.
        """
        label = next(iter(self.task.labels), "")
        row = Example("sample", "a text", label, "a context", (Span("answer", 0),))
        for name in self.templates:
            self.render(name, label, rationales=("a reason",), row=row, examples=(row,), predicted=label, form="one word")
        for name, source in self.task.prompts.items():
            if not _names_in(source):
                braces = " It has '{...}'; a variable has two braces." if re.search(r"\{\s*\w+\s*\}", source) else ""
                raise ConfigError(
                    f"task.prompts.{name} has no variable, so that all its prompts would be the same.{braces}",
                    hint="Use {{ label }}, {{ instruction }} and others; docs/config.md lists them.",
                )

    def render(
        self,
        name: str,
        label: str,
        *,
        rationales: Sequence[str] = (),
        row: Example | None = None,
        examples: Sequence[Example] = (),
        predicted: str = "",
        form: str = "",
        count: int = 1,
    ) -> tuple[Message, ...]:
        """Return the chat for one request.

        Args:
            name: ``rationale``, ``seed``, ``zerogen``, ``extrapolate`` or ``answer``.
            label: the label asked for, several joined by ``|``.
            rationales: reasons that a seed text should show.
            row: the mistake to extrapolate or the row to answer; for a row that is yet to be
                written, its context and answer.
            examples: other gold rows of that label.
            predicted: the student's prediction for ``row``: a label, or its answer.
            form: how to write the text, see `described_form`.
            count: number of texts in the answer; more than one only if `counts`.

        Raises:
            ConfigError: see `check`.
        """
        row, names = row or Example("", ""), self._names
        fields = self.family.prompt_names
        # Padded to two with empty examples; empty turns are left out.
        shown = [*examples, *[Example("", "")] * (2 - len(examples))]
        values = {
            "instruction": self.task.instruction,
            "text_kind": self.task.text_kind,
            "a_text_kind": _with_article(self.task.text_kind),
            "text_name": fields.get("text", "text"),
            "a_text_name": _with_article(fields.get("text", "text")),
            "context_name": fields.get("context", "context"),
            "a_context_name": _with_article(fields.get("context", "context")),
            "label": called(label, names),
            "description": _meaning(label, self.task),
            "labels": {names[other]: meaning for other, meaning in self.task.labels.items()},
            "rationales": list(rationales),
            "text": row.text,
            "context": row.context,
            "answer": row.answers[0].text if row.answers else "",
            "cloze": _cloze(row),
            "examples": [example.text for example in shown],
            "predicted": called(predicted, names) if predicted and names else predicted,
            "predicted_description": _meaning(predicted, self.task) if predicted else "",
            "form": form,
            "count": count,
            "lines": self._has_lines(row, *examples),
            "avoid": self.avoid,
            "example_contexts": [example.context for example in shown],
            "example_clozes": [_cloze(example) for example in shown],
            "example_answers": [example.answers[0].text if example.answers else "" for example in shown],
            **self._variables(label, row),
        }
        return _render(name, self.templates[name], values)

    def _has_lines(self, *shown: Example) -> bool:
        """Whether texts may have several lines; unless the task says so, whether one that is shown has."""
        if self.task.paragraphs != "auto":
            return self.task.paragraphs == "all"
        return any("\n" in example.text.strip() for example in shown)

    def _variables(self, label: str, row: Example) -> Mapping[str, object]:
        """Return the family's own variables.

        Raises:
            ConfigError: it fails, or does not return a mapping.
        """
        with guard_own(self.family, "the variables of a prompt", ConfigError, "Correct variables() of the class."):
            found: object = self.family.variables(label, row)
        if not isinstance(found, Mapping):
            raise ConfigError(
                f"the task family {self.task.family!r} returns {found!r} from variables().",
                hint="Return a dict: variable's name -> value.",
            )
        return found

    def question(self, row: Example, shots: Sequence[tuple[Example, str]] = ()) -> tuple[Message, ...]:
        """Return the chat that asks the teacher to answer a row itself.

        Args:
            row: the row; its label and answers are not read.
            shots: gold rows to show first, each with its right answer.
        """
        turns: list[Message] = []
        for shot, answer in shots:
            turns += [*self.render("answer", "", row=shot), Message("assistant", called(answer, self._names))]
        return (*turns, *self.render("answer", "", row=row))

    @cached_property
    def _names(self) -> dict[str, str]:
        return label_names(self.task.labels, several=self.family.several_labels)


def _render(name: str, source: str, values: Mapping[str, Any]) -> tuple[Message, ...]:
    import jinja2

    try:
        turns = [(role, template.render(values)) for role, template in _compiled(source)]
    # An expression in a template may raise any Python error: ``{{ 1 / 0 }}``.
    except Exception as error:
        what = str(error) if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"prompt {name!r}: {what}.", hint=f"Known variables: {', '.join(values)}.") from None
    turns = _without_empty(turns)
    if not turns or turns[-1][0] != "user":
        raise ConfigError(f"prompt {name!r} does not end with a user turn.", hint="End it with a '--- user' turn.")
    return tuple(Message(role, content) for role, content in turns)  # type: ignore[arg-type]


def _without_empty(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out empty turns, and with an empty assistant turn also the user turn before it."""
    kept: list[tuple[str, str]] = []
    for role, content in turns:
        if content.strip():
            kept.append((role, content))
        elif role == "assistant" and kept and kept[-1][0] == "user":
            kept.pop()
    return kept


def _meaning(label: str, task: TaskConfig) -> str:
    return "; ".join(meaning for part in carried_labels(label, task.labels) if (meaning := task.labels.get(part, "")))


def _cloze(row: Example) -> str:
    """Return the sentence around the answer with a gap in place of the answer; without an answer, the context."""
    if not row.answers:
        return row.context
    span = row.answers[0]
    before, after = row.context[: span.start], row.context[span.start + len(span.text) :]
    first = max((match.end() for match in _SENTENCE_END.finditer(before)), default=0)
    last = _SENTENCE_END.search(after)
    return f"{before[first:]}_____{after[: last.end()].rstrip() if last else after}"


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1].casefold() in 'aeiou' else 'a'} {noun}"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """Return a sandbox without access to Python's attributes, mutation, or huge numbers and texts."""
    import jinja2
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            sizes = [len(side) if hasattr(side, "__len__") else abs(side) for side in (left, right)]
            if (operator == "**" and max(sizes) > _MOST_POWER) or math.prod(sizes) > _MOST_PRODUCT:
                raise SecurityError(f"'{operator}' would make a value that is too large")
            return SandboxedEnvironment.call_binop(self, context, operator, left, right)

    # Prompts are plain text for a model, not HTML: escaping would change what the user wrote.
    return Sandbox(undefined=jinja2.StrictUndefined, trim_blocks=False, autoescape=False)


@lru_cache(maxsize=64)
def _names_in(source: str) -> frozenset[str]:
    from jinja2 import TemplateError, meta

    environment = _environment()
    try:
        return frozenset(meta.find_undeclared_variables(environment.parse(source)))
    except TemplateError:
        # `check` reports the error.
        return frozenset()


@lru_cache(maxsize=64)
def _compiled(source: str) -> tuple[tuple[str, jinja2.Template], ...]:
    environment = _environment()
    pieces = _TURN.split(source)
    turns = [("user", pieces[0])] if pieces[0].strip() else []
    turns += list(zip(pieces[1::2], pieces[2::2], strict=True))
    # White space around a turn belongs to the template; white space at the ends of values is kept.
    return tuple((role, environment.from_string(text.strip())) for role, text in turns or [("user", "")])
