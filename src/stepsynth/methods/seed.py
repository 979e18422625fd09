"""Seed data: with rationales (explain, then generate; S3, section 3.1), or plain (ZeroGen).

First the teacher writes reasons why a text would have a label, then texts, each from k reasons drawn
without replacement. If a task has contexts, they take turns, and a question also gets an answer
from its passage.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from stepsynth.errors import DataError, RunError
from stepsynth.methods import rng_for, rows_asked, sampling_for, shown_rows, wanted_form
from stepsynth.tasks.answer_candidates import draw_spans
from stepsynth.tasks.labels import carried_labels
from stepsynth.types import DropReason, Example, Request, Sampling, StageKind
from stepsynth.words import normalised

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.methods import MethodContext
    from stepsynth.types import Message, Span

__all__ = ["REPEATED_HINT", "RationalePlan", "RowPlan", "SeedPlan", "ZeroGenPlan"]

REPEATED_HINT = "It may be a notice from the server, not an answer: check with `stepsynth plan`, then start a new run."
_REPLICATES_PER_SEED = 1_000_000
_SPANS_PER_CONTEXT = 12
_REASONS_PER_ANSWER = 10
_TOKENS_PER_REASON = 32


@dataclass(frozen=True)
class RationalePlan:
    """Asks for ``method.rationales`` distinct reasons per label; every request is independent.

    It asks for a list of ten if the template can: asked for one reason at a time, a model repeats itself.

    Attributes:
        labels: the labels that need reasons; ``None`` means all.
    """

    ctx: MethodContext
    stage: str = "round-0/rationales"
    kind: str = StageKind.RATIONALES
    labels: frozenset[str] | None = None

    @property
    def targets(self) -> Mapping[str, int]:
        """The same number of reasons for every label, or for ``""`` if the task has no labels."""
        labels = [label for label in self.ctx.config.task.labels or [""] if self.labels is None or label in self.labels]
        return dict.fromkeys(labels, self.ctx.config.method.rationales)

    def request(self, label: str, number: int, index: int) -> Request:
        """Ask for one reason, or for a list of them."""
        config = self.ctx.config
        count = _REASONS_PER_ANSWER if self.ctx.prompts.counts("rationale") else 1
        return Request(
            messages=self.ctx.prompts.render("rationale", label, count=count),
            sampling=_for_reasons(config.teacher.sampling.frozen(), count),
            replicate=config.seed * _REPLICATES_PER_SEED + number,
            stage=self.stage,
            index=index,
            label=label,
            parts=count,
        )


def _for_reasons(sampling: Sampling, count: int) -> Sampling:
    """Return shorter sampling, cooler for single reasons: above 0.6 small teachers stray from the label. Lists should vary."""
    if count > 1:
        return replace(sampling, max_tokens=_TOKENS_PER_REASON * count)
    return replace(sampling, temperature=min(sampling.temperature, 0.6), max_tokens=min(sampling.max_tokens, 32))


@dataclass(frozen=True)
class RowPlan:
    """Base of plans whose prompts show no gold row: the number of rows, and the context of each."""

    ctx: MethodContext

    @property
    def targets(self) -> Mapping[str, int]:
        """``method.seed_rows`` rows, distributed by the family."""
        return self.ctx.family.groups(self.ctx.harvest, self.ctx.config.method.seed_rows)

    def given(self, label: str, number: int) -> Example:
        """Return the given context and answer of a label's ``number``-th row."""
        if not self.ctx.family.has_context:
            return Example("", "")
        contexts = self.ctx.contexts
        order = self._orders.setdefault(
            label, rng_for("contexts", self.ctx.config.seed, label).sample(range(len(contexts)), len(contexts))
        )
        if not self.ctx.family.spans:
            return Example("", "", context=contexts[order[number % len(order)]])
        for step in range(len(order)):
            turn, place = divmod(number + step, len(order))
            if spans := self._spans(order[place]):
                context = contexts[order[place]]
                return Example("", "", context=context, answers=(spans[turn % len(spans)],))
        raise DataError(
            f"none of the {len(contexts)} contexts has a phrase, a name, a number or a date to ask for.",
            hint="Give longer contexts, in the language of the task, with data.contexts.",
        )

    def _spans(self, place: int) -> Sequence[Span]:
        if place not in self._drawn:
            context = self.ctx.contexts[place]
            self._drawn[place] = draw_spans(context, _SPANS_PER_CONTEXT, rng_for("spans", self.ctx.config.seed, context))
        return self._drawn[place]

    @cached_property
    def _orders(self) -> dict[str, list[int]]:
        return {}

    @cached_property
    def _drawn(self) -> dict[int, Sequence[Span]]:
        return {}

    def row(
        self,
        messages: tuple[Message, ...],
        label: str,
        number: int,
        index: int,
        stage: str,
        given: Example,
        count: int,
        source: str | None = None,
    ) -> Request:
        """Return the request for a row with a given context and answer, and the gold row that it derives from, if any."""
        config = self.ctx.config
        return Request(
            messages=messages,
            sampling=sampling_for(self.ctx, count),
            replicate=config.seed * _REPLICATES_PER_SEED + number,
            stage=stage,
            index=index,
            label=label,
            source=source,
            context=given.context,
            answer=given.answers[0] if given.answers else None,
            parts=count,
        )


@dataclass(frozen=True)
class SeedPlan(RowPlan):
    """Asks for seed rows.

    Attributes:
        rationales: label -> accepted reasons; ``None`` asks without reasons (an ablation). A label that has none, where
            others have some, is asked for without.
        labels: the labels that need rows; ``None`` means all.
        shows: for tasks with a context: prompts show gold rows of the label with other contexts, as the teacher's own answers;
            reasons are for labels without gold rows.

    Raises:
        RunError: no label has reasons, or one has none because the server did not answer.
    """

    rationales: Mapping[str, Sequence[str]] | None
    stage: str = "round-0/seed"
    kind: str = StageKind.SEED
    labels: frozenset[str] | None = None
    shows: bool = False

    def __post_init__(self) -> None:
        """Refuse to continue without reasons, unless only some labels have none: their rows are written without."""
        if self.rationales is None:
            return
        wanted = [label for label in self.ctx.config.task.labels or [""] if self.labels is None or label in self.labels]
        if self.shows:
            wanted = [label for label in wanted if label not in self._gold]
        without = [label for label in wanted if not self.rationales.get(label)]
        said = self.ctx.repeated() if without else ""
        # A server that does not answer, or answers with a notice, would be paid for more of the same.
        failing = [label for label in without if said or _chief(self.ctx.dropped(label)) == DropReason.FAILED]
        if ends := without if len(without) == len(wanted) else failing:
            label = ends[0]
            of = f" for label {label!r}" if label else ""
            dropped = self.ctx.dropped(label)
            why = f" ({', '.join(f'{count} {reason}' for reason, count in dropped.items())})" if dropped else ""
            what = f"the teacher gave no usable rationale{of}{why}{f'; {said}' if said else ''}."
            raise RunError(what, hint=REPEATED_HINT if said else _advice(dropped))

    @property
    def targets(self) -> Mapping[str, int]:
        """``method.seed_rows`` rows, distributed by the family; only those of `labels`."""
        return {label: rows for label, rows in super().targets.items() if self.labels is None or label in self.labels}

    def request(self, label: str, number: int, index: int) -> Request:
        """Ask for one text that shows k reasons, drawn without replacement, or for one like gold rows of the label."""
        given, examples = self._like_gold(label, number)
        shown: list[str] = []
        if self.rationales is not None and not examples:
            method = self.ctx.config.method
            reasons = [reason for part in carried_labels(label, self.rationales) or ("",) for reason in self.rationales[part]]
            draw = rng_for("seed", self.ctx.config.seed, label, number)
            shown = draw.sample(reasons, min(method.rationales_per_row, len(reasons)))
        count = rows_asked(self.ctx, "seed")
        first = next(iter(examples), None)
        form = wanted_form(self.ctx, label, count, "seed", number, source=first)
        messages = self.ctx.prompts.render("seed", label, rationales=shown, row=given, examples=examples, form=form, count=count)
        # The rows that are shown are of one fold, and so is what is written from them.
        return self.row(messages, label, number, index, self.stage, given, count, first.id if first else None)

    def _like_gold(self, label: str, number: int) -> tuple[Example, Sequence[Example]]:
        """Return a context and the gold rows of the label that a prompt about it shows, if any."""
        steps = len(self.ctx.contexts) if self.shows and label in self._gold else 0
        # In the fold of some contexts, no row may have the label.
        for step in range(steps):
            given = self.given(label, number + step)
            own, rows = normalised(given.context), self._gold[label]
            # Rows of one fold only: that of the context; if it is in none, the folds take turns.
            leader = self._owners.get(own) or rows[number % len(rows)]
            together = [row for row in rows if self.ctx.together(leader, row)]
            # A fold may have no other context.
            if near := [row for row in together if normalised(row.context) != own] or together:
                return given, shown_rows(self.ctx, near, number, 0, own)
        return self.given(label, number), ()

    @cached_property
    def _gold(self) -> dict[str, list[Example]]:
        found: dict[str, list[Example]] = {}
        for row in self.ctx.harvest:
            found.setdefault(row.label, []).append(row)
        return found

    @cached_property
    def _owners(self) -> dict[str, Example]:
        """Normalised context -> a gold row that has it."""
        return {normalised(row.context): row for row in self.ctx.harvest}


def _chief(dropped: Mapping[str, int]) -> str:
    """Return the commonest reason, empty if there is none."""
    return max(dropped, key=lambda reason: dropped[reason], default="")


def _advice(dropped: Mapping[str, int]) -> str:
    """Return a hint for a label without reasons; it depends on why they were dropped."""
    chief = _chief(dropped)
    failed, total = dropped.get(DropReason.FAILED, 0), sum(dropped.values())
    advice: dict[str, str] = {
        DropReason.TRUNCATED: (
            "Raise teacher.reasoning_tokens for a reasoning model, sampling.max_tokens for others; then start a new run."
        ),
        DropReason.FAILED: (
            f"The server did not answer {failed:,} of {total:,} requests: check with `stepsynth plan`, then start a new run."
        ),
        DropReason.REFUSAL: "The provider refuses: reword task.instruction and task.labels, or use another teacher.",
        DropReason.EMPTY: "The teacher's answers have no text: check with `stepsynth plan`, or use another teacher.",
    }
    return advice.get(chief, "Describe the label in task.labels, or override task.prompts.rationale.")


@dataclass(frozen=True)
class ZeroGenPlan(RowPlan):
    """Asks for rows with the plain zero-shot prompt."""

    stage: str = "round-0/zerogen"
    kind: str = StageKind.ZEROGEN

    def request(self, label: str, number: int, index: int) -> Request:
        """Ask for one text."""
        given = self.given(label, number)
        count = rows_asked(self.ctx, "zerogen")
        messages = self.ctx.prompts.render("zerogen", label, row=given, count=count)
        return self.row(messages, label, number, index, self.stage, given, count)
