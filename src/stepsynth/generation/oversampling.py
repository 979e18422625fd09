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
from itertools import islice
from typing import TYPE_CHECKING, Any

from stepsynth.errors import RunError, TeacherError
from stepsynth.filters.layout import Layout, cut_note, left_out_note
from stepsynth.filters.normalise import clean
from stepsynth.filters.parts import split_parts
from stepsynth.generation.collecting import rarely_collected
from stepsynth.generation.feedback import Feedback, told_before
from stepsynth.generation.planned import Planned
from stepsynth.generation.room import thought_share
from stepsynth.journal import Spent
from stepsynth.teachers.reading import hidden_tokens
from stepsynth.types import Candidate, DropReason, Response, StageKind, Verdict
from stepsynth.words import count_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stepsynth.config import MatchConfig
    from stepsynth.filters import FilterPipeline
    from stepsynth.generation.client import TeacherClient
    from stepsynth.journal import Journal
    from stepsynth.methods import Plan
    from stepsynth.runtime.progress import Progress
    from stepsynth.types import GeneratedRow, Request

__all__ = ["StageGenerator", "candidates_of", "next_wave"]

_FIRST_MARGIN = 1.1
_LATER_MARGIN = 1.1
_FIRST_MATCHED_WAVE = 64
_MATCHED_WAVE = 512
# Previews of accepted rows are only for display and may take this share of the time.
_LIVE_SHARE = 0.05


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
        self._progress.start(plan.stage, sum(plan.targets.values()), "rows")
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
            wave = _planned(plan, verdicts, asked, self._limit, feedback)
            if not wave:
                return verdicts
            accepted = before + [v.candidate.row for v in verdicts if v.accepted]
            live = _ProgressPreview(self, wave, pipeline.without_models(), accepted, len(accepted) - len(before), _kept(verdicts))
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
            planned = _in_turn(plan, size, asked, len(verdicts), feedback)
            wave = Planned(iter(planned), len(planned))
            accepted = before + [v.candidate.row for v in verdicts if v.accepted]
            live = _ProgressPreview(self, wave, pipeline.without_models(), accepted, len(accepted) - len(before), _kept(verdicts))
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
        said = self._client.text(answer)
        found = candidates_of(request, key, answer, said, self._layout)
        if request.parts == 1 and not (_is_reason(request) or self._layout.whole) and "\n" in said.strip():
            self._shortened |= {(key, c.row.part) for c in found if _lost_words(c.text, said)}
        return found


def candidates_of(request: Request, key: str, answer: Response, said: str, layout: Layout) -> list[Candidate]:
    """Return the rows in an answer: at least one, at most as many as were requested.

    Args:
        request: the request.
        key: its key.
        answer: the answer.
        said: its text, without thoughts and the like.
        layout: the layout of the task's texts.
    """
    # A reason is a few words, often without a full stop; if cut off, it is still usable.
    reason = _is_reason(request)
    cut = answer.finish_reason == "length"
    layout = Layout(titles=False) if reason else layout
    if request.parts == 1:
        return [Candidate.of(request, key, clean(said, truncated=cut and not reason, layout=layout), answer.finish_reason)]
    # A list of empty items is one empty row, so that every request is accounted for.
    parts = split_parts(said, cut=cut, paragraphs=layout.whole)[: request.parts] or [""]
    alone = cut and not reason and len(parts) == 1
    # split_parts has left out the part that was cut off; the others are whole.
    ended = "stop" if cut and not alone else answer.finish_reason
    return [Candidate.of(request, key, clean(p, truncated=alone, layout=layout), ended, i) for i, p in enumerate(parts)]


def _is_reason(request: Request) -> bool:
    return request.stage.endswith(StageKind.RATIONALES)


def _lost_words(text: str, said: str) -> bool:
    """Whether most of an answer is missing from its text; the model's remarks about the text do not count."""
    return 2 * count_words(text) < count_words(clean(said, layout=Layout(whole=True)))


def _no_price() -> RunError:
    return RunError(
        "dollars cannot be matched: this teacher's price is unknown or zero.", hint="Match rows, requests or tokens instead."
    )


def _in_turn(plan: Plan, size: int, asked: Counter[str], first: int, feedback: Feedback | None) -> list[Request]:
    """Return the next ``size`` requests, with labels in proportion to their targets."""
    request = (feedback or plan).request
    wave: list[Request] = []
    while len(wave) < size:
        label = min(plan.targets, key=lambda name: (asked[name] + 1) / max(plan.targets[name], 1e-9))
        wave.append(request(label, asked[label], first + len(wave)))
        asked[label] += 1
    return wave


def next_wave(
    plan: Plan, verdicts: Sequence[Verdict], asked: Counter[str], max_overgeneration: float, feedback: Feedback | None = None
) -> list[Request]:
    """Return the requests of the next wave, labels in turn; empty if no label lacks rows or may ask for more.

    Args:
        plan: the stage's plan.
        verdicts: of the stage's earlier waves, in plan order.
        asked: requests so far by label; the new ones are added.
        max_overgeneration: most rows requested per wanted row.
        feedback: the stage's feedback, if it is on.
    """
    return list(_planned(plan, verdicts, asked, max_overgeneration, feedback))


def _planned(
    plan: Plan, verdicts: Sequence[Verdict], asked: Counter[str], max_overgeneration: float, feedback: Feedback | None
) -> Planned:
    """Return the requests of the next wave, made when they are needed; ``asked`` counts all of them at once."""
    accepted = Counter(v.candidate.label for v in verdicts if v.accepted)
    good = Counter(v.candidate.label for v in verdicts if v.reason in ("", DropReason.SURPLUS))
    counts: dict[str, int] = {}
    for label, target in plan.targets.items():
        lacking = target - accepted[label]
        if lacking <= 0 or (feedback and label in feedback.stopped):
            continue
        parts = plan.request(label, asked[label], len(verdicts)).parts
        rows = asked[label] * parts
        # Answers from before the latest advice do not predict the next ones.
        asked_then, good_then = feedback.since(label) if feedback else (0, 0)
        seen = rows - asked_then * parts
        # Laplace's rule keeps the share above 0 and cautious after small waves.
        # With several rows per answer, a margin would cost every label another answer.
        first = 1 / _FIRST_MARGIN if parts == 1 else 1.0
        share = (good[label] - good_then + 1) / (seen + 2) if rows else first
        want = math.ceil(lacking / share * (_LATER_MARGIN if rows else 1.0))
        if feedback:
            want = min(want, feedback.most_rows(label, asked[label]))
        left = math.ceil(target * max_overgeneration) - rows
        counts[label] = max(0, math.ceil(min(want, left) / parts))
    begun = {label: asked[label] for label in counts}
    asked.update(counts)
    requests = _by_turns((feedback or plan).request, counts, begun, len(verdicts))
    return Planned(requests, sum(counts.values()))


def _by_turns(
    request: Callable[[str, int, int], Request], counts: Mapping[str, int], begun: Mapping[str, int], first: int
) -> Iterator[Request]:
    """Yield a wave's requests; labels take turns, so that a stage stopped by a cap is still balanced."""
    index = first
    for turn in range(max(counts.values(), default=0)):
        for label, count in counts.items():
            if turn < count:
                yield request(label, begun[label] + turn, index)
                index += 1


class _ProgressPreview:
    """Previews accepted rows while a wave is in flight, by applying the quick rules to answers as they come.

    The share that the slower rules keep is estimated from the stage's earlier waves. The wave itself is
    judged when it is complete, in plan order; the row filters run only once per row.
    """

    def __init__(
        self,
        generator: StageGenerator,
        wave: Planned,
        pipeline: FilterPipeline,
        accepted: list[GeneratedRow],
        in_stage: int,
        kept: float,
    ) -> None:
        self._generator = generator
        self._wave = wave
        self._pipeline = pipeline
        self._accepted = list(accepted)
        self._in_stage = in_stage
        self._kept = kept
        self._passed = 0
        self._next = 0.0
        # States of a request: open until its answer comes, then looked at (once), and new until `show` has counted it.
        self._looked_at: dict[int, list[Verdict]] = {}
        self._new: list[int] = []
        self._answers_seen = 0
        self._open: dict[str, list[int]] = {}
        self._counted: set[str] = set()
        self._indexed = 0

    def _index(self) -> None:
        """Open the requests that were planned since the last call."""
        made = self._wave.made
        for position in range(self._indexed, len(made)):
            self._open.setdefault(self._generator._client.key(made[position]), []).append(position)
        self._indexed = len(made)

    def show(self, answers: dict[str, Response | TeacherError]) -> None:
        """Judge new answers and show the number of rows."""
        self._index()
        self._look(list(islice(answers, self._answers_seen, None)), answers)
        self._answers_seen = len(answers)
        started = time.monotonic()
        if started >= self._next:
            new = [verdict for position in sorted(self._new) for verdict in self._looked_at[position]]
            self._new.clear()
            passed = [v.candidate.row for v in self._pipeline.apply_set_filters(new, self._accepted) if v.accepted]
            self._accepted += passed
            self._passed += len(passed)
            self._next = time.monotonic() + (time.monotonic() - started) / _LIVE_SHARE
        rows = self._in_stage + round(self._kept * self._passed)
        self._generator._progress.advance(rows, answers=len(answers), traffic=self._generator._client.traffic())

    def looked_at(self, answers: dict[str, Response | TeacherError], requests: int) -> list[Verdict]:
        """Return the verdicts of `FilterPipeline.apply_row_filters` on the wave's first requests, in plan order."""
        self._index()
        self._look(list(self._open), answers)
        return [verdict for position in range(requests) for verdict in self._looked_at[position]]

    def _look(self, keys: list[str], answers: dict[str, Response | TeacherError]) -> None:
        """Apply the row filters, once per row."""
        for key in keys:
            failed = isinstance(answers.get(key), TeacherError)
            if key not in self._counted:
                self._counted.add(key)
                self._generator._count(answers.get(key))
            for position in self._open.pop(key, ()):
                found = self._generator._candidates(self._wave[position], answers)
                self._looked_at[position] = [
                    Verdict(c, DropReason.FAILED) if failed else self._pipeline.apply_row_filters(c) for c in found
                ]
                self._new.append(position)


def _kept(verdicts: list[Verdict]) -> float:
    """Return the share of rows that the slower rules have kept so far, by Laplace's rule."""
    accepted = sum(verdict.accepted for verdict in verdicts)
    slow = (DropReason.LABEL_IN_DOUBT, DropReason.NEAR_DUPLICATE, DropReason.READ_OTHERWISE)
    doubted = sum(verdict.reason in slow for verdict in verdicts)
    return (accepted + 2) / (accepted + doubted + 2)


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
