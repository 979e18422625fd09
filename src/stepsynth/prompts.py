"""Requests from a task, and texts from answers; pure in both directions.

A template is Jinja2 (sandboxed) with lines that say who speaks::

    --- user
    Write one {{ text_kind }} that is {{ label }}: {{ description }}.

It is cut into turns before anything is filled in, and what is filled in is never read as a
template: text from data or models reaches the teacher byte for byte.
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

DEFAULT_TEMPLATES: dict[str, str] = {
    "rationale": """\
--- user
{{ instruction }}
Give one short reason why a {{ text_kind }} would be {{ label }}{% if description %} ({{ description }}){% endif %}. \
Answer with one sentence about what the text says.
""",
    "seed": """\
--- user
{{ instruction }}
Write one {{ text_kind }} that is {{ label }}{% if description %} ({{ description }}){% endif %}.
It should show this:
{% for rationale in rationales %}- {{ rationale }}
{% endfor %}\
Write only the {{ text_kind }}.
""",
    "extrapolate": """\
--- user
Write one {{ text_kind }} that is {{ label }}{% if description %} ({{ description }}){% endif %}.
--- assistant
{{ text }}
--- user
Write another {{ text_kind }} that is {{ label }}, in the same style and of similar length, about something else. \
Write only the {{ text_kind }}.
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
            "label": label_phrase(label),
            "description": self.task.labels[label],
            "labels": {label_phrase(other): meaning for other, meaning in self.task.labels.items()},
            "rationales": list(rationales),
            "text": text,
            "examples": list(examples),
        }
        source = self.task.prompts.get(name, DEFAULT_TEMPLATES[name])  # type: ignore[call-overload]
        return _render(name, source, values)


def _render(name: str, source: str, values: Mapping[str, Any]) -> tuple[Message, ...]:
    import jinja2

    try:
        turns = [(role, template.render(values).strip()) for role, template in _compiled(source)]
    except jinja2.TemplateError as error:
        raise ConfigError(f"prompt {name!r}: {error}.", hint=f"Known variables: {', '.join(values)}.") from None
    if turns[-1][0] != "user":
        raise ConfigError(f"prompt {name!r} ends with a turn of {turns[-1][0]!r}.", hint="End it with a '--- user' turn.")
    return tuple(Message(role, content) for role, content in turns)  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def _compiled(source: str) -> tuple[tuple[str, jinja2.Template], ...]:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # Prompts are plain text for a model, not HTML: escaping would change what the user wrote.
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=False, autoescape=False)
    pieces = _TURN.split(source)
    turns = [("user", pieces[0])] if pieces[0].strip() else []
    turns += list(zip(pieces[1::2], pieces[2::2], strict=True))
    return tuple((role, environment.from_string(text)) for role, text in turns or [("user", "")])
