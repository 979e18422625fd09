"""A trial before a run: what the teacher knows, whether its rows fit, what labels alone give, and a decision.

    trial = Trial(config, method, inputs, answers)     # nothing is sent yet: trial.worst is the most that it may cost
    found = trial.run(sample, report)
    found["decision"]["sentence"]

Answers go into the file that runs share, as a run's do. The test set is not looked at.
"""

from __future__ import annotations

import gc
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.data import deal_folds
from stepsynth.errors import RunError, UserError
from stepsynth.filters import FilterPipeline, own_filters
from stepsynth.filters.layout import Layout
from stepsynth.generation import LLMPredictor, TeacherClient
from stepsynth.generation.candidates import candidates_of
from stepsynth.generation.room import with_room
from stepsynth.generation.waves import next_wave
from stepsynth.journal import Journal
from stepsynth.planning.decision import Evidence, Gain, Share, decide
from stepsynth.planning.plans import planning_context
from stepsynth.planning.questions import (
    Questions,
    check_caps,
    known_keys,
    reason_sample,
    row_sample,
    with_long_reasons,
    worst_case,
)
from stepsynth.planning.training_time import makes_steps, training_time
from stepsynth.run import JOURNAL
from stepsynth.run.answers import open_answers
from stepsynth.runtime.counting import counted
from stepsynth.runtime.progress import SilentProgress
from stepsynth.runtime.shutdown import check_stop
from stepsynth.students.curve import learning_curve
from stepsynth.students.judging import RowJudge
from stepsynth.teachers.completions import is_failure
from stepsynth.training.crossfit import learns_from_pool
from stepsynth.types import Candidate, DropReason, Response, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.methods import Method, Plan
    from stepsynth.run.data import RunData
    from stepsynth.runtime.progress import Pause
    from stepsynth.types import Evaluation, Example, Request

__all__ = ["Trial"]

Sample = tuple["Request", Response]
_FOUND = ("spent", "labels", "teacher", "rows", "training", "decision")


class Trial:
    """One trial.

    Args:
        config: the settled config, with a live teacher.
        method: the run's method, which asks the teacher.
        inputs: the run's data.
        answers: the file of answers that runs share, if there is one.
        sampled: how many sample rows a plan asks for before the trial.
        trainings: how many students the run trains.

    Attributes:
        worst: the most that the plan's sample and the trial cost; repeated attempts come on top, known answers are free.
    """

    def __init__(
        self, config: RunConfig, method: Method, inputs: RunData, answers: Path | None, sampled: int, trainings: int
    ) -> None:
        self._config = config
        self._trainings = trainings
        self._method = method
        self._inputs = inputs
        self._answers = answers
        self._ctx = planning_context(config, method, inputs)
        self._family = self._ctx.family
        self._gold = (*inputs.validation.harvest, *inputs.validation.select)
        self._layout = Layout.like([example.text for example in self._ctx.harvest], config.task.paragraphs)
        self._questions = Questions.of(method, inputs, self._ctx)
        asked = self._questions.at_most(method, self._ctx)
        reason, sample = reason_sample(method, self._ctx), row_sample(method, with_long_reasons(self._ctx), sampled)
        if reason is not None:
            # The plan's sample shows other reasons than the trial's rows, so it is no part of them.
            sample = [reason, *(replace(request, replicate=~number) for number, request in enumerate(sample))]
        self.worst = worst_case(config.teacher, sample, asked, self._known(asked))

    def check_caps(self) -> None:
        """Refuse a trial that may pass a cap of the config.

        Raises:
            BudgetError: it may take more than a cap allows.
        """
        check_caps(self.worst, self._config.budget)

    def untried(self) -> dict[str, Any]:
        """Return what `run` returns, with only the worst case filled in."""
        return {"worst_case": asdict(self.worst), **dict.fromkeys(_FOUND)}

    def run(self, sample: Sequence[Sample], report: Callable[[str], object]) -> dict[str, Any]:
        """Gather the evidence and decide.

        Args:
            sample: the plan's own requests with their answers, which are kept, too.
            report: called with a sentence per slow step.

        Returns:
            ``worst_case``, ``spent``, ``labels``, ``teacher``, ``rows``, ``training`` and ``decision``, see
            docs/results_json.md.

        Raises:
            TeacherError: the teacher cannot be used; what it answered is kept.
            BudgetError: a cap was reached; likewise.
            RunError: its answers cannot be used.
            Interrupted: a stop was asked for; likewise.
        """
        # The sample's engine may be in a reference cycle, and there may be no room for two.
        gc.collect()
        with tempfile.TemporaryDirectory(prefix="stepsynth-") as folder:
            shared = open_answers(self._answers, self._config.teacher, report)
            with closing(Journal(Path(folder) / JOURNAL, shared)) as journal:
                client = self._client(journal, report)
                try:
                    self._keep(client, sample)
                    report(f"Trial: the teacher labels {len(self._questions.gold):,} of your rows.")
                    answered, undecided = self._label(client)
                    written = self._write(client, report) if self._questions.writes else None
                    client.close()
                finally:
                    client.release()
                spent = _spent(journal)
        check_stop()
        judge, labels = self._labels(report)
        rows = None if written is None else self._rows(written, judge)
        found = self._evidence(answered, undecided, labels, rows)
        return {
            **self.untried(),
            "spent": spent,
            "labels": labels,
            "teacher": _teacher(answered, undecided),
            "rows": rows,
            "training": self._training(report),
            "decision": asdict(
                decide(found, len(pool.rows) if (pool := self._inputs.pool) else 0, joins=self._method.self_trains)
            ),
        }

    def _known(self, requests: Sequence[Request]) -> set[str]:
        try:
            return known_keys(self._config.teacher, requests, self._answers)
        except RunError:
            # The run and the trial itself say what is wrong with the file.
            return set()

    # asking --------------------------------------------------------------------------------

    def _client(self, journal: Journal, report: Callable[[str], object]) -> TeacherClient:
        def paused(pause: Pause | None) -> None:
            if pause is not None and pause.long:
                report(str(pause))

        return TeacherClient(self._config.teacher, journal, self._config.budget, paused=paused, note=report)

    def _keep(self, client: TeacherClient, sample: Sequence[Sample]) -> None:
        """Count and keep the plan's own sample, so that it is not asked for again."""
        ledger, price, kept = client.journal.ledger, client.budget.price, []
        for request, answer in sample:
            if answer.usage.cost_usd is None and price is not None:
                answer = replace(answer, usage=replace(answer.usage, cost_usd=price.cost(answer.usage)))
            ledger.sent += 1
            ledger.count_answer(answer.usage)
            if not is_failure(answer):
                kept.append((client.key(request), with_room(client.config, request), answer))
        client.journal.commit_answers(kept, client.identity)

    def _label(self, client: TeacherClient) -> tuple[Evaluation, int]:
        """Return the teacher's score on the gold rows, and how many it left undecided."""
        model = LLMPredictor(self._config, self._family, client, self._inputs.validation.harvest, SilentProgress())
        gold = self._questions.gold
        return self._family.evaluate(gold, model.predict(gold)), model.undecided

    def _write(self, client: TeacherClient, report: Callable[[str], object]) -> list[Verdict]:
        """Return the verdicts on the sample rows."""
        ctx = self._ctx
        if self._questions.reasons is not None:
            reasons = self._reasons(client, self._questions.reasons, report)
            ctx = replace(ctx, rationales=lambda: reasons)
        requests = self._questions.row_requests(self._method, ctx)
        report(f"Trial: the teacher writes sample rows ({counted(len(requests), 'request')}).")
        rules = FilterPipeline.for_rows(
            self._config.task,
            self._gold,
            self._ctx.harvest,
            None,
            own=own_filters(self._config.filters, self._config.given_filters or ()),
            near_duplicates=self._config.method.row_similarity,
            wording=self._ctx.prompts.wording,
        )
        return self._judged(client, requests, rules, [])

    def _reasons(self, client: TeacherClient, plan: Plan, report: Callable[[str], object]) -> dict[str, list[str]]:
        """Return the accepted reasons by label; waves are those of a run, up to the most requests of a trial."""
        labels, most = self._questions.reason_labels(self._config), self._questions.most_reasons
        report("Trial: the teacher gives reasons for the rows.")
        rules, verdicts, asked = FilterPipeline.for_rationales(plan.targets), list[Verdict](), Counter[str]()
        while most > 0:
            wave = next_wave(plan, verdicts, asked, self._config.method.max_overgeneration)
            wave = [request for request in wave if request.label in labels][:most]
            if not wave:
                break
            most -= len(wave)
            verdicts += self._judged(client, wave, rules, verdicts)
        accepted = [verdict.candidate for verdict in verdicts if verdict.accepted]
        return {label: [c.text for c in accepted if c.label == label] for label in self._config.task.labels or [""]}

    def _judged(
        self, client: TeacherClient, requests: Sequence[Request], rules: FilterPipeline, before: Sequence[Verdict]
    ) -> list[Verdict]:
        """Ask, and return the verdicts of the rules on the rows in the answers."""
        answers = client.run(requests)
        looked_at: list[Verdict] = []
        for request in requests:
            key = client.key(request)
            answer = answers.get(key)
            if isinstance(answer, Response):
                found = candidates_of(client.config, request, key, answer, self._layout)
                looked_at += map(rules.apply_row_filters, found)
            else:
                looked_at.append(Verdict(Candidate.of(request, key, ""), DropReason.FAILED))
        return rules.apply_set_filters(looked_at, [verdict.candidate.row for verdict in before if verdict.accepted])

    # judging -------------------------------------------------------------------------------

    def _labels(self, report: Callable[[str], object]) -> tuple[RowJudge | None, dict[str, Any] | None]:
        """Return a probe of the gold rows, and its score and learning curve; nothing for questions."""
        if self._family.spans:
            return None, None
        report("Trial: a linear probe learns from your rows.")
        folds = deal_folds(self._gold, self._config.method.folds, self._config.seed)
        judge = RowJudge(self._config.student, self._family, self._gold, folds.gold)
        curve = learning_curve(self._config.student, self._family, self._gold, folds.gold)
        share = None if judge.right is None else Share.of(judge.right, len(self._gold))
        return judge, {
            "right": judge.right,
            "of": len(self._gold),
            "value": share and share.value,
            "ci95": share and list(share.ci95),
            "curve": curve,
        }

    def _training(self, report: Callable[[str], object]) -> dict[str, Any] | None:
        """Return how long the run trains, see `training_time`; nothing without students that make steps."""
        method, inputs, final = self._method, self._inputs, self._config.method.final
        if not self._trainings or not makes_steps(self._config):
            return None
        report("Trial: the student makes six steps, to estimate the time of all trainings.")
        written, gold = (len(inputs.seed) or self._config.method.seed_rows) if method.asks else 0, len(self._gold)
        pool = inputs.pool if method.self_trains and learns_from_pool(final, writes=method.asks) else None
        if method.crossfits:
            # The largest of its data sets; not every student learns from the pool.
            parts = [written + (len(pool.rows) if pool else 0), gold]
        else:
            parts = [written * (method.student != "gold") + gold * (method.student in ("gold", "both"))]
        try:
            found = training_time(self._config, self._gold, trainings=self._trainings, parts=parts)
        except UserError as error:
            # What the teacher answered is paid for, and says whether to begin; the run will stop at this.
            report(f"Trial: the student cannot be trained: {error.message}")
            return None
        return found and {**found, "pool": pool is not None}

    def _rows(self, verdicts: Sequence[Verdict], judge: RowJudge | None) -> dict[str, Any]:
        """Return how many sample rows passed the filters, and how many of those fit their labels."""
        accepted = [verdict.candidate.row.example for verdict in verdicts if verdict.accepted]
        dropped = Counter(verdict.reason for verdict in verdicts if verdict.reason)
        known: list[tuple[Example, bool]] = []
        if judge is not None:
            known = [(row, fits) for row, fits in zip(accepted, judge.fits(accepted), strict=True) if fits is not None]
        fitting = Share.of(sum(fits for _, fits in known), len(known))
        commonest = max(Counter(row.label for row, _ in known).values(), default=0)
        return {
            "written": len(verdicts),
            "accepted": len(accepted),
            "dropped": dict(dropped.most_common()),
            "judged": len(known) if judge is not None else None,
            "fitting": fitting and fitting.count,
            "value": fitting and fitting.value,
            "ci95": fitting and list(fitting.ci95),
            "limit": judge and judge.limit([row for row, _ in known]),
            "chance": commonest / len(known) if known else None,
            "examples": [self._family.record(row) for row in accepted],
        }

    def _evidence(
        self, answered: Evaluation, undecided: int, labels: dict[str, Any] | None, rows: dict[str, Any] | None
    ) -> Evidence:
        # A score of guesses says nothing about the teacher.
        known = _knowledge(answered) if 2 * undecided <= answered.n else None
        found = Evidence(known, judges=not self._family.spans, undecided=undecided)
        if rows is not None:
            found = replace(
                found,
                accepted=Share.of(rows["accepted"], rows["written"]),
                fits=Share.of(rows["fitting"], rows["judged"]) if rows["judged"] else None,
                limit=rows["limit"],
                chance=rows["chance"] or 0.0,
            )
        if labels is not None:
            curve, commonest = labels["curve"], max(Counter(row.label for row in self._gold).values())
            found = replace(
                found,
                labels=Share.of(labels["right"], labels["of"]) if labels["right"] is not None else None,
                guess=commonest / len(self._gold),
                gain=Gain(curve["more"], curve["gain"], tuple(curve["gain_ci95"])) if curve else None,
            )
        return found


def _knowledge(answered: Evaluation) -> Share:
    """Return the F1 of answers to questions if there is one, otherwise the score."""
    if "f1" in answered.details:
        return Share(answered.details["f1"], tuple(answered.details["f1_ci95"]), answered.n)
    return Share(answered.value, answered.ci95, answered.n)


def _teacher(answered: Evaluation, undecided: int) -> dict[str, Any]:
    interval = answered.details.get("f1_ci95")
    return {
        "metric": answered.metric,
        "value": answered.value,
        "ci95": list(answered.ci95),
        "n": answered.n,
        "f1": answered.details.get("f1"),
        "f1_ci95": interval and list(interval),
        "undecided": undecided,
    }


def _spent(journal: Journal) -> dict[str, Any]:
    """Return what was really sent and paid; what may have been billed without an answer counts at its worst case."""
    ledger = journal.ledger
    usd = None if ledger.unpriced else ledger.spent.usd
    return {"requests": ledger.spent.sends, "tokens": ledger.spent.tokens, "usd": usd}
