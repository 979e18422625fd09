"""`synthesize`, `plan` and `compare`: the commands, called from Python.

A call builds the same config as a YAML file with the same keys, and runs it in the same way: same rows, digests and files.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from stepsynth.api.comparison import Comparison
from stepsynth.api.files import output_folder
from stepsynth.api.making import MoreArguments, PlanArguments, check_noun, make_config
from stepsynth.api.methods import leading_method, listed_methods, with_methods
from stepsynth.api.nouns import Budget, Method, Student, Task, Teacher
from stepsynth.api.progress import OneOfSeveral, open_progress
from stepsynth.api.run import Run
from stepsynth.api.waiting import run_apart
from stepsynth.config import MethodConfig, RunConfig
from stepsynth.config.keywords import with_keywords
from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.execution import execute, execute_comparison
from stepsynth.filters import RowFilter
from stepsynth.run import folder_name
from stepsynth.students.own import StudentRecipe
from stepsynth.tracking import split_tracking

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from stepsynth.runtime.progress import Progress
    from stepsynth.tracking import Tracker
    from stepsynth.training import Together

__all__ = [
    "STOPPING",
    "compare",
    "compare_config",
    "known_names",
    "plan",
    "plan_config",
    "run_config",
    "synthesize",
]

STOPPING = "Stopping: answers in flight are awaited and kept; interrupt again to stop at once."

P = ParamSpec("P")
T = TypeVar("T")


def known_names(call: Callable[P, T]) -> Callable[P, T]:
    """Let a call refuse an unknown argument as its siblings do: one line that names the nearest one."""
    known = sorted(inspect.signature(call).parameters)

    @functools.wraps(call)
    def checked(*given: P.args, **named: P.kwargs) -> T:
        if unknown := next((name for name in named if name not in known), None):
            raise ConfigError(f"{call.__name__} has no argument {unknown!r}.", hint=did_you_mean(unknown, known))
        return call(*given, **named)

    return checked


@known_names
def synthesize(
    task: Task,
    *,
    validation: object,
    test: object = None,
    contexts: object = None,
    start_from: object = None,
    pool: object = None,
    teacher: Teacher | None = None,
    method: Method | None = None,
    student: Student | StudentRecipe | None = None,
    filters: Sequence[RowFilter | str] = (),
    budget: Budget | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = "user",
    tracking: object = None,
    progress: bool | Progress | None = None,
) -> Run:
    """Write a data set and train a student, or resume an earlier call that was stopped.

    Everything is checked before anything is spent. The work runs in its own thread, so the call can be made in a notebook,
    inside a running event loop and in any thread. On a first interrupt it waits for answers in flight, keeps them and raises
    `Interrupted`; the same call resumes from there.

    Args:
        task: what the student has to decide.
        validation: labelled rows (60 to a few hundred): a path, a hub id, a pandas or polars frame, a
            ``datasets.Dataset``, a pyarrow table, a list of dicts, a dict of columns, or a `Source` around one of them.
        test: rows for the final score, opened once at the end; the same forms.
        contexts: pairs and questions: texts to write about; the same forms, or a list of texts.
        start_from: written rows to start from instead of seed rows; the same forms.
        pool: real texts without labels, from which the student may learn, too; the same forms, a list of texts, a ``.txt``
            file with one text in a line, or a folder of ``.txt`` files.
        teacher: the large model; by default the best embedded one that the machine has room for.
        method: how the data is made; by default `CrossFit`.
        student: the small model, or your own `StudentRecipe`.
        filters: rules that every written row has to pass: instances of a `RowFilter`, or names that a package registered.
        budget: hard caps.
        seed: the seed of all random draws.
        out: the run directory; by default ``runs/NAME`` in the current folder, with the task's name.
        cache: the file with answers that runs share: ``user`` for this user's default file, ``None`` for no file.
        tracking: experiment trackers that get each round's scores, costs and the page: a name (``mlflow``, ``wandb``,
            ``tensorboard``, ``trackio``), a dict with ``name`` and options, your own `Tracker`, or a list of them.
        progress: ``True`` shows it, ``False`` does not, ``None`` decides by the environment; or your own object.

    Returns:
        The finished run.

    Raises:
        UserError: the input is wrong, or a cap was reached; the message is one line.
        TeacherError: the teacher does not answer.
        Interrupted: it was interrupted; no answer that was received is lost.

    Examples:
        >>> run = synthesize(task, validation="labelled.csv", test="test.csv", out="runs/tickets")  # doctest: +SKIP
        >>> run.dataset(), run.scores  # doctest: +SKIP
    """
    folder = _folder(out, task, "")
    config = make_config(
        task,
        folder,
        validation=validation,
        test=test,
        contexts=contexts,
        start_from=start_from,
        pool=pool,
        teacher=teacher,
        method=method,
        student=student,
        filters=filters,
        budget=budget,
        seed=seed,
        cache=cache,
        tracking=tracking,
    )
    return run_config(config, folder, progress=progress, trackers=split_tracking(tracking)[1])


def run_config(
    config: RunConfig,
    out: str | os.PathLike[str],
    *,
    progress: bool | Progress | None = None,
    trackers: Sequence[Tracker] = (),
) -> Run:
    """Run or resume a config; see `synthesize`.

    Args:
        config: the config.
        out: the run directory.
        progress: see `synthesize`.
        trackers: your own, besides those that the config names.
    """
    folder = output_folder(out)
    with open_progress(progress) as shown:
        run_apart(lambda: execute(config, folder, progress=shown, trackers=trackers), stopping=lambda: shown.note(STOPPING))
    return Run.load(folder)


def _passing_on(keys: Iterable[str]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let `help` and completion show which arguments of `synthesize` a call passes on."""
    passed = [given for name, given in inspect.signature(synthesize).parameters.items() if name in keys]

    def shown(call: Callable[P, T]) -> Callable[P, T]:
        call.__signature__ = with_keywords(call, passed)  # type: ignore[attr-defined]
        return call

    return shown


@_passing_on(PlanArguments.__optional_keys__)
def plan(
    task: Task,
    *,
    validation: object,
    trial: bool = False,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Progress | None = None,
    **settings: Unpack[PlanArguments],
) -> dict[str, Any]:
    """Check everything, ask the teacher for a sample (not kept), and estimate what a run will take.

    Args:
        task: as for `synthesize`.
        validation: labelled rows.
        trial: also let the teacher label some rows and write some, keep its answers, and decide whether to generate. What
            that costs at most is reported first; ``budget`` caps it.
        out: the run's folder, where a trial keeps its answers; as for `synthesize`.
        progress: see `synthesize`.
        settings: the other arguments of `synthesize`.

    Returns:
        ``requests``, ``tokens``, ``cost_usd`` and ``minutes`` (least and most), ``sample``, ``warnings``, ``data``, ...; with a
        trial ``["trial"]["decision"]``. All keys are in docs/results_json.md.

    Raises:
        UserError: a run would be refused for this, or a trial may pass a cap.
        TeacherError: the teacher does not answer.
        Interrupted: it was interrupted during a trial; no answer that was received is lost.

    Examples:
        >>> plan(task, validation="labelled.csv")["requests"]  # doctest: +SKIP
        [190, 410]
    """
    _check_settings(plan, settings)
    folder = _folder(out, task, "")
    return plan_config(make_config(task, folder, validation=validation, **settings), folder, trial=trial, progress=progress)


def plan_config(
    config: RunConfig, folder: Path, *, trial: bool = False, progress: bool | Progress | None = None
) -> dict[str, Any]:
    """Plan a config; see `plan`.

    Args:
        config: the config.
        folder: the run directory.
        trial: see `plan`.
        progress: see `synthesize`.
    """
    from stepsynth.planning import make_plan

    with open_progress(progress) as shown:
        stopping = (lambda: shown.note(STOPPING)) if trial else (lambda: None)
        return run_apart(lambda: make_plan(config, folder=folder, report=shown.note, trial=trial), stopping=stopping)


@_passing_on(MoreArguments.__optional_keys__)
def compare(
    task: Task,
    methods: Sequence[Method | str],
    *,
    validation: object,
    test: object,
    seeds: int = 5,
    match: str = "rows",
    reference: str | None = None,
    max_seeds: int | None = None,
    jobs: int | None = None,
    on: str | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Progress | None = None,
    **settings: Unpack[MoreArguments],
) -> Comparison:
    """Run several methods with several seeds at the same budget, and compare them on the same sealed test rows.

    Args:
        task: as for `synthesize`.
        methods: methods, or strings as the command takes them (``"s3:method.rationales=0"``). The first `S3` or
            `CrossFit` configures the loop; settings in which another one differs apply to that one only.
        validation: labelled rows, see `synthesize`.
        test: rows for the scores.
        seeds: how many, counting up from ``seed``.
        match: what all methods get the same amount of: ``rows``, ``requests``, ``tokens`` or ``usd``.
        reference: the method that the others are compared with; by default ``gold`` if it takes part.
        max_seeds: how many seeds there may be in the end, if you may add some after a look at the results; say so in the
            first call, since looks share the 5 % for false claims.
        jobs: how many students to train at once, each in a process of its own; by default one after the other, in this one.
            Results are the same.
        on: where to train them: ``"processes"`` of this machine, or ``"ray"`` (the cluster of ``RAY_ADDRESS``, one that runs
            on this machine, or else a local one), or ``"ray:HOST:PORT"``.
        out: the folder; by default ``runs/compare-NAME``.
        progress: see `synthesize`.
        settings: the other arguments of `synthesize`.

    Raises:
        UserError: the input is wrong; raised before anything is spent.
        Interrupted: it was interrupted; the same call resumes.

    Examples:
        >>> compare(task, [S3(), ZeroGen(), Gold()], validation=rows, test="test.csv", seeds=5).to_pandas()  # doctest: +SKIP
    """
    _check_settings(compare, settings)
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise ConfigError(f"seeds is {seeds!r}.", hint="Give the number of seeds, 1 or more.")
    if max_seeds is not None and (isinstance(max_seeds, bool) or not isinstance(max_seeds, int)):
        raise ConfigError(f"max_seeds is {max_seeds!r}.", hint="Give a number of seeds, or leave it out.")
    methods = listed_methods(methods)
    folder = _folder(out, task, "compare-")
    config = make_config(task, folder, validation=validation, test=test, method=leading_method(methods), **settings)
    return compare_config(
        config,
        methods,
        seeds=seeds,
        match=match,
        reference=reference,
        folder=folder,
        max_seeds=max_seeds,
        jobs=jobs,
        on=on,
        progress=progress,
        plain=MethodConfig(),
        trackers=split_tracking(settings.get("tracking"))[1],
    )


def compare_config(
    config: RunConfig,
    methods: Sequence[Method | str],
    *,
    seeds: int,
    match: str,
    reference: str | None,
    folder: Path,
    max_seeds: int | None = None,
    jobs: int | None = None,
    on: str | None = None,
    progress: bool | Progress | None = None,
    plain: MethodConfig | None = None,
    trackers: Sequence[Tracker] = (),
) -> Comparison:
    """Compare methods for a config; see `compare`. Settings of the first method override the config's.

    Args:
        config: the config.
        methods: as for `compare`.
        seeds: how many.
        match: what all get the same amount of.
        reference: the method that the others are compared with.
        folder: where the runs go.
        max_seeds: as for `compare`.
        jobs: as for `compare`.
        on: as for `compare`.
        progress: see `synthesize`.
        plain: the defaults for keys that a method does not set; the config's own values if ``None``.
        trackers: your own, besides those that the config names; each cell is a run of theirs.
    """
    config, systems = with_methods(config, methods, plain)
    if trackers and (on is not None or (jobs or 1) != 1):
        raise ConfigError(
            "one tracker cannot follow several runs at once.",
            hint="Name it in a config, which makes one for each, or leave jobs out.",
        )
    with open_progress(progress) as shown:

        def run_cell(cell: RunConfig, path: Path, title: str, students: Path, together: Together | None = None) -> None:
            shown.note(title)
            own = shown if together is None else OneOfSeveral(shown, title.partition(" (")[0])
            execute(cell, path, progress=own, students=students, trackers=trackers, together=together)

        def work() -> dict[str, Any]:
            return execute_comparison(
                config,
                systems,
                seeds=seeds,
                match=match,
                folder=folder,
                reference=reference,
                max_seeds=max_seeds,
                run=run_cell,
                note=shown.note,
                jobs=jobs,
                on=on,
            )

        results = run_apart(work, stopping=lambda: shown.note(STOPPING))
    return Comparison(folder, results)


def _check_settings(call: Callable[..., object], settings: Mapping[str, object]) -> None:
    known = set(inspect.signature(call).parameters)
    if unknown := next((key for key in settings if key not in known), None):
        raise ConfigError(f"{call.__name__} has no argument {unknown!r}.", hint=did_you_mean(unknown, sorted(known)))


def _folder(out: str | os.PathLike[str] | None, task: Task, prefix: str) -> Path:
    check_noun("task", task)
    return output_folder(out if out is not None else Path("runs") / f"{prefix}{folder_name(str(task.values['name']))}")
