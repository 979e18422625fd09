"""The teacher labels real texts instead of writing new ones: at first any, then those that look like mistakes.

Every row is a text of ``data.pool`` with the teacher's answer. After each round the texts most like the gold rows that the
student got wrong are labelled: S3's error extrapolation (section 3.2) with retrieval in the place of writing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from stepsynth.methods.base import Method, Trains
from stepsynth.types import Request, StageKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.methods import MethodContext, Plan
    from stepsynth.types import Example, Mistake, Sampling

__all__ = ["Annotate", "AnnotatePlan", "annotation", "answer_sampling", "reading_sampling"]

# Enough for a label or a short span.
_ANSWER_TOKENS = 32


def answer_sampling(config: RunConfig) -> Sampling:
    """Return how a teacher is asked for a decision: greedily, with room for a label or a short span."""
    return replace(config.teacher.sampling.frozen(), temperature=0.0, max_tokens=_ANSWER_TOKENS)


def reading_sampling(config: RunConfig) -> Sampling:
    """Return how a teacher is asked for one of ``method.readings`` answers: greedily for one, at its temperature for several."""
    sampling = answer_sampling(config)
    return sampling if config.method.readings == 1 else replace(sampling, temperature=config.teacher.sampling.temperature)


@dataclass(frozen=True)
class AnnotatePlan:
    """Asks the teacher for the answers to texts of the pool.

    Every request is for another text, and a greedy answer serves any run, so its key depends neither on the run's seed nor on
    the round.

    Attributes:
        ctx: the method's data.
        round_number: round of the rows.
        count: the texts wanted; fewer if the pool has no more.
        mistakes: gold rows whose like is wanted; without them the pool's first texts are taken.
        before: how many texts earlier rounds took, and the mistakes that they were like.
    """

    ctx: MethodContext
    round_number: int
    count: int
    mistakes: Sequence[Mistake] = ()
    before: Sequence[AnnotatePlan] = ()
    kind: str = field(default=StageKind.ANNOTATE)

    @property
    def stage(self) -> str:
        """``round-k/annotate``."""
        return f"round-{self.round_number}/annotate"

    @property
    def targets(self) -> Mapping[str, int]:
        """The number of texts, for no particular label."""
        left = len(self.ctx.pool) - sum(plan.targets.get("", 0) for plan in self.before)
        wanted = min(self.count, left)
        return {"": wanted} if wanted > 0 else {}

    @cached_property
    def texts(self) -> list[tuple[Example, str | None]]:
        """The texts in order, each with the id of the mistake that it is like."""
        wanted, taken = self.targets.get("", 0), {text.id for plan in self.before for text, _ in plan.texts}
        free = [text for text in self.ctx.pool if text.id not in taken]
        if not self.mistakes:
            return [(text, None) for text in free[:wanted]]
        rows = [mistake.example for mistake in self.mistakes]
        near = [iter(places) for places in self.ctx.similar(rows, free, wanted)]
        found: dict[int, str] = {}
        # The mistakes take turns, so that each gets the nearest text that is left.
        while len(found) < wanted:
            for row, places in zip(rows, near, strict=True):
                place = next((place for place in places if place not in found), None)
                if place is not None and len(found) < wanted:
                    found[place] = row.id
        return [(free[place], source) for place, source in found.items()]

    def request(self, label: str, number: int, index: int) -> Request:
        """Ask for the answer to a text; after the last one they begin again."""
        return self.reading(number, 0, label, index)

    def reading(self, number: int, replicate: int, label: str = "", index: int | None = None) -> Request:
        """Ask for one of several answers to a text (``method.readings``)."""
        text, source = self.texts[number % len(self.texts)]
        messages, sampling = self.ctx.prompts.question(text), reading_sampling(self.ctx.config)
        place = number if index is None else index
        return Request(messages, sampling, replicate, self.stage, place, label, source, context=text.context)


def annotation(ctx: MethodContext, round_number: int, first: int, per_mistake: int) -> AnnotatePlan:
    """Return a round's texts to label: in round 0 the pool's first ones, later those like the previous round's mistakes.

    Args:
        ctx: the method's data.
        round_number: the round.
        first: how many in round 0.
        per_mistake: how many like each mistake.
    """
    plans = [AnnotatePlan(ctx, 0, first)]
    for number in range(1, round_number + 1):
        # Texts are too many to be asked about twice: what earlier rounds took is left out.
        mistakes = ctx.mistakes(number - 1)
        plans.append(AnnotatePlan(ctx, number, len(mistakes) * per_mistake, mistakes, tuple(plans)))
    return plans[-1]


class Annotate(Method):
    """The teacher labels real texts (``data.pool``): ``seed_rows`` of them, then ``rows_per_mistake`` like each mistake.

    Students and mistakes are those of `CrossFit`; no gold row is shown to the teacher.

    Examples:
        >>> Annotate(seed_rows=200, rounds=1).values
        {'name': 'annotate', 'seed_rows': 200, 'rounds': 1}
    """

    name = "annotate"
    keys = frozenset(
        {"seed_rows", "rounds", "rows_per_mistake", "stop", "folds", "final", "pool_rows", "pool_near_duplicates", "readings"}
    )
    student: Trains = "crossfit"
    checks_labels = False
    takes_pool = True
    needs_pool = True
    makes = "annotated texts"
    takes_budget = False

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Refuse written rows to start from."""
        super().check(config)
        if config.data.seed is not None:
            raise ValueError(f"data.seed does not go with method.name={cls.name}, which labels texts of data.pool; remove it")

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        """Yield the one stage of a round, unless no text or no mistake is left."""
        method = ctx.config.method
        plan = annotation(ctx, round_number, method.seed_rows, method.rows_per_mistake)
        if plan.targets:
            yield plan
