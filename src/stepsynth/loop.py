"""The S3 loop (Wang, Zhou and Sachan, "Let's Synthesize Step by Step", arXiv 2310.13671).

    seed data with rationales -> train -> mistakes -> extrapolation -> train -> ...

Every stage asks the journal whether it is done, so calling `run_loop` again resumes where it
stopped. Mistakes come from the harvest half, checkpoints and the best round from the select half,
and the sealed test set is opened once, after the last decision. The baselines follow the same
path with fewer stages; with cross-fitting all gold rows replace both halves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.data import deal_folds
from stepsynth.errors import BudgetError
from stepsynth.evaluation.stopping import should_stop
from stepsynth.generation import LLMPredictor, StageRunner, TeacherClient, read_gold
from stepsynth.methods import create_method
from stepsynth.methods.context import context_of_run
from stepsynth.methods.own import check_first_round, plans_of
from stepsynth.registry import METHODS
from stepsynth.run.data import begin_journal
from stepsynth.runtime.progress import Progress, SilentProgress
from stepsynth.students import Student, create_student
from stepsynth.students.similar import SimilarTexts
from stepsynth.tasks import create_family
from stepsynth.training import CrossFit, Halves, StudentRunner, Together, with_half_the_steps
from stepsynth.training.crossfit import asks_again, judged_rounds
from stepsynth.training.gap import gap_facts
from stepsynth.training.unlabelled import judge_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal
    from stepsynth.methods import Method, MethodContext
    from stepsynth.run import RunDirectory
    from stepsynth.run.data import RunData
    from stepsynth.tasks import TaskFamily
    from stepsynth.teachers import AsyncTeacher, EngineTeacher
    from stepsynth.training import RoundJudge
    from stepsynth.types import Example

__all__ = ["run_loop"]


def run_loop(
    directory: RunDirectory,
    journal: Journal,
    inputs: RunData,
    *,
    teacher: AsyncTeacher | EngineTeacher | None = None,
    student: Student | None = None,
    students: Path | None = None,
    progress: Progress | None = None,
    scored: Callable[[], object] = lambda: None,
    together: Together | None = None,
) -> None:
    """Run the remaining stages.

    Args:
        directory: the open run.
        journal: its journal.
        inputs: from `stepsynth.run.data.load_run_data`.
        teacher: instead of the configured one.
        student: instead of the configured one.
        students: a folder of trained students that several runs share; equal rows are trained on once.
        progress: receives the reports.
        scored: called when the journal may have new scores: after each round, and when the test set was opened.
        together: what it shares with other runs that go on at the same time.

    Raises:
        StepsynthError: the reason it stopped; everything obtained is kept.
    """
    config, progress = directory.config, progress or SilentProgress()
    method = create_method(config)
    begin_journal(journal, inputs, method)
    client = TeacherClient(config.teacher, journal, config.budget, teacher=teacher, paused=progress.paused, note=progress.note)
    try:
        _run_stages(directory, journal, inputs, method, client, student, students, progress, scored, together or Together())
    finally:
        # Engines on other machines do not end with an error here.
        client.release()


def _run_stages(
    directory: RunDirectory,
    journal: Journal,
    inputs: RunData,
    method: Method,
    client: TeacherClient,
    student: Student | None,
    students: Path | None,
    progress: Progress,
    scored: Callable[[], object],
    together: Together,
) -> None:
    config, family = directory.config, create_family(directory.config.task)
    staged = student or create_student(with_half_the_steps(config))
    own = student or create_student(config)
    again = method.crossfits and asks_again(config.method.final, pool=method.self_trains and inputs.pool is not None)
    student_runner = StudentRunner(
        directory, journal, family, own, progress, students, staged, asks_again=again, together=together
    )
    if method.student == "none":
        model = LLMPredictor(config, family, client, journal.gold("harvest"), progress)
        with together.writing():
            student_runner.evaluate_teacher(model)
            student_runner.evaluate_test(inputs, model)
        client.close()
        journal.finish()
        scored()
        return
    pool = inputs.pool.rows if inputs.pool else ()
    similar = SimilarTexts(config.student, family, pool, directory.path / "models" / ".aside")
    ctx = context_of_run(config, method, journal, inputs.contexts, pool, similar)
    runner = StageRunner(config, journal, client, ctx.harvest, progress, check_labels=method.doubts_labels(config))
    judge = _judge_of(method, student_runner, journal, config, family, ctx.harvest, inputs, progress)
    if method.name not in METHODS.built_in and journal.meta("finished") is not None:
        # A finished run stays as it was, whatever the user's class yields now.
        _repair(journal, judge, method.student)
    else:
        if not journal.rounds():
            check_first_round(method, ctx, len(inputs.seed) if method.takes_seed else 0)
        if method.takes_seed:
            runner.take(inputs.seed)
        _go_rounds(method, ctx, runner, judge, progress, scored, together)
    similar.clear()
    # Nothing is decided after this line.
    client.rest()
    student_runner.evaluate_test(inputs)
    judge_texts(student_runner, journal, family, pool, progress)
    if config.method.second_reading != "none":
        with together.writing():
            _read_gold(config, family, client, journal, progress)
    client.close()
    # Whoever passes a student in may have no base model on this machine.
    journal.finish(gap_facts(journal, config, embeds=student is None))
    scored()


def _judge_of(
    method: Method,
    students: StudentRunner,
    journal: Journal,
    config: RunConfig,
    family: TaskFamily,
    harvest: Sequence[Example],
    inputs: RunData,
    progress: Progress,
) -> RoundJudge:
    """Return what trains and scores a student after each round: on two halves, or with every row of a fold once."""
    if method.student != "crossfit":
        return Halves(students, method.student)
    folds = deal_folds(harvest, config.method.folds, config.seed)
    writes = method.asks or bool(inputs.seed)
    pool = inputs.pool.rows if inputs.pool and method.self_trains else ()
    return CrossFit(students, journal, config, family, folds, progress, writes=writes, pool=pool)


def _read_gold(config: RunConfig, family: TaskFamily, client: TeacherClient, journal: Journal, progress: Progress) -> None:
    """Have the teacher read the gold rows; a cap that is reached only now does not keep the run from ending."""
    try:
        read_gold(config, family, client, journal, progress)
    except BudgetError as error:
        progress.note(
            f"The labelled rows were not read again: {error.message} Raise it and repeat the command to have them read."
        )


def _repair(journal: Journal, judge: RoundJudge, trains: str) -> None:
    """Retrain the missing students of a finished run; the teacher is not asked."""
    rounds = judged_rounds(journal) if trains == "crossfit" else journal.rounds()[: -1 if trains == "both" else None]
    for number in rounds:
        judge.judge(number)
    judge.settle(max(rounds, default=0))


def _go_rounds(
    method: Method,
    ctx: MethodContext,
    runner: StageRunner,
    judge: RoundJudge,
    progress: Progress,
    scored: Callable[[], object] = lambda: None,
    together: Together | None = None,
) -> None:
    """Write rows, train on all of them, find mistakes, write rows like them; repeat."""
    last, together = 0, together or Together()
    for number in range(method.rounds + 1):
        if number and ctx.config.method.stop == "no-gain" and should_stop(judge.scores(number)):
            progress.note(judge.no_gain)
            break
        # First seed data with rationales; later, rows like the previous round's mistakes, with their gold labels.
        with together.writing():
            stages = [runner.write(plan, number) for plan in plans_of(method, number, ctx)]
            if stages or not number:
                runner.rest()
        if number and not stages:
            progress.note(judge.no_mistakes)
            break
        # From scratch, on everything so far; the gold rows it gets wrong are the next round's mistakes.
        judge.judge(number)
        scored()
        last = number
    judge.settle(last)
