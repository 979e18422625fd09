"""The S3 loop (Wang, Zhou and Sachan, "Let's Synthesize Step by Step", arXiv 2310.13671).

    seed data with rationales -> train -> mistakes -> extrapolation -> train -> ...

Every stage asks the journal whether it is done, so calling `run_loop` again goes on where it
was. Mistakes come from the harvest half, checkpoints and the best round from the select half,
and the sealed test set is opened once, when nothing can be decided any more. The baselines take
the same way with fewer stages; with cross-fitting every gold row takes the place of both halves.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from stepsynth.classroom import Classroom, CrossFit, best_round, find_mistakes
from stepsynth.data import deal_folds
from stepsynth.errors import RunError
from stepsynth.evaluation.statistics import wilson
from stepsynth.evaluation.stopping import should_stop
from stepsynth.executor import Executor, Generator, TeacherModel
from stepsynth.filters import Hygiene
from stepsynth.filters.layout import Layout
from stepsynth.inputs import Inputs, check_inputs
from stepsynth.journal.stream import repeated_answer
from stepsynth.methods import Lab, create_method
from stepsynth.progress import Progress, SilentProgress
from stepsynth.prompts import Prompts
from stepsynth.students import Student, create_student
from stepsynth.students.probe import LinearProbe
from stepsynth.tasks import create_family
from stepsynth.types import Candidate, Message, Request, Sampling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.data import Folds
    from stepsynth.journal import Journal, Row
    from stepsynth.methods import Method, Plan
    from stepsynth.run import RunDirectory
    from stepsynth.teachers import AsyncTeacher, EngineTeacher
    from stepsynth.types import Example

__all__ = ["Inputs", "best_round", "check_inputs", "find_mistakes", "run_loop"]


def run_loop(
    directory: RunDirectory,
    journal: Journal,
    inputs: Inputs,
    *,
    teacher: AsyncTeacher | EngineTeacher | None = None,
    student: Student | None = None,
    students: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Run every stage that is not done yet.

    Args:
        directory: the open run.
        journal: its journal.
        inputs: from `check_inputs`.
        teacher: instead of the configured one.
        student: instead of the configured one.
        students: a folder of trained students that several runs share; equal rows are trained on once.
        progress: told what happens.

    Raises:
        StepsynthError: whatever stopped it; everything obtained is kept.
    """
    config, progress = directory.config, progress or SilentProgress()
    _begin(journal, inputs)
    executor = Executor(config.teacher, journal, config.budget, teacher=teacher, paused=progress.paused, note=progress.note)
    method, family = create_method(config), create_family(config.task)
    staged = student or create_student(_half(config))
    classroom = Classroom(directory, journal, family, student or create_student(config), progress, students, staged)
    if method.student == "none":
        model = TeacherModel(config, family, executor, journal.gold("harvest"), progress)
        classroom.examine(model)
        classroom.final_test(inputs, model)
        journal.finish()
        return
    writer, lab = _Writer(config, journal, executor, progress), _lab(config, journal, inputs)
    if method.student == "crossfit":
        _write_and_crossfit(writer, method, inputs, classroom, journal, lab, progress)
    else:
        _write_and_train(writer, method, inputs, classroom, lab, progress)
    # Nothing is decided after this line.
    executor.close()
    classroom.final_test(inputs)
    journal.finish()


def _half(config: RunConfig) -> RunConfig:
    """Return the config of one of two trainings that together make as many optimiser steps as a single one."""
    steps = math.ceil(config.student.min_steps / 2)
    return config.model_copy(update={"student": config.student.model_copy(update={"min_steps": steps})})


def _lab(config: RunConfig, journal: Journal, inputs: Inputs) -> Lab:
    shown = _shown(config, journal)
    return Lab(
        config,
        Prompts(config.task),
        create_family(config.task),
        shown,
        inputs.contexts,
        rationales=lambda: _rationales(journal, config.task.labels),
        mistakes=lambda number: find_mistakes(journal, number),
        dropped=lambda label: _dropped_reasons(journal, label),
        **({"together": _folds(config, shown).together} if config.method.crossfits else {}),
        repeated=lambda: repeated_answer(journal, reasons=True),
    )


def _shown(config: RunConfig, journal: Journal) -> list[Example]:
    """Return the gold rows that may feed the loop."""
    return [*journal.gold("harvest"), *(journal.gold("select") if config.method.crossfits else [])]


def _folds(config: RunConfig, gold: Sequence[Example]) -> Folds:
    return deal_folds(gold, config.method.folds, config.seed)


def _write_and_train(writer: _Writer, method: Method, inputs: Inputs, classroom: Classroom, lab: Lab, progress: Progress) -> None:
    """Go round by round: write, train, look at the mistakes."""
    if method.takes_seed:
        writer.take(inputs)
    trained = -1
    for number in range(method.rounds + 1):
        if number and lab.config.method.stop == "no-gain" and should_stop(classroom.scores(number)):
            progress.note("Two rounds in a row did not gain on the select half: the loop ends here.")
            break
        # Seed data, or rows like the mistakes on the harvest half with their gold labels.
        stages = [writer.write(plan, number) for plan in method.plans(number, lab)]
        if number and not stages:
            progress.note("No mistakes left on the harvest half: the loop ends here.")
            break
        # Train from scratch on everything so far.
        writer.rest()
        classroom.train(number, gold=method.student == "gold")
        trained = number
    if method.student == "both":
        classroom.train(trained + 1, gold=True)


def _write_and_crossfit(
    writer: _Writer, method: Method, inputs: Inputs, classroom: Classroom, journal: Journal, lab: Lab, progress: Progress
) -> None:
    """Go round by round: write, train on all folds but one, look at the mistakes on that one; in the end choose."""
    config = lab.config
    crossfit = CrossFit(classroom, journal, config, lab.family, _folds(config, lab.harvest), progress)
    if method.takes_seed:
        writer.take(inputs)
    last = 0
    for number in range(method.rounds + 1):
        if number and config.method.stop == "no-gain" and should_stop(classroom.scores(number, "crossfit")):
            progress.note("Two rounds in a row did not gain in cross-validation: the loop ends here.")
            break
        stages = [writer.write(plan, number) for plan in method.plans(number, lab)]
        if number and not stages:
            progress.note("No gold row was mistaken: the loop ends here.")
            break
        writer.rest()
        crossfit.judge(number)
        last = number
    crossfit.settle(last)


class _Writer:
    """Turns plans into accepted rows, by the rules that the run's gold rows set."""

    def __init__(self, config: RunConfig, journal: Journal, executor: Executor, progress: Progress) -> None:
        self._config = config
        self._journal = journal
        self._executor = executor
        self._progress = progress
        self._harvest = _shown(config, journal)
        self._gold = [*journal.gold("harvest"), *journal.gold("select")]
        self._judged: tuple[LinearProbe | None, dict[str, Any]] | None = None
        method = config.method
        layout = Layout.like([example.text for example in self._harvest], config.task.paragraphs)
        self._generator = Generator(
            executor,
            journal,
            max_overgeneration=method.max_overgeneration,
            progress=progress,
            match=method.match,
            layout=layout,
            feedback=method.feedback == "drops",
        )

    def write(self, plan: Plan, number: int) -> str:
        """Write one stage, unless it is done; return its name."""
        if self._journal.stage_done(plan.stage):
            self._generator.run(plan, number, Hygiene(()), [])
        elif plan.kind == "rationales":
            self._generator.run(plan, number, Hygiene.for_rationales(plan.targets), [])
        else:
            judge, facts = self._judged = self._judged or self._label_judge()
            targets = None if self._generator.matched(plan) else plan.targets
            rules = Hygiene.for_rows(self._config, self._gold, self._harvest, targets, judge)
            before = [_as_candidate(row) for row in self._journal.dataset(number)]
            self._generator.run(plan, number, rules, before, facts)
        return plan.stage

    def rest(self) -> None:
        """Give an engine's memory back before a training: a few gigabytes, for the seconds that opening it again takes."""
        self._executor.rest()

    def take(self, inputs: Inputs) -> None:
        """Write the rows that the user brought as the first stage."""
        stage = "round-0/import"
        if not inputs.seed or self._journal.stage_done(stage):
            return
        started = time.monotonic()
        candidates = []
        for index, row in enumerate(inputs.seed):
            answer = row.answers[0] if row.answers else None
            request = Request((Message("user", ""),), Sampling(), 0, stage, index, row.label, None, row.context, answer)
            candidates.append(Candidate(request, "", row.text))
        verdicts = Hygiene.for_given(self._gold).judge(candidates, [])
        self._journal.finish_stage(stage, 0, "import", verdicts, {"targets": {}, "missing": {}}, time.monotonic() - started)
        self._progress.note(f"{sum(v.accepted for v in verdicts):,} of {len(verdicts):,} given rows taken as the seed.")

    def _label_judge(self) -> tuple[LinearProbe | None, dict[str, Any]]:
        """Return a probe fitted on the harvest half, and what to note of it.

        There is none when it is off, when the family has no single label, or when it is no better than chance.
        """
        config = self._config
        if not config.method.checks_labels or config.task.family not in ("classification", "pair"):
            return None, {}
        probe = LinearProbe(config.student, create_family(config.task), self._harvest)
        low, _ = wilson(probe.correct, probe.n)
        used = low > max(Counter(example.label for example in self._harvest).values()) / len(self._harvest)
        if not used:
            right = f"{probe.correct} of {probe.n} harvest rows right in cross-validation"
            self._progress.note(f"No label check: {right} is too few to tell labels.")
        return (probe if used else None), {"label_check": {"used": used, "right": probe.correct, "of": probe.n}}


def _begin(journal: Journal, inputs: Inputs) -> None:
    """Write the gold rows and facts, or check that they are those that the run began with."""
    facts = inputs.facts()
    if journal.meta("validation_sha256") is None:
        journal.start(facts, {"harvest": inputs.validation.harvest, "select": inputs.validation.select})
    for name, value in facts.items():
        if journal.meta(name) != value:
            raise RunError(
                f"the {name.split('_')[0]} rows are not those that this run began with.",
                hint="Put the old file back, or give another folder (out= / --out): nothing was touched.",
            )


def _rationales(journal: Journal, labels: Mapping[str, str]) -> dict[str, list[str]]:
    rows = journal.rows(stage="round-0/rationales", accepted=True)
    return {label: [row.text for row in rows if row.label == label] for label in labels or [""]}


def _dropped_reasons(journal: Journal, label: str) -> dict[str, int]:
    rows = journal.rows(stage="round-0/rationales", accepted=False)
    return dict(Counter(row.reason for row in rows if row.label == label).most_common())


def _as_candidate(row: Row) -> Candidate:
    """Return an accepted row in the form that filters compare with."""
    blank = (Message("user", ""),)
    request = Request(blank, Sampling(), 0, row.stage, row.position, row.label, row.source, row.context, row.answer)
    return Candidate(request, row.key, row.text)
