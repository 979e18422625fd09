"""Generates rows until a plan has exactly its wanted number of accepted rows per label.

Requests are sent in waves. A wave asks for what each label still lacks, plus a margin for the share
of answers dropped so far; all of it is then judged in plan order. The size of a wave depends on
verdicts alone, never on time, so a resumed run plans the same waves.

The only state of a stage is the verdicts of its waves and the number of requests per label::

         ┌──────────────────────────────────────────────────────┐
         v                                                      │
    plan a wave ──> ask until every answer is there ──> judge it in plan order
         │
         └─ no label lacks rows, or none may ask for more ──> write the stage, in one transaction

None of this is stored on the way. A stopped run plans the stage again from its beginning: its answers
are in the journal, so it reaches the same verdicts and continues where it stopped.

An answer may contain several rows: each is its own candidate, in the order of the answer, with the same
key. Waves and limits count requested rows, budgets count answers.

With feedback, if most of a label's answers are dropped, the teacher is told what to avoid, see `stepsynth.generation.feedback`.

With a `MatchConfig` a stage has no target: it continues, label by label in turn, until the run has
used as many requests, tokens or dollars as another method, counted in plan order.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from stepsynth.errors import RunError, TeacherError
from stepsynth.filters.layout import Layout, cut_note, left_out_note
from stepsynth.generation.candidates import candidates_of, is_reason, lost_words
from stepsynth.generation.collecting import rarely_collected
from stepsynth.generation.feedback import Feedback, told_before
from stepsynth.generation.planned import Planned
from stepsynth.generation.preview import Preview, kept_share
from stepsynth.generation.room import thought_share
from stepsynth.generation.waves import in_turn, planned_wave
from stepsynth.journal import Spent
from stepsynth.run.stage_titles import stage_title
from stepsynth.teachers.reading import hidden_tokens
from stepsynth.types import Candidate, Response, StageKind, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepsynth.config import MatchConfig
    from stepsynth.filters import FilterPipeline
    from stepsynth.generation.client import TeacherClient
    from stepsynth.journal import Journal
    from stepsynth.methods import Plan
    from stepsynth.runtime.progress import Progress
    from stepsynth.types import GeneratedRow, Request

__all__ = ["StageGenerator"]

_FIRST_MATCHED_WAVE = 64
_MATCHED_WAVE = 512


class StageGenerator:
    """Runs generating stages.

    Args:
        client: gets the answers.
        journal: where a finished stage is written.
        max_overgeneration: most rows requested per wanted row.
        progress: told about accepted rows.
        match: the amount for the whole run to use up, instead of targets.
        layout: the layout of the task's texts.
        feedback: whether to tell the teacher what to avoid, and give up labels with almost no yield.
    """

    def __init__(
        self,
        client: TeacherClient,
        journal: Journal,
        *,
        max_overgeneration: float,
        progress: Progress,
        match: MatchConfig | None = None,
        layout: Layout | None = None,
        feedback: bool = False,
    ) -> None:
        self._client = client
        self._layout = layout or Layout()
        self._journal = journal
        self._limit = max_overgeneration
        self._progress = progress
        self._match = match
        self._feedback = feedback
        self._used = 0.0
        self._thought = 0
        self._written = 0
        self._shortened: set[tuple[str, int]] = set()

    def matched(self, plan: Plan) -> bool:
        """Whether a stage runs until the match is used up; stages of rationales do not."""
        return self._match is not None and plan.kind != StageKind.RATIONALES

    def skip_done(self, plan: Plan) -> bool:
        """Return whether a stage is done; if so, count its use towards the match."""
        done = self._journal.stage_done(plan.stage)
        if done:
            self._used += self._amount(self._journal.spent(plan.stage))
        return done

    def run(
        self,
        plan: Plan,
        round_number: int,
        pipeline: FilterPipeline,
        before: Sequence[GeneratedRow],
        facts: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """Write one stage, unless it is done.

        Args:
            plan: what to ask for.
            round_number: round of the rows.
            pipeline: the rules.
            before: rows accepted in earlier stages, in plan order.
            facts: called when the rows are judged; what it returns is stored with the stage, for the page and the results.

        Raises:
            StepsynthError: the reason the requests ended; all answers are committed.
        """
        if self.skip_done(plan):
            return
        with rarely_collected():
            self._run(plan, round_number, pipeline, before, facts)

    def _run(
        self,
        plan: Plan,
        round_number: int,
        pipeline: FilterPipeline,
        before: Sequence[GeneratedRow],
        facts: Callable[[], Mapping[str, Any]],
    ) -> None:
        started = time.monotonic()
        self._thought = self._written = 0
        self._progress.start(stage_title(plan.stage, plan.kind), sum(plan.targets.values()), "rows")
        self._progress.advance(0, traffic=self._client.traffic())
        feedback = None
        if self._feedback:
            feedback = Feedback(plan, pipeline, self._limit, told_before(self._journal.stages(), plan.kind))
        if self._match is not None and self.matched(plan):
            verdicts, missing = self._matched_waves(plan, pipeline, list(before), self._match, feedback), {}
        else:
            verdicts = self._waves(plan, pipeline, list(before), feedback)
            accepted = Counter(v.candidate.label for v in verdicts if v.accepted)
            missing = {label: target - accepted[label] for label, target in plan.targets.items() if accepted[label] < target}
        info: dict[str, Any] = {"targets": dict(plan.targets), "missing": missing, **facts()}
        stopped = feedback.stopped if feedback and missing else {}
        if feedback and feedback.told:
            info["told"] = feedback.told
        if stopped:
            info["stopped"] = stopped
        if self._thought:
            info |= {"thought_tokens": self._thought, "written_tokens": self._written}
        left_out = sum(v.accepted and (v.candidate.row.key, v.candidate.row.part) in self._shortened for v in verdicts)
        if left_out:
            info["left_out"] = left_out
        cut = sum(v.accepted and v.candidate.cut for v in verdicts) if plan.kind != StageKind.RATIONALES else 0
        if cut:
            info["cut"] = cut
        self._journal.finish_stage(plan.stage, round_number, plan.kind, verdicts, info, time.monotonic() - started)
        self._used += self._amount(self._journal.spent(plan.stage))
        summary = _summary(plan, verdicts, missing, stopped) + thought_share(self._thought, self._written)
        if left_out:
            summary += f"; {left_out_note(left_out)}"
        if cut:
            summary += f"; {cut_note(cut)}"
        self._progress.finish(summary)

    def _waves(
        self, plan: Plan, pipeline: FilterPipeline, before: list[GeneratedRow], feedback: Feedback | None
    ) -> list[Verdict]:
        verdicts: list[Verdict] = []
        asked: Counter[str] = Counter()
        while True:
            wave = planned_wave(plan, verdicts, asked, self._limit, feedback)
            if not wave:
                return verdicts
            accepted = before + [v.candidate.row for v in verdicts if v.accepted]
            live = self._preview(wave, pipeline, accepted, len(accepted) - len(before), verdicts)
            answers = self._client.run(wave, live.show)
            judged = pipeline.apply_set_filters(live.looked_at(answers, len(wave)), accepted)
            verdicts += judged
            if feedback:
                feedback.note(judged, asked)

    def _matched_waves(
        self, plan: Plan, pipeline: FilterPipeline, before: list[GeneratedRow], match: MatchConfig, feedback: Feedback | None
    ) -> list[Verdict]:
        verdicts: list[Verdict] = []
        asked: Counter[str] = Counter()
        used, each, counted = self._used, 1.0, 0
        while used < match.amount:
            # From the average use per request so far. Before the first wave it is unknown, so that wave is small, unless
            # requests are matched.
            left = math.ceil((match.amount - used) / each)
            size = min(left, _MATCHED_WAVE if verdicts or match.unit == "requests" else _FIRST_MATCHED_WAVE)
            planned = in_turn(plan, size, asked, len(verdicts), feedback)
            wave = Planned(iter(planned), len(planned))
            accepted = before + [v.candidate.row for v in verdicts if v.accepted]
            live = self._preview(wave, pipeline, accepted, len(accepted) - len(before), verdicts)
            answers = self._client.run(wave, live.show)
            # The stage ends at the request that uses up the rest, in plan order. Later answers of the wave give no rows.
            within, before_wave = 0, used
            for request in wave:
                if used >= match.amount:
                    break
                used += self._amount_of(answers.get(self._client.key(request)))
                within += 1
            if used == before_wave:
                raise _no_price()
            judged = pipeline.apply_set_filters(live.looked_at(answers, within), accepted)
            verdicts += judged
            if feedback:
                feedback.note(judged, asked)
            counted += within
            each = max((used - self._used) / counted, 1e-9)
        return verdicts

    def _preview(
        self, wave: Planned, pipeline: FilterPipeline, accepted: list[GeneratedRow], in_stage: int, verdicts: list[Verdict]
    ) -> Preview:
        return Preview(
            wave,
            pipeline.without_models(),
            accepted,
            in_stage,
            kept_share(verdicts),
            key=self._client.key,
            candidates=self._candidates,
            note=self._count,
            show=lambda rows, answers: self._progress.advance(rows, answers=answers, traffic=self._client.traffic()),
        )

    def _count(self, answer: Response | TeacherError | None) -> None:
        """Count an answer's completion tokens, and how many of them were thoughts."""
        if isinstance(answer, Response):
            self._thought += hidden_tokens(answer)
            self._written += answer.usage.completion_tokens

    def _amount(self, spent: Spent) -> float:
        if self._match is None or self._match.unit == "requests":
            return float(spent.requests)
        if self._match.unit == "tokens":
            return float(spent.tokens)
        if spent.usd is None:
            raise _no_price()
        return spent.usd

    def _amount_of(self, answer: Response | TeacherError | None) -> float:
        if not isinstance(answer, Response):
            # A failed request was sent too; in tokens or dollars it counts next to nothing.
            return self._amount(Spent(1, 1, 1e-6))
        usage = answer.usage
        return self._amount(Spent(1, usage.prompt_tokens + usage.completion_tokens, usage.cost_usd))

    def _candidates(self, request: Request, answers: dict[str, Response | TeacherError]) -> list[Candidate]:
        key = self._client.key(request)
        answer = answers.get(key)
        if not isinstance(answer, Response):
            return [Candidate.of(request, key, "")]
        found = candidates_of(self._client.config, request, key, answer, self._layout)
        said = self._client.text(answer)
        if request.parts == 1 and not (is_reason(request) or self._layout.whole) and "\n" in said.strip():
            self._shortened |= {(key, c.row.part) for c in found if lost_words(c.text, said)}
        return found


def _no_price() -> RunError:
    return RunError(
        "dollars cannot be matched: this teacher's price is unknown or zero.", hint="Match rows, requests or tokens instead."
    )


def _summary(plan: Plan, verdicts: list[Verdict], missing: dict[str, int], stopped: Mapping[str, Mapping[str, Any]]) -> str:
    accepted = sum(v.accepted for v in verdicts)
    reasons = Counter(v.reason for v in verdicts if v.reason)
    dropped = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    line = f"{accepted:,} rows accepted of {len(verdicts):,} written"
    line += f" ({dropped})" if dropped else ""
    if missing:
        line += f"; short by {sum(missing.values()):,}: " + ", ".join(f"{label} {count}" for label, count in missing.items())
    for label, found in stopped.items():
        line += f"; given up {label}: {found['good']} of {found['answers']} answers good, most of the others {found['reason']}"
    return line
