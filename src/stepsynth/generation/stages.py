"""Stages that write rows: turns plans into accepted rows, by rules based on the run's gold rows.

runner = StageRunner(config, journal, client, ctx.harvest, progress, check_labels=True)
runner.take(inputs.seed)  # the user's own rows are the first stage
runner.write(plan, 0)

A finished stage is skipped, so the same calls resume a stopped run.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from stepsynth.errors import RunError
from stepsynth.evaluation.statistics import wilson
from stepsynth.filters import FilterPipeline, own_filters
from stepsynth.filters.label_check import LabelCheck
from stepsynth.filters.layout import Layout
from stepsynth.filters.second_reading import SecondReading
from stepsynth.generation.annotating import annotate
from stepsynth.generation.oversampling import StageGenerator
from stepsynth.generation.second_reading import TeacherReader
from stepsynth.methods.annotate import AnnotatePlan
from stepsynth.prompts import Prompts
from stepsynth.registry import METHODS
from stepsynth.students.probe import LinearProbe
from stepsynth.tasks import create_family
from stepsynth.types import Candidate, GeneratedRow, StageKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import RunConfig
    from stepsynth.generation.client import TeacherClient
    from stepsynth.journal import Journal
    from stepsynth.methods import Plan
    from stepsynth.runtime.progress import Progress
    from stepsynth.types import Example

__all__ = ["StageRunner"]


class StageRunner:
    """Writes the stages of a run one after the other.

    Args:
        config: the run's config.
        journal: has the gold rows and earlier rows, and receives the stages.
        client: gets the answers.
        harvest: the gold rows that written rows should resemble.
        progress: told about accepted rows.
        check_labels: whether a probe trained on these gold rows checks labels.
    """

    def __init__(
        self,
        config: RunConfig,
        journal: Journal,
        client: TeacherClient,
        harvest: Sequence[Example],
        progress: Progress,
        *,
        check_labels: bool,
    ) -> None:
        self._config = config
        self._journal = journal
        self._client = client
        self._progress = progress
        self._harvest = harvest
        self._check_labels = check_labels
        self._gold = [*journal.gold("harvest"), *journal.gold("select")]
        self._checked: tuple[LabelCheck | None, dict[str, Any]] | None = None
        self._generator = StageGenerator(
            client,
            journal,
            max_overgeneration=config.method.max_overgeneration,
            progress=progress,
            match=config.method.match,
            feedback=config.method.feedback == "drops",
            layout=Layout.like([example.text for example in self._harvest], config.task.paragraphs),
        )

    def take(self, rows: Sequence[Example]) -> None:
        """Write the user's own rows, if any, as the first stage."""
        stage = "round-0/import"
        if not rows or self._journal.stage_done(stage):
            return
        started = time.monotonic()
        verdicts = FilterPipeline.for_given(self._gold).judge([_brought(stage, place, row) for place, row in enumerate(rows)], [])
        info: dict[str, Any] = {"targets": {}, "missing": {}}
        self._journal.finish_stage(stage, 0, StageKind.IMPORT, verdicts, info, time.monotonic() - started)
        self._progress.note(f"{sum(v.accepted for v in verdicts):,} of {len(verdicts):,} given rows taken as the seed.")

    def write(self, plan: Plan, number: int) -> str:
        """Write one stage of a round, unless it is done; return its name."""
        if self._generator.skip_done(plan):
            return plan.stage
        self._refuse_late(plan.stage, number)
        # The plans of a user's method are wrapped.
        if isinstance(texts := getattr(plan, "plan", plan), AnnotatePlan):
            annotate(texts, number, self._client, self._journal, create_family(self._config.task), self._progress)
        elif plan.kind == StageKind.RATIONALES:
            self._generator.run(plan, number, FilterPipeline.for_rationales(plan.targets), [])
        else:
            check, facts = self._label_check()
            reading, reader = self._second_reading()
            rules = FilterPipeline.for_rows(
                self._config.task,
                self._gold,
                self._harvest,
                None if self._generator.matched(plan) else plan.targets,
                own=own_filters(self._config.filters, self._config.given_filters or ()),
                label_check=check,
                near_duplicates=self._config.method.row_similarity,
                second_reading=reading,
                wording=Prompts(self._config.task).wording,
            )

            def told() -> dict[str, Any]:
                return {**facts, **({"second_reading": {**reading.counts, **reader.cost()}} if reading and reader else {})}

            self._generator.run(plan, number, rules, self._journal.dataset(number), told)
        return plan.stage

    def _refuse_late(self, stage: str, number: int) -> None:
        """Refuse a stage that a user's method newly yields in a round whose student is already trained."""
        method = self._config.method.name
        if method not in METHODS.built_in and any(
            self._journal.stage_done(f"round-{number}/{training}") for training in ("train", "crossfit", "fold-0")
        ):
            raise RunError(
                f"the method {method!r} now yields the stage {stage!r}, but round {number}'s student was trained without it.",
                hint="Restore the code that the run began with, or start a new run in another folder.",
            )

    def rest(self) -> None:
        """Free an engine's memory before training: it saves gigabytes and costs seconds to reopen."""
        self._client.rest()

    def _label_check(self) -> tuple[LabelCheck | None, dict[str, Any]]:
        """Return the label check and facts about it to store; it is fitted once, before the first rows are judged.

        Its probe is trained on the harvest half. There is no check if it is off, if the family has no single label, or
        if the probe is no better than always guessing the most frequent label.
        """
        if self._checked is None:
            wanted = self._check_labels and create_family(self._config.task).one_label
            self._checked = self._fit_label_check() if wanted else (None, {})
        return self._checked

    def _second_reading(self) -> tuple[SecondReading | None, TeacherReader | None]:
        """Return the second reading of a stage, if it is on, and what asks for it."""
        wanted = self._config.method.second_reading
        if wanted == "none":
            return None, None
        family = create_family(self._config.task)
        reader = TeacherReader(self._config, family, self._client)
        return SecondReading(reader, family, relabels=wanted == "relabel"), reader

    def _fit_label_check(self) -> tuple[LabelCheck | None, dict[str, Any]]:
        probe = LinearProbe(self._config.student, create_family(self._config.task), self._harvest)
        low, _ = wilson(probe.correct, probe.n)
        used = low > max(Counter(example.label for example in self._harvest).values()) / len(self._harvest)
        if not used:
            right = f"{probe.correct} of {probe.n} harvest rows right in cross-validation"
            self._progress.note(f"No label check: {right} is too few to be useful.")
        facts = {"label_check": {"used": used, "right": probe.correct, "of": probe.n}}
        return (LabelCheck(probe, self._config.method.label_check_ratio) if used else None), facts


def _brought(stage: str, position: int, row: Example) -> Candidate:
    answer = row.answers[0] if row.answers else None
    return Candidate(GeneratedRow(stage, position, "", row.label, None, row.text, row.context, answer))
