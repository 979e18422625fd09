"""The S3 loop (Wang, Zhou and Sachan, "Let's Synthesize Step by Step", arXiv 2310.13671).

    seed data with rationales -> train -> mistakes -> extrapolation -> train -> ...

Every stage asks the journal whether it is done, so calling `run_loop` again goes on where it
was. Mistakes come from the harvest half, checkpoints and the best round from the select half,
and the sealed test set is opened once, when nothing can be decided any more.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepsynth.assets import resolve
from stepsynth.data import SealedTest, Validation, load_validation
from stepsynth.errors import RunError
from stepsynth.evaluation.metrics import evaluate_classification
from stepsynth.evaluation.statistics import wilson
from stepsynth.executor import Executor, Generator
from stepsynth.filters import Hygiene
from stepsynth.interrupt import check_stop
from stepsynth.methods.extrapolation import ExtrapolationPlan
from stepsynth.methods.seed import RationalePlan, SeedPlan
from stepsynth.progress import Progress, SilentProgress
from stepsynth.prompts import Prompts
from stepsynth.students import Student, create_student
from stepsynth.students.probe import LinearProbe
from stepsynth.types import Candidate, Example, Message, Mistake, Request, Sampling, digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import RunConfig
    from stepsynth.data import SealedInfo
    from stepsynth.journal import Journal, Row
    from stepsynth.run import RunDirectory
    from stepsynth.students import Model
    from stepsynth.teachers import AsyncTeacher, BatchTeacher

__all__ = ["Inputs", "best_round", "check_inputs", "find_mistakes", "run_loop"]


@dataclass(frozen=True)
class Inputs:
    """What was checked before anything is spent.

    Attributes:
        validation: the harvest and the select half.
        test: the sealed test set, or ``None``.
        sealed: its size and digest; no text of it.
    """

    validation: Validation
    test: SealedTest | None
    sealed: SealedInfo | None

    def facts(self) -> dict[str, str]:
        """Return what must not change between two attempts at one run."""
        rows = [[e.text, e.label] for e in (*self.validation.harvest, *self.validation.select)]
        return {"validation_sha256": digest(rows), "test_sha256": self.sealed.sha256 if self.sealed else ""}


def check_inputs(config: RunConfig, progress: Progress | None = None) -> Inputs:
    """Check data, prompts and the student's base model.

    Raises:
        UserError: the first thing that is wrong, in one line.
    """
    Prompts(config.task).check()
    validation = load_validation(config)
    test = SealedTest(config) if config.data.test else None
    sealed = test.inspect() if test else None
    resolve(config.student.model, kind="student", report=progress.note if progress else None)
    return Inputs(validation, test, sealed)


def run_loop(
    directory: RunDirectory,
    journal: Journal,
    inputs: Inputs,
    *,
    teacher: AsyncTeacher | BatchTeacher | None = None,
    student: Student | None = None,
    progress: Progress | None = None,
) -> None:
    """Run every stage that is not done yet.

    Args:
        directory: the open run.
        journal: its journal.
        inputs: from `check_inputs`.
        teacher: instead of the configured one.
        student: instead of the configured one.
        progress: told what happens.

    Raises:
        StepsynthError: whatever stopped it; everything obtained is kept.
    """
    config, progress = directory.config, progress or SilentProgress()
    _begin(journal, inputs)
    executor = Executor(config.teacher, journal, config.budget, teacher=teacher)
    generator = Generator(executor, journal, max_overgeneration=config.method.max_overgeneration, progress=progress)
    classroom = _Classroom(directory, journal, student or create_student(config), progress)
    prompts, harvest = Prompts(config.task), journal.gold("harvest")
    gold = [*harvest, *journal.gold("select")]

    # 1. Seed data: reasons per label, then texts that show them.
    reasons = RationalePlan(config, prompts)
    generator.run(reasons, 0, Hygiene.for_rationales(reasons.targets), [])
    seed = SeedPlan(config, prompts, _rationales(journal, config))
    judge, facts = _label_judge(config, journal, harvest, progress)
    ratio = config.method.label_check_ratio
    generator.run(seed, 0, Hygiene.for_rows(gold, harvest, seed.targets, config.task.labels, judge, ratio), [], facts)
    classroom.train(0)

    # 2. Rounds: the mistakes on the harvest half become new rows with their gold labels.
    for round_number in range(1, config.method.extrapolation_rounds + 1):
        mistakes = find_mistakes(journal, round_number - 1)
        if not mistakes:
            progress.note("No mistakes left on the harvest half: the loop ends here.")
            break
        plan = ExtrapolationPlan(config, prompts, mistakes, harvest, round_number)
        rules = Hygiene.for_rows(gold, harvest, plan.targets, config.task.labels, judge, ratio)
        generator.run(plan, round_number, rules, _candidates(journal, round_number - 1))
        # 3. Train from scratch on everything so far.
        classroom.train(round_number)

    # 4. Nothing is decided after this line.
    executor.close()
    classroom.final_test(inputs)
    journal.finish()


def _label_judge(
    config: RunConfig, journal: Journal, harvest: Sequence[Example], progress: Progress
) -> tuple[LinearProbe | None, dict[str, Any]]:
    """Return a probe fitted on the harvest half, and what to note of it.

    There is none when it is off, when nothing is left to judge, or when it is no better than chance.
    """
    if config.method.label_check == "none" or journal.meta("finished"):
        return None, {}
    probe = LinearProbe(config.student, harvest)
    low, _ = wilson(probe.correct, probe.n)
    used = low > max(Counter(example.label for example in harvest).values()) / len(harvest)
    if not used:
        progress.note(
            f"No label check: {probe.correct} of {probe.n} harvest rows right in cross-validation is too few to tell labels."
        )
    return (probe if used else None), {"label_check": {"used": used, "right": probe.correct, "of": probe.n}}


def best_round(journal: Journal) -> int:
    """Return the round whose student did best on the select half; of equals the latest."""
    return max(journal.rounds(), key=lambda r: (_select_score(journal, r), r))


def find_mistakes(journal: Journal, round_number: int) -> list[Mistake]:
    """Return the harvest rows that a round's student got wrong, in order (S3, section 3.2)."""
    gold = {example.id: example for example in journal.gold("harvest")}
    return [
        Mistake(gold[prediction.example_id], prediction.label, prediction.probabilities[prediction.label])
        for prediction, label in journal.predictions(round_number, "harvest")
        if prediction.label != label
    ]


class _Classroom:
    """Trains, evaluates and finally tests students."""

    def __init__(self, directory: RunDirectory, journal: Journal, student: Student, progress: Progress) -> None:
        self._directory = directory
        self._journal = journal
        self._student = student
        self._progress = progress
        self._labels = list(directory.config.task.labels)
        self._stage = ""

    def train(self, round_number: int) -> None:
        """Train a round's student from scratch and write what it predicts on both halves."""
        stage = f"round-{round_number}/train"
        done = self._journal.stage_done(stage)
        if done and self._directory.model_whole(round_number):
            return
        check_stop()
        started = time.monotonic()
        model, rows = self._fit(round_number, stage)
        if done:
            return
        results = {}
        for split in ("harvest", "select"):
            examples = self._journal.gold(split)
            predictions = model.predict(examples)
            results[split] = (evaluate_classification(examples, predictions, self._labels), predictions, examples)
        self._journal.finish_training(stage, round_number, results, {"rows": rows}, time.monotonic() - started)
        harvest, select = results["harvest"][0], results["select"][0]
        self._progress.finish(f"trained on {rows:,} rows: select {100 * select.value:.1f}, harvest {100 * harvest.value:.1f}")

    def _fit(self, round_number: int, stage: str) -> tuple[Model, int]:
        rows = [Example(f"{row.stage}/{row.position}", row.text, row.label) for row in self._journal.dataset(round_number)]
        if self._directory.model_whole(round_number):
            return self._student.load(self._directory.model_path(round_number)), len(rows)
        if len({row.label for row in rows}) < 2:
            raise RunError(
                f"{len(rows)} usable rows with fewer than two labels: there is nothing to train on.",
                hint="See `stepsynth status` for why rows were dropped; describe the labels better, or use a stronger teacher.",
            )
        self._stage = stage
        part = self._directory.new_model_folder(round_number)
        self._student.fit(rows, self._journal.gold("select"), seed=self._directory.config.seed, out=part, progress=self._step)
        # Predictions come from the files that are kept, not from the model that was in memory.
        return self._student.load(self._directory.keep_model(part, round_number)), len(rows)

    def _step(self, done: int, steps: int) -> None:
        check_stop()
        if self._stage:
            self._progress.start(self._stage, steps, "steps")
            self._stage = ""
        self._progress.advance(done)

    def final_test(self, inputs: Inputs) -> None:
        """Open the sealed test set, once, and score the student of every round on it."""
        if inputs.test is None or inputs.sealed is None or self._journal.stage_done("test"):
            return
        check_stop()
        started = time.monotonic()
        rounds = self._journal.rounds()
        self._progress.start("test", len(rounds), "students")
        examples = inputs.test.open(inputs.sealed.sha256)
        scores = {}
        for round_number in rounds:
            check_stop()
            model = self._student.load(self._directory.model_path(round_number))
            predictions = model.predict(examples)
            scores[round_number] = (evaluate_classification(examples, predictions, self._labels), predictions, examples)
            self._progress.advance(len(scores))
        self._journal.finish_test("test", rounds[-1], scores, {"rows": len(examples)}, time.monotonic() - started)
        best = best_round(self._journal)
        self._progress.finish(
            f"round {best}, chosen by the select half: {100 * scores[best][0].value:.1f} on {len(examples):,} sealed rows"
        )


def _begin(journal: Journal, inputs: Inputs) -> None:
    """Write the gold rows and facts, or check that they are those that the run began with."""
    facts = inputs.facts()
    if journal.meta("validation_sha256") is None:
        journal.start(facts, {"harvest": inputs.validation.harvest, "select": inputs.validation.select})
    for name, value in facts.items():
        if journal.meta(name) != value:
            raise RunError(
                f"the {name.split('_')[0]} rows are not those that this run began with.",
                hint="Put the old file back, or give another --out: nothing was touched.",
            )


def _rationales(journal: Journal, config: RunConfig) -> dict[str, list[str]]:
    rows = journal.rows(stage="round-0/rationales", accepted=True)
    return {label: [row.text for row in rows if row.label == label] for label in config.task.labels}


def _candidates(journal: Journal, upto_round: int) -> list[Candidate]:
    """Return the accepted rows of earlier rounds in the form that filters compare with."""
    return [_as_candidate(row) for row in journal.dataset(upto_round)]


def _as_candidate(row: Row) -> Candidate:
    request = Request((Message("user", ""),), Sampling(), 0, row.stage, row.position, row.label, row.source)
    return Candidate(request, row.key, row.text)


def _select_score(journal: Journal, round_number: int) -> float:
    evaluation = journal.evaluation(round_number, "select")
    return evaluation.value if evaluation else 0.0
