"""Requests from a task, and texts from answers; pure in both directions.

A template is Jinja2 (sandboxed) with lines that say who speaks::

    --- user
    Write one {{ text_kind }} that is {{ label }}: {{ description }}.

It is cut into turns before anything is filled in, and what is filled in is never read as a
template: text from data or models reaches the teacher byte for byte. An assistant turn that
comes out empty is left out together with the user turn before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError
from stepsynth.tasks import label_phrase
from stepsynth.types import Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import jinja2

    from stepsynth.config import TaskConfig

__all__ = ["DEFAULT_TEMPLATES", "Prompts"]

_TURN = re.compile(r"^--- *(system|user|assistant) *$\n?", re.MULTILINE)

# Worded so that a model of 135 million parameters reads them as well as a large one: the form of
# an answer is shown by turns about other domains, and a request is repeated word for word as if
# the rows before it had been the model's own answers.
_WRITE = "Write {{ a_text_kind }}. Category: {{ label }}{% if description %} ({{ description }}){% endif %}."

DEFAULT_TEMPLATES: dict[str, str] = {
    "rationale": """\
--- user
An e-mail belongs to "invitation": the sender asks someone to come. What could it say? Answer in a few words.
--- assistant
it names a day and a place to meet
--- user
A product review belongs to "complaint": the customer is unhappy. What could it say? Answer in a few words.
--- assistant
something broke soon after it was bought
--- user
{{ a_text_kind[:1] | upper }}{{ a_text_kind[1:] }} belongs to "{{ label }}"{% if description %}: {{ description }}{% endif %}. \
What could it say? Answer in a few words.
""",
    "seed": f"""\
--- user
Write an e-mail. Category: invitation (the sender asks someone to come). It shows: a day and a place to meet.
--- assistant
Are you free on Friday evening? We are having dinner at my place around eight.
--- user
Write a product review. Category: complaint (the customer is unhappy). It shows: something broke; nobody helps.
--- assistant
The zip of this jacket broke after two days and nobody answers my calls.
--- user
{_WRITE} It shows: {{{{ rationales | join('; ') }}}}.
""",
    "extrapolate": f"""\
--- user
{_WRITE}
--- assistant
{{{{ examples[0] }}}}
--- user
{_WRITE}
--- assistant
{{{{ examples[1] }}}}
--- user
{_WRITE}
--- assistant
{{{{ text }}}}
--- user
{_WRITE}
""",
}


@dataclass(frozen=True)
class Prompts:
    """The templates of one task.

    Attributes:
        task: the task; ``task.prompts`` overrides `DEFAULT_TEMPLATES` by name.
    """

    task: TaskConfig

    def check(self) -> None:
        """Fill every template once with sample values.

        Raises:
            ConfigError: a template that is not valid, names an unknown variable or does not
                end with a user turn.
        """
        label = next(iter(self.task.labels))
        for name in DEFAULT_TEMPLATES:
            self.render(name, label, rationales=("a reason",), text="a text", examples=("another text",))

    def render(
        self,
        name: str,
        label: str,
        *,
        rationales: Sequence[str] = (),
        text: str = "",
        examples: Sequence[str] = (),
    ) -> tuple[Message, ...]:
        """Return the chat for one request.

        Args:
            name: ``rationale``, ``seed`` or ``extrapolate``.
            label: the label asked for.
            rationales: reasons that a seed text should show.
            text: the mistake that is extrapolated.
            examples: other gold texts of that label.

        Raises:
            ConfigError: see `check`.
        """
        values = {
            "instruction": self.task.instruction,
            "text_kind": self.task.text_kind,
            "a_text_kind": _with_article(self.task.text_kind),
            "label": label_phrase(label),
            "description": self.task.labels[label],
            "labels": {label_phrase(other): meaning for other, meaning in self.task.labels.items()},
            "rationales": list(rationales),
            "text": text,
            # Two places that are empty when there are fewer examples; an empty turn is left out.
            "examples": [*examples, *[""] * (2 - len(examples))],
        }
        source = self.task.prompts.get(name, DEFAULT_TEMPLATES[name])  # type: ignore[call-overload]
        return _render(name, source, values)


def _render(name: str, source: str, values: Mapping[str, Any]) -> tuple[Message, ...]:
    import jinja2

    try:
        turns = [(role, template.render(values)) for role, template in _compiled(source)]
    # An expression in a template may fail in any way that Python knows: ``{{ 1 / 0 }}``.
    except Exception as error:
        what = str(error) if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"prompt {name!r}: {what}.", hint=f"Known variables: {', '.join(values)}.") from None
    turns = _without_empty(turns)
    if not turns or turns[-1][0] != "user":
        raise ConfigError(f"prompt {name!r} does not end with a turn of the user.", hint="End it with a '--- user' turn.")
    return tuple(Message(role, content) for role, content in turns)  # type: ignore[arg-type]


def _without_empty(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out an empty assistant turn together with the user turn before it, and other empty turns."""
    kept: list[tuple[str, str]] = []
    for role, content in turns:
        if content.strip():
            kept.append((role, content))
        elif role == "assistant" and kept and kept[-1][0] == "user":
            kept.pop()
    return kept


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1].casefold() in 'aeiou' else 'a'} {noun}"


@lru_cache(maxsize=64)
def _compiled(source: str) -> tuple[tuple[str, jinja2.Template], ...]:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # Prompts are plain text for a model, not HTML: escaping would change what the user wrote.
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=False, autoescape=False)
    pieces = _TURN.split(source)
    turns = [("user", pieces[0])] if pieces[0].strip() else []
    turns += list(zip(pieces[1::2], pieces[2::2], strict=True))
    # White space around a turn is the template's; white space at the ends of what is filled in is kept.
    return tuple((role, environment.from_string(text.strip())) for role, text in turns or [("user", "")])
