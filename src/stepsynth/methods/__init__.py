"""Methods: what to ask the teacher, in which order, and how many rows to keep.

    method = create_method(config)
    for plan in method.plans(0, ctx): ...

A method is a class in one file: the built-in ones are here, a user's can be anywhere. Its plans are pure: the n-th request
for a label is always the same, however often and in whatever order it is made. So runs can be repeated and resumed,
and methods with common prompts share their answers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from stepsynth.methods.base import MATCHED_OVERGENERATION, Method, create_method, method_class, register_method, trains_on
from stepsynth.prompts import described_form
from stepsynth.types import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.prompts import Prompts
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example, Mistake, Request, Sampling

__all__ = [
    "MATCHED_OVERGENERATION",
    "Method",
    "MethodContext",
    "Plan",
    "create_method",
    "method_class",
    "register_method",
    "rng_for",
    "rows_asked",
    "sampling_for",
    "shown_rows",
    "trains_on",
    "wanted_form",
]


# With fewer rows, the lengths of these few would decide.
_ENOUGH_FORMS = 5
_EXAMPLES_PER_PROMPT = 2
# Per label: after this many requests, other rows are shown first, for variety.
_SHOWN_AGAIN = 128


class Plan(Protocol):
    """A stage's requests."""

    @property
    def stage(self) -> str:
        """Name of the stage, for instance ``round-1/extrapolate``."""
        ...

    @property
    def kind(self) -> str:
        """What is written: ``rationales``, ``seed``, ``zerogen`` or ``extrapolate``."""
        ...

    @property
    def targets(self) -> Mapping[str, int]:
        """Label -> number of accepted rows wanted."""
        ...

    def request(self, label: str, number: int, index: int) -> Request:
        """Return the ``number``-th request for a label, at position ``index`` of the stage's plan."""
        ...


class Similar(Protocol):
    """Orders texts of the pool by their likeness to rows."""

    def __call__(self, rows: Sequence[Example], texts: Sequence[Example], most: int | None = None) -> Sequence[Sequence[int]]:
        """Return for each row the places of the texts, the most similar first, and at most so many."""


@dataclass(frozen=True)
class MethodContext:
    """The data a method may use: never the test set, and only the gold rows that may feed the loop.

    Attributes:
        config: the run's config.
        prompts: the task's templates.
        family: the task's family.
        harvest: gold rows that prompts may show and mistakes come from: the harvest half, or with
            cross-fitting all of them.
        contexts: texts to write about, for families with context.
        pool: texts without labels, in the order of their draw.
        rationales: returns label -> accepted reasons, once that stage is done.
        mistakes: returns the harvest rows that a round's student got wrong.
        together: whether one prompt may show both of two gold rows.
        dropped: returns drop reason -> count for a label's rationales, once that stage is done.
        similar: returns for each row the places of the given texts of the pool, the most similar first.
        repeated: returns a message if most rationale answers are the same text, such as a gateway's notice.
    """

    config: RunConfig
    prompts: Prompts
    family: TaskFamily
    harvest: Sequence[Example]
    contexts: Sequence[str]
    rationales: Callable[[], Mapping[str, Sequence[str]]]
    mistakes: Callable[[int], Sequence[Mistake]]
    dropped: Callable[[str], Mapping[str, int]] = lambda _: {}
    together: Callable[[Example, Example], bool] = lambda *_: True
    repeated: Callable[[], str] = str
    pool: Sequence[Example] = ()
    similar: Similar = lambda rows, texts, most=None: [range(len(texts))[:most] for _ in rows]


def rng_for(*parts: object) -> random.Random:
    """Return a random generator that depends only on ``parts`` and is the same on every machine."""
    return random.Random(int(digest(parts)[:16], 16))


def wanted_form(ctx: MethodContext, label: str, count: int, *parts: object, source: Example | None = None) -> str:
    """Describe the form of ``count`` rows, taken from harvest rows of the label drawn by ``parts``.

    Falls back to all harvest rows if the label has too few; empty if the templates do not use it.
    With a source, only rows that its prompt may show are used.
    """
    if not ctx.prompts.capable or not ctx.harvest:
        return ""
    shown = [example for example in ctx.harvest if source is None or ctx.together(example, source)]
    own = [example.text for example in shown if example.label == label]
    texts = own if len(own) >= _ENOUGH_FORMS else [example.text for example in shown]
    return described_form(rng_for("form", ctx.config.seed, label, *parts).choices(texts, k=count))


def shown_rows(ctx: MethodContext, rows: Sequence[Example], number: int, round_number: int, *parts: object) -> Sequence[Example]:
    """Choose the gold rows that a prompt shows as the teacher's own answers, see ``method.demonstrations``.

    With ``fixed``, their order does not depend on ``parts``, so that prompts share as many first turns as possible.

    Args:
        ctx: the method's data.
        rows: those that the prompt may show.
        number: the request's number within its label.
        round_number: the round of the written rows.
        parts: what the choice depends on otherwise, such as the row that is extrapolated.
    """
    seed, count = ctx.config.seed, min(_EXAMPLES_PER_PROMPT, len(rows))
    if ctx.config.method.demonstrations != "fixed":
        return rng_for("extrapolate", seed, round_number, *parts, number).sample(rows, count)
    turn = number // _SHOWN_AGAIN
    return sorted(rows, key=lambda row: digest((seed, round_number, turn, row.id)))[:count]


def rows_asked(ctx: MethodContext, template: str) -> int:
    """Return the rows per answer: ``method.rows_per_answer`` if the template can say it, otherwise one."""
    return ctx.config.method.rows_per_answer if ctx.prompts.counts(template) else 1


def sampling_for(ctx: MethodContext, count: int) -> Sampling:
    """Return the configured sampling, with room for ``count`` rows."""
    sampling = ctx.config.teacher.sampling.frozen()
    return replace(sampling, max_tokens=sampling.max_tokens * count) if count > 1 else sampling
