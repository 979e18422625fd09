"""Makes a plan: checks everything, asks the teacher for a sample, and estimates the run."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stepsynth.data import deal_folds
from stepsynth.errors import RunError
from stepsynth.evaluation.power import seeds_power, typical_power
from stepsynth.filters.layout import Layout
from stepsynth.generation import ask_sample
from stepsynth.generation.budget import check_price
from stepsynth.generation.candidates import candidates_of
from stepsynth.generation.room import advised_room
from stepsynth.generation.waves import next_wave
from stepsynth.journal import Journal
from stepsynth.journal.queries import count_rows
from stepsynth.methods import create_method
from stepsynth.methods.own import check_first_round, plans_of
from stepsynth.planning.forecast import forecast, money_warnings, price_as_json
from stepsynth.planning.plans import all_plans, planning_context, shown_rows
from stepsynth.planning.questions import cost_line, known_keys, reason_sample, row_sample
from stepsynth.planning.trial import Trial
from stepsynth.report.spending import LabelSpent, spent_by_label
from stepsynth.run import JOURNAL, RunDirectory, answers_path, folder_name
from stepsynth.run.data import RunData, load_run_data
from stepsynth.run.settling import settle
from stepsynth.tasks import create_family
from stepsynth.teachers import EngineTeacher, StartedTeacher, create_teacher, probe_teacher
from stepsynth.teachers.findings import sample_findings, thoughts_of
from stepsynth.teachers.learned import remember
from stepsynth.teachers.prices import price_of
from stepsynth.teachers.reading import answer_text, hidden_tokens, is_cut_off_in_thought
from stepsynth.teachers.served import after_answers
from stepsynth.tracking import make_trackers
from stepsynth.training import trainings
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepsynth.config import RunConfig, TeacherConfig
    from stepsynth.methods import Method, MethodContext, Plan
    from stepsynth.teachers import AsyncTeacher
    from stepsynth.types import Mistake, Request, Response

__all__ = ["make_plan"]

# Measured on the shipped example and three public data sets: share of answers that pass the pipeline,
# and share of the harvest half that the first student gets wrong.
_ACCEPTED = (0.95, 0.3)
_WRONG = (0.1, 0.7)
_ENGINE_SAMPLE = 16
# As many as `stepsynth compare` runs unless told otherwise.
_SEEDS = 5
_ENGINES = frozenset({"openvino", "transformers", "vllm"})


# What the plan of a method that asks nothing says of requests.
_NOTHING_TO_ASK: dict[str, Any] = {
    "sample": None,
    "server": None,
    "requests": [0, 0],
    "tokens": [0, 0],
    "cost_usd": [0.0, 0.0],
    "minutes": [0.0, 0.0],
    "cached": None,
    "warnings": [],
    "trial": None,
}


def make_plan(
    config: RunConfig, *, folder: Path | None = None, report: Callable[[str], None] | None = None, trial: bool = False
) -> dict[str, Any]:
    """Check config, data, prompts and teacher; return the plan as plain values.

    Args:
        config: the checked config.
        folder: the run directory, for its usage so far and for a cache with a relative path.
        report: called with a sentence per slow step, such as downloading an embedded model.
        trial: whether to make a trial; see `stepsynth.planning.trial.Trial`.

    Raises:
        UserError: something would stop a run before it starts, or a trial may pass a cap.
        TeacherError: the teacher does not answer.
        Interrupted: a stop was asked for during a trial.
    """
    folder = folder or Path("runs") / folder_name(config.task.name)
    make_trackers(config.tracking)
    given, config = config, settle(config, None, report, fetch=create_method(config).asks)
    method, inputs = create_method(config), load_run_data(config)
    plan = _known(config, method, inputs)
    plan["so_far"] = [asdict(spent) for spent in _so_far(folder, given)]
    rows = _rows(config, inputs)
    price = price_of(config.teacher)
    if rows[1] == 0:
        return {**plan, **deepcopy(_NOTHING_TO_ASK), "price": price_as_json(price)}
    check_price(config.teacher, config.budget, price)
    # Sample and trial are live even if the run will use a batch API: they are needed now.
    live = config.model_copy(update={"teacher": config.teacher.model_copy(update={"mode": "live"})})
    sampled = _ENGINE_SAMPLE if config.teacher.backend in _ENGINES else 1
    tried = Trial(live, method, inputs, answers_path(config.cache, folder.parent), sampled, _students(config, method, plan))
    say = report or (lambda _: None)
    if trial:
        tried.check_caps()
        say(cost_line(tried.worst))
    said = probe_teacher(config.teacher, report)
    asked, answers, before, seconds, notes, server = _ask(planning_context(live, method, inputs), report)
    # One answer says nothing about the other servers of several.
    plan["teacher"]["probe"] = said if len(config.teacher.base_urls) > 1 else after_answers(said, config.teacher.model)
    expected = forecast(rows, [answer.usage for answer in answers], config.teacher)
    cached = _cached(config, inputs, answers_path(config.cache, folder.parent))
    known = cached["requests"] if cached else 0
    return {
        **plan,
        "sample": {
            "messages": [[m.role, m.content] for m in asked[0].messages],
            "answer": answer_text(config.teacher, answers[0]),
        },
        "server": server or None,
        **expected,
        "minutes": _minutes(config.teacher, [max(0, count - known) for count in expected["requests"]], seconds),
        "price": price_as_json(price),
        "cached": cached,
        "trial": tried.run([*before, *zip(asked, answers, strict=True)], say) if trial else tried.untried(),
        "warnings": [
            *notes,
            *_thought_warnings(config, answers),
            *_no_text(config, answers),
            *money_warnings(config.budget, expected, price),
        ],
    }


def _known(config: RunConfig, method: Method, inputs: RunData) -> dict[str, Any]:
    """Return what a plan says before the teacher is asked.

    Raises:
        UserError: the first round cannot begin.
    """
    plan: dict[str, Any] = {
        "task": config.task.name,
        "family": config.task.family,
        "method": config.method.name,
        "teacher": {**config.teacher.identity(), "probe": None},
        "student": config.student.called,
        "data": {
            "harvest": len(inputs.validation.harvest),
            "select": len(inputs.validation.select),
            "test": inputs.sealed.n if inputs.sealed else None,
            "contexts": len(inputs.contexts),
            "seed": len(inputs.seed),
            "pool": len(inputs.pool.rows) if inputs.pool else 0,
            "read": {
                name: {"rows": t.rows, "lines": t.lines, "empty": t.empty, "said": t.say()} for name, t in inputs.tallies.items()
            },
            "notes": list(inputs.notes),
        },
    }
    # An answer's F1 is a share, not right or wrong.
    plan["power"] = None
    if inputs.sealed and not create_family(config.task).spans:
        plan["power"] = {**typical_power(inputs.sealed.n), "comparison": seeds_power(inputs.sealed.n, _SEEDS)}
    if method.crossfits:
        plan["trainings"] = _trainings(config, method, inputs)
    check_first_round(method, planning_context(config, method, inputs), len(inputs.seed) if method.takes_seed else 0)
    plan["labels"] = _first_targets(config, method, inputs)
    return plan


def _first_targets(config: RunConfig, method: Method, inputs: RunData) -> dict[str, list[int]]:
    """Return by label the rows that the first stage wants, and the most it may request; empty without a target."""
    if config.method.match is not None or not method.asks or method.student == "none":
        return {}
    first = None if inputs.seed else next(all_plans(method, planning_context(config, method, inputs)), None)
    most = config.method.max_overgeneration
    return {label: [rows, math.ceil(rows * most)] for label, rows in first.targets.items()} if first else {}


def _so_far(folder: Path, config: RunConfig) -> list[LabelSpent]:
    """Return each label's usage in this run so far; empty if it has not begun, or if another run is there."""
    if not (folder / JOURNAL).is_file():
        return []
    try:
        RunDirectory.check(folder, config)
        with closing(Journal(folder / JOURNAL)) as journal:
            return spent_by_label(journal, count_rows(journal))
    except RunError:
        # `stepsynth status` reports its faults; a plan is about what comes next.
        return []


def _minutes(teacher: TeacherConfig, requests: Sequence[int], seconds: float) -> list[float] | None:
    """Return the minutes for the requests at this speed, within the allowed rate; ``None`` if unknown."""
    if teacher.mode == "batch":
        return None
    slowest = max(seconds, 60.0 / teacher.requests_per_minute if teacher.requests_per_minute else 0.0)
    return [round(count * slowest / 60, 1) for count in requests]


def _ask(
    ctx: MethodContext, report: Callable[[str], None] | None
) -> tuple[list[Request], list[Response], list[tuple[Request, Response]], float, list[str], str]:
    """Ask for a sample.

    Args:
        ctx: see `planning_context`; the teacher is live.
        report: called with a sentence if the server asks to wait.

    Returns:
        The sample's requests, their answers, what was asked before them with its answer, the expected seconds per request,
        and notes and findings on the teacher.
    """
    teacher_config = ctx.config.teacher
    # Of several engines one is enough.
    one = {"replicas": 1, "cluster": teacher_config.cluster or "ray"} if teacher_config.on_ray else {}
    teacher = cast("AsyncTeacher | EngineTeacher", create_teacher(teacher_config.model_copy(update=one)))
    try:
        return _ask_opened(ctx, teacher, report)
    finally:
        if isinstance(teacher, StartedTeacher):
            teacher.release()


def _ask_opened(
    ctx: MethodContext, teacher: AsyncTeacher | EngineTeacher, report: Callable[[str], None] | None
) -> tuple[list[Request], list[Response], list[tuple[Request, Response]], float, list[str], str]:
    teacher_config = ctx.config.teacher
    # One request shows a server's speed; an engine gets a small batch, since it is much faster with many requests at once.
    engine = isinstance(teacher, EngineTeacher | StartedTeacher)
    if isinstance(teacher, StartedTeacher):
        teacher.start(report or (lambda _: None))
    waits: list[float] = []

    def waiting(wait: float) -> None:
        waits.append(wait)
        if report is not None:
            report(f"the server asks to wait {wait:,.0f} s before it answers")

    if engine and report is not None:
        # A server answers at once; here, minutes may pass.
        report(f"Sample: the teacher answers {_ENGINE_SAMPLE} prompts, to show how it writes and how fast.")
    asked, before = _sample(ctx, teacher, _ENGINE_SAMPLE if engine else 1, waiting)
    waited = sum(waits)
    started = time.monotonic()
    answers = ask_sample(teacher_config, teacher, asked, waiting)
    # A wait shows the rate limit, not the speed of an answer.
    seconds = max(time.monotonic() - started - (sum(waits) - waited), 0.0) / (
        len(asked) * teacher_config.replicas if engine else teacher_config.concurrency
    )
    remember(teacher_config, teacher)
    server = sample_findings(teacher_config, teacher, answers)
    notes = list(getattr(teacher, "notes", ()))
    if waits:
        notes.append(
            f"the server asked to wait {sum(waits):,.0f} s for the sample. A run waits, too, so it takes longer than the minutes "
            "above; set teacher.requests_per_minute to your plan's limit to include that."
        )
    return asked, answers, before, seconds, notes, server


def _thought_warnings(config: RunConfig, answers: Sequence[Response]) -> list[str]:
    """Return notes on a reasoning model's thoughts, and on whether it has room to answer."""
    written, thought = sum(a.usage.completion_tokens for a in answers), sum(hidden_tokens(answer) for answer in answers)
    found = []
    if thought:
        found.append(f"{thought:,} of the sample's {written:,} tokens written were thoughts, which count as output.")
    if any(is_cut_off_in_thought(config.teacher, answer) for answer in answers):
        most = max(answer.usage.completion_tokens for answer in answers)
        found.append(
            f"the sample was cut off before it said anything: set teacher.reasoning_tokens to about {advised_room(most):,}, "
            "or raise sampling.max_tokens."
        )
    elif thought > config.teacher.sampling.max_tokens / 2 and not config.teacher.reasoning_tokens:
        found.append(f"answers that think longer are cut off: set teacher.reasoning_tokens to about {advised_room(thought):,}.")
    return found


def _no_text(config: RunConfig, answers: Sequence[Response]) -> list[str]:
    """Return why a sample has no text although its answers were not cut off; empty if it has text."""
    if all(answer.finish_reason == "refusal" for answer in answers):
        return ["the sample answer was refused by the teacher, or by a filter in front of it."]
    if any(answer_text(config.teacher, a).strip() for a in answers) or is_cut_off_in_thought(config.teacher, answers[0]):
        return []
    if '"tool_calls"' in answers[0].raw and re.search(r'"tool_calls":\s{0,5}\[\s{0,20}\{', answers[0].raw):
        return ["the sample answer has no text: the teacher called a tool instead; use another model."]
    where = thoughts_of(answers[0]).found
    went = f"what the teacher wrote is {where}, as thoughts" if where != "none seen" else "the server sent an empty one"
    return [f"the sample answer has no text: {went}. Switch thinking off in teacher.options, or use another model."]


def _sample(
    ctx: MethodContext, teacher: AsyncTeacher | EngineTeacher, count: int, waiting: Callable[[float], object]
) -> tuple[list[Request], list[tuple[Request, Response]]]:
    """Return the first requests for rows; if prompts show reasons, one is asked for first and returned with its answer."""
    config = ctx.config
    method, before = create_method(config), []
    if (request := reason_sample(method, ctx)) is not None:
        (answer,) = ask_sample(config.teacher, teacher, [request], waiting)
        before = [(request, answer)]
        found = candidates_of(config.teacher, request, "", answer, Layout())
        reasons = [candidate.text for candidate in found if candidate.text]
        given = {name: reasons or [name] for name in config.task.labels or [""]}
        ctx = replace(ctx, rationales=lambda: given)
    return row_sample(method, ctx, count), before


def _rows(config: RunConfig, inputs: RunData) -> tuple[int, int]:
    """Return the fewest and the most answers likely to be requested."""
    method, match = create_method(config), config.method.match
    if not method.asks:
        return 0, 0
    if method.student == "none":
        asked = len(inputs.validation.select) + (inputs.sealed.n if inputs.sealed else 0)
        return asked, asked
    if match and match.unit == "requests":
        return math.ceil(match.amount), math.ceil(match.amount)
    ctx = planning_context(config, method, inputs)
    always, by_mistakes = 0.0, 0.0
    for number in range(method.rounds + 1):
        looked: list[int] = []
        plans = list(plans_of(method, number, replace(ctx, mistakes=_noting(ctx, looked))))
        answers = sum(_answers(plan, config.method.readings) for plan in plans)
        if looked:
            by_mistakes += answers
        else:
            always += answers
        if number and not plans:
            break
    counts = [math.ceil((always + by_mistakes * wrong) / share) for share, wrong in zip(_ACCEPTED, _WRONG, strict=True)]
    if config.method.second_reading != "none":
        # At most every answer is read again, and at the end every gold row.
        gold = len(inputs.validation.harvest) + len(inputs.validation.select)
        counts = [count + config.method.readings * (count + gold) for count in counts]
    return counts[0], counts[1]


def _noting(ctx: MethodContext, looked: list[int]) -> Callable[[int], Sequence[Mistake]]:
    """Return ``ctx.mistakes`` that records its calls: if called, the size of a plan depends on the mistakes."""

    def mistakes(number: int) -> Sequence[Mistake]:
        looked.append(number)
        return ctx.mistakes(number)

    return mistakes


def _answers(plan: Plan, readings: int) -> float:
    """Return the answers that a plan's rows need if none is dropped; a label's reasons take whole answers."""
    targets = {label: target for label, target in plan.targets.items() if target}
    if not targets:
        return 0.0
    each = plan.request(next(iter(targets)), 0, 0).parts
    if plan.kind == StageKind.RATIONALES:
        return sum(math.ceil(target / each) for target in targets.values())
    if plan.kind == StageKind.ANNOTATE:
        return float(sum(targets.values()) * readings)
    return sum(targets.values()) / each


def _students(config: RunConfig, method: Method, plan: dict[str, Any]) -> int:
    """Return how many students a run trains."""
    if method.student == "none":
        return 0
    # Another student whose mistakes are extrapolated is trained beside each.
    rounds = (method.rounds + 1) * (2 if config.method.mistakes_of else 1)
    return int(plan.get("trainings", rounds + (method.student == "both")))


def _trainings(config: RunConfig, method: Method, inputs: RunData) -> int:
    """Return the most students that cross-fitting trains."""
    folds = deal_folds(shown_rows(method, inputs), config.method.folds, config.seed).count
    writes, pool = method.asks or bool(inputs.seed), method.self_trains and inputs.pool is not None
    return trainings(config.method.final, method.rounds, folds, writes=writes, pool=pool)


def _cached(config: RunConfig, inputs: RunData, path: Path | None) -> dict[str, Any] | None:
    """Return how many requests of the run's first wave are already answered.

    ``None`` if no answers are shared, or if the first requests are not known in advance.
    """
    method = create_method(config)
    first = None if inputs.seed else next(plans_of(method, 0, planning_context(config, method, inputs)), None)
    if path is None or first is None or config.method.match is not None:
        return None
    # Texts of a pool are each asked about once.
    texts = [first.request("", place, place) for place in range(first.targets[""])] if first.kind == StageKind.ANNOTATE else None
    wave = texts or next_wave(first, [], Counter(), config.method.max_overgeneration)
    found = {"path": str(path), "requests": 0, "of": len(wave), "problem": None}
    try:
        return {**found, "requests": len(known_keys(config.teacher, wave, path))}
    except RunError as error:
        return {**found, "problem": error.message}
