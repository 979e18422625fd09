"""Error extrapolation: new rows like the student's mistakes, with their gold labels (S3, section 3.2).

A context is kept word for word, and so is the answer to a question. GoldGen does the same with all
gold rows instead of the mistakes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from stepsynth.methods import rows_asked, sampling_for, shown_rows, wanted_form
from stepsynth.tasks.labels import even_targets
from stepsynth.types import Request, StageKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.methods import MethodContext
    from stepsynth.types import Example, Mistake

__all__ = ["ExtrapolationPlan"]

_REPLICATES_PER_SEED = 1_000_000


@dataclass(frozen=True)
class ExtrapolationPlan:
    """Asks for rows like given gold rows, which take turns within their label.

    Attributes:
        ctx: config, prompts and the gold rows that a prompt may show.
        sources: the rows to extrapolate, in the order of the harvest half.
        round_number: round of the written rows.
        targets: label -> number of accepted rows wanted.
        predicted: id of a source -> the student's prediction; empty if sources are not mistakes.
    """

    ctx: MethodContext
    sources: Sequence[Example]
    round_number: int
    targets: Mapping[str, int]
    predicted: Mapping[str, str] = field(default_factory=dict)
    kind: str = StageKind.EXTRAPOLATE

    @classmethod
    def of_mistakes(cls, ctx: MethodContext, mistakes: Sequence[Mistake], round_number: int) -> ExtrapolationPlan:
        """Ask for ``rows_per_mistake`` rows per mistake; ``method.balance`` distributes them over labels.

        With ``mistakes``, rows are in proportion to a label's mistakes (as in the paper). With ``even``,
        the same total is spread evenly over the labels with mistakes: a student often errs in one
        direction, and the rows that correct it should not tilt the classes the other way.
        """
        method, several = ctx.config.method, ctx.family.several_labels
        # A teacher cannot be asked for a text without any label.
        sources = [mistake.example for mistake in mistakes if mistake.example.label or not several]
        counts = Counter(source.label for source in sources)
        labels = [label for label in (ctx.config.task.labels or [""]) if counts[label]]
        labels += sorted(set(counts) - set(labels))
        if method.balance == "even" and not several:
            targets = even_targets(len(sources) * method.rows_per_mistake, labels)
        else:
            targets = {label: counts[label] * method.rows_per_mistake for label in labels}
        return cls(ctx, sources, round_number, targets, {mistake.example.id: mistake.predicted for mistake in mistakes})

    @classmethod
    def of_gold(cls, ctx: MethodContext) -> ExtrapolationPlan:
        """Ask in round 0 for ``seed_rows`` rows like any rows of the harvest half, as GoldGen does."""
        present = {example.label for example in ctx.harvest}
        wanted = ctx.family.groups(ctx.harvest, ctx.config.method.seed_rows)
        return cls(ctx, ctx.harvest, 0, {label: rows for label, rows in wanted.items() if label in present})

    @property
    def stage(self) -> str:
        """``round-k/extrapolate``."""
        return f"round-{self.round_number}/extrapolate"

    @cached_property
    def _by_label(self) -> dict[str, list[Example]]:
        grouped: dict[str, list[Example]] = {}
        for source in self.sources:
            grouped.setdefault(source.label, []).append(source)
        return grouped

    def request(self, label: str, number: int, index: int) -> Request:
        """Ask for a row like one source; the sources of a label take turns."""
        config, sources = self.ctx.config, self._by_label[label]
        source = sources[number % len(sources)]
        # A passage often has several questions: do not show another question about the source's passage.
        others = [e for e in self.ctx.harvest if e.label == label and e.id != source.id and _apart(e, source)]
        others = [e for e in others if self.ctx.together(e, source)]
        count = rows_asked(self.ctx, "extrapolate")
        return Request(
            messages=self.ctx.prompts.render(
                "extrapolate",
                label,
                row=source,
                examples=self._shown(others, source, number),
                predicted=self.predicted.get(source.id, ""),
                form=wanted_form(self.ctx, label, count, "extrapolate", self.round_number, source.id, number, source=source),
                count=count,
            ),
            sampling=sampling_for(self.ctx, count),
            replicate=(config.seed * 100 + self.round_number) * _REPLICATES_PER_SEED + number,
            stage=self.stage,
            index=index,
            label=label,
            source=source.id,
            context=source.context,
            answer=source.answers[0] if source.answers else None,
            parts=count,
        )

    def _shown(self, others: Sequence[Example], source: Example, number: int) -> Sequence[Example]:
        """Return the gold rows shown before the source."""
        return shown_rows(self.ctx, others, number, self.round_number, source.id)


def _apart(one: Example, other: Example) -> bool:
    return not one.context or one.context != other.context
