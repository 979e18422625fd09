"""The filter pipeline: every row is accepted, or dropped with a reason.

Rows are judged in plan order, not in order of arrival, so the accepted set depends on the answers alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from stepsynth.filters.artefact import AnswerLeakFilter, LabelLeakFilter
from stepsynth.filters.balance import LabelQuota
from stepsynth.filters.duplicate import Duplicate
from stepsynth.filters.label_check import LabelCheck
from stepsynth.filters.layout import Layout
from stepsynth.filters.leakage import ContaminationFilter
from stepsynth.filters.near_duplicate import NearDuplicate
from stepsynth.filters.own import OwnRule, RowFilter, own_filters, try_filters
from stepsynth.filters.row_filters import RowFilterBase
from stepsynth.filters.schema import Schema, ends_with_question_mark, has_gap
from stepsynth.filters.second_reading import SecondReading
from stepsynth.tasks import create_family
from stepsynth.types import DropReason, Verdict
from stepsynth.words import count_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import TaskConfig
    from stepsynth.types import Candidate, Example, GeneratedRow

__all__ = ["REASONS", "Filter", "FilterPipeline", "RowFilter", "own_filters", "try_filters"]

# If fewer real questions end with a question mark, written ones need none.
_MARKED = 0.9

REASONS: dict[str, str] = {
    DropReason.FAILED: "the teacher gave no answer after every attempt",
    DropReason.REFUSAL: "the teacher declined or talked about being a model",
    DropReason.EMPTY: "nothing was left of the answer",
    DropReason.TRUNCATED: "the answer was cut off before its first sentence ended",
    DropReason.TOO_SHORT: "shorter than the shortest gold texts",
    DropReason.TOO_LONG: "much longer than the longest gold texts",
    DropReason.META: "talks about the task instead of doing it",
    DropReason.PLACEHOLDER: "leaves a gap to fill in, such as [Name]",
    DropReason.DUPLICATE: "the same text was accepted before",
    DropReason.NEAR_DUPLICATE: "almost the same text was accepted before, or is a validation row",
    DropReason.COPY: "copied from a validation row or from the prompt",
    DropReason.NAMES_LABEL: "names its label more often than real texts do",
    DropReason.REPETITIVE: "says the same words over and over",
    DropReason.NAMES_ANSWER: "contains its own answer more often than real questions do",
    DropReason.NO_QUESTION: "does not end with a question mark",
    DropReason.NO_ANSWER: "the teacher named no label of the task for this text, or no span of it",
    DropReason.LABEL_IN_DOUBT: "gold rows suggest another label than the one that was asked for",
    DropReason.READ_OTHERWISE: "asked again without being shown its answer, the teacher gave another one",
    DropReason.SURPLUS: "passed the filters, but its label has all the rows that were asked for",
}


class Filter(Protocol):
    """One rule."""

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[GeneratedRow]) -> list[Verdict]:
        """Return one verdict per candidate, in the same order.

        Args:
            candidates: rows that passed the earlier rules, in plan order.
            accepted: the rows accepted before these, in plan order.
        """
        ...


@dataclass(frozen=True)
class FilterPipeline:
    """The rules, in order; the first that drops a row gives the reason."""

    filters: tuple[Filter, ...]

    @classmethod
    def for_rows(
        cls,
        task: TaskConfig,
        gold: Sequence[Example],
        harvest: Sequence[Example],
        targets: Mapping[str, int] | None,
        *,
        own: Sequence[RowFilter] = (),
        label_check: LabelCheck | None = None,
        near_duplicates: float | None = None,
        second_reading: SecondReading | None = None,
        wording: Sequence[str] = (),
    ) -> FilterPipeline:
        """Rules for training rows.

        Args:
            task: gives the family, the labels, and whether texts have paragraphs.
            gold: all validation rows; none may be copied.
            harvest: real rows, to measure lengths and how often they name a label.
            targets: label -> rows wanted from this stage; ``None`` accepts all good ones.
            own: the user's filters.
            label_check: the label check, if there is one.
            near_duplicates: the similarity from which rows are near-duplicates; ``None`` keeps them.
            second_reading: the second reading, if there is one.
            wording: the templates' own words, which no row may repeat.
        """
        asks = create_family(task).spans
        marked = sum(ends_with_question_mark(example.text) for example in harvest) >= _MARKED * len(harvest)
        layout = Layout.like([example.text for example in harvest], task.paragraphs)
        # If real texts have gaps (form letters or code, for instance), written ones may, too.
        gaps = any(has_gap(example.text) for example in harvest)
        more = task.paragraphs == "all" and not layout.lines
        rules: list[Filter] = [
            Schema.like([count_words(example.text) for example in harvest], question=asks and marked, paragraphs=more, gaps=gaps),
            ContaminationFilter.of([example.text for example in gold], wording),
            *(OwnRule(rule) for rule in own),
            AnswerLeakFilter.like(harvest) if asks else LabelLeakFilter.like(harvest, task.labels),
        ]
        if label_check is not None:
            rules.append(label_check)
        rules.append(Duplicate())
        if near_duplicates is not None:
            rules.append(NearDuplicate(near_duplicates, gold))
        if second_reading is not None:
            # It costs an answer, so it reads only what would be kept.
            rules.append(second_reading)
        return cls((*rules, LabelQuota(targets)) if targets is not None else tuple(rules))

    @classmethod
    def for_given(cls, gold: Sequence[Example]) -> FilterPipeline:
        """Rules for rows that the user brought: no copies of validation rows, no duplicates."""
        return cls((ContaminationFilter.of([example.text for example in gold]), Duplicate()))

    @classmethod
    def for_rationales(cls, targets: Mapping[str, int]) -> FilterPipeline:
        """Rules for rationales, which may name the label but must differ."""
        return cls((Schema(min_words=2, max_words=60), ContaminationFilter.of(()), Duplicate(), LabelQuota(targets)))

    def without_models(self) -> FilterPipeline:
        """Return the fast rules, for a preview while answers come in."""
        slow = (LabelCheck, NearDuplicate, SecondReading)
        return FilterPipeline(tuple(rule for rule in self.filters if not isinstance(rule, slow)))

    def judge(self, candidates: Sequence[Candidate], accepted: Sequence[GeneratedRow]) -> list[Verdict]:
        """Apply every rule to the rows that passed the earlier ones; see `Filter.judge`."""
        return self.apply_set_filters([self.apply_row_filters(candidate) for candidate in candidates], accepted)

    def apply_row_filters(self, candidate: Candidate) -> Verdict:
        """Apply the leading rules that need no other row: most of the work, done once per row."""
        verdict = Verdict(candidate)
        for rule in self._alone:
            verdict = rule.verdict(verdict.candidate)
            if not verdict.accepted:
                break
        return verdict

    def apply_set_filters(self, looked_at: Sequence[Verdict], accepted: Sequence[GeneratedRow]) -> list[Verdict]:
        """Apply the other rules to the rows that passed `apply_row_filters`, in plan order; see `Filter.judge`."""
        verdicts = list(looked_at)
        for rule in self.filters[len(self._alone) :]:
            open_positions = [i for i, verdict in enumerate(verdicts) if verdict.accepted]
            judged = rule.judge([verdicts[i].candidate for i in open_positions], accepted)
            for position, verdict in zip(open_positions, judged, strict=True):
                verdicts[position] = verdict
        return verdicts

    @cached_property
    def _alone(self) -> tuple[RowFilterBase, ...]:
        alone: list[RowFilterBase] = []
        for rule in self.filters:
            if not isinstance(rule, RowFilterBase):
                break
            alone.append(rule)
        return tuple(alone)
