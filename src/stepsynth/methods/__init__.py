"""Methods: what to ask the teacher for, in which order, and how many rows to keep.

    method = create_method(config)
    for plan in method.plans(0, ctx): ...

A method is a class, in one file: ours lie here, one of the user's anywhere. Its plans are pure: the n-th request for a label is
always the same, however often and in whatever order it is asked for, so that a run repeats and
resumes, and so that methods with prompts in common share their answers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from stepsynth.methods.base import Method, create_method, method_class, register_method, trains_on
from stepsynth.prompts import described_form
from stepsynth.types import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.prompts import Prompts
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example, Mistake, Request, Sampling

__all__ = [
    "Method",
    "MethodContext",
    "Plan",
    "create_method",
    "method_class",
    "register_method",
    "rng_for",
    "rows_asked",
    "sampling_for",
    "trains_on",
    "wanted_form",
]


# Of fewer rows the lengths would be those of these few.
_ENOUGH_FORMS = 5


class Plan(Protocol):
    """A stage's requests."""

    @property
    def stage(self) -> str:
        """Name of the stage, for instance ``round-1/extrapolate``."""
        ...

    @property
    def kind(self) -> str:
        """Name of what is written: ``rationales``, ``seed``, ``zerogen`` or ``extrapolate``."""
        ...

    @property
    def targets(self) -> Mapping[str, int]:
        """Label -> accepted rows wanted."""
        ...

    def request(self, label: str, number: int, index: int) -> Request:
        """Return the ``number``-th request for a label, at position ``index`` of the stage's plan."""
        ...


@dataclass(frozen=True)
class MethodContext:
    """What a method may look at; never the test set, and of the gold rows only those that may feed the loop.

    Attributes:
        config: the run's config.
        prompts: the task's templates.
        family: the task's family.
        harvest: gold rows that mistakes come from and that prompts may show: the harvest half, or with
            cross-fitting all of them.
        contexts: texts to write about, for families that keep one.
        rationales: gives label -> accepted reasons, once that stage is done.
        mistakes: gives the harvest rows that a round's student got wrong.
        together: tells whether one prompt may show both of two gold rows.
        dropped: gives, for a label, why its reasons were dropped and how many, once that stage is done.
        repeated: gives what to say where most of these answers are one text, such as a gateway's notice.
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


def rng_for(*parts: object) -> random.Random:
    """Return a generator that depends on ``parts`` only, the same on every machine."""
    return random.Random(int(digest(parts)[:16], 16))


def wanted_form(ctx: MethodContext, label: str, count: int, *parts: object, source: Example | None = None) -> str:
    """Return how rows shall be written: as harvest rows of their label, drawn by ``parts``, are.

    Rows of the whole half where the label has too few to tell; empty where the templates have no use for it.
    With a source, only rows that its prompt may show are asked for their form.
    """
    if not ctx.prompts.capable or not ctx.harvest:
        return ""
    shown = [example for example in ctx.harvest if source is None or ctx.together(example, source)]
    own = [example.text for example in shown if example.label == label]
    texts = own if len(own) >= _ENOUGH_FORMS else [example.text for example in shown]
    return described_form(rng_for("form", ctx.config.seed, label, *parts).choices(texts, k=count))


def rows_asked(ctx: MethodContext, template: str) -> int:
    """Return how many rows one answer shall hold: ``method.rows_per_answer`` where the template can say it, else one."""
    return ctx.config.method.rows_per_answer if ctx.prompts.counts(template) else 1


def sampling_for(ctx: MethodContext, count: int) -> Sampling:
    """Return the configured sampling, with room for ``count`` rows."""
    sampling = ctx.config.teacher.sampling.frozen()
    return replace(sampling, max_tokens=sampling.max_tokens * count) if count > 1 else sampling
