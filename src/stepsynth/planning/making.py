"""A plan: check everything, ask the teacher for a sample, say what a run will take."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stepsynth.data import deal_folds
from stepsynth.errors import RunError
from stepsynth.filters.layout import Layout
from stepsynth.generation import ask_sample
from stepsynth.generation.budget import check_price
from stepsynth.generation.oversampling import candidates_of, next_wave
from stepsynth.generation.room import advised_room, with_room
from stepsynth.journal import AnswerStore, Journal
from stepsynth.journal.queries import count_rows
from stepsynth.methods import MethodContext, create_method
from stepsynth.methods.own import check_first_round, plans_of
from stepsynth.planning.forecast import forecast, money_warnings, price_as_json
from stepsynth.prompts import Prompts
from stepsynth.report.spending import LabelSpent, spent_by_label
from stepsynth.run import JOURNAL, RunDirectory, answers_path, folder_name
from stepsynth.run_data import RunData, load_run_data
from stepsynth.settling import settle
from stepsynth.tasks import create_family
from stepsynth.teachers import EngineTeacher, create_teacher, probe_teacher
from stepsynth.teachers.findings import sample_findings, thoughts_of
from stepsynth.teachers.learned import remember
from stepsynth.teachers.prices import price_of
from stepsynth.teachers.reading import answer_text, hidden_tokens, is_cut_off_in_thought
from stepsynth.training import trainings
from stepsynth.types import Mistake, Request, StageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stepsynth.config import RunConfig, TeacherConfig
    from stepsynth.methods import Method, Plan
    from stepsynth.teachers import AsyncTeacher
    from stepsynth.types import Example, Response

__all__ = ["make_plan"]

# Measured on the shipped example and three public sets: share of answers that pipeline lets pass,
# and share of the harvest half that a first student gets wrong.
_ACCEPTED = (0.95, 0.3)
_WRONG = (0.1, 0.7)
_ENGINE_SAMPLE = 16


def make_plan(config: RunConfig, *, folder: Path | None = None, report: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Check config, data, prompts and teacher; return the plan as plain values.

    Args:
        config: the checked config.
        folder: the run directory, for what the run has already and for a cache with a relative path.
        report: called with one sentence per step that takes time, such as fetching an embedded model.

    Raises:
        UserError: whatever would stop a run, before it starts.
        TeacherError: the teacher does not answer.
    """
    folder = folder or Path("runs") / folder_name(config.task.name)
    given, config = config, settle(config, None, report, fetch=create_method(config).asks)
    method, inputs = create_method(config), load_run_data(config)
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
            "read": {
                name: {"rows": t.rows, "lines": t.lines, "empty": t.empty, "said": t.say()} for name, t in inputs.tallies.items()
            },
            "notes": list(inputs.notes),
        },
    }
    if method.crossfits:
        plan["trainings"] = _trainings(config, method, inputs)
    check_first_round(method, _context(config, method, inputs), len(inputs.seed) if method.takes_seed else 0)
    plan["labels"] = _first_targets(config, method, inputs)
    plan["so_far"] = [asdict(spent) for spent in _so_far(folder, given)]
    rows = _rows(config, inputs)
    price = price_of(config.teacher)
    if rows[1] == 0:
        nothing = {"requests": [0, 0], "tokens": [0, 0], "cost_usd": [0.0, 0.0], "minutes": [0.0, 0.0]}
        return {**plan, "sample": None, "server": None, **nothing, "price": price_as_json(price), "cached": None, "warnings": []}
    check_price(config.teacher, config.budget, price)
    plan["teacher"]["probe"] = probe_teacher(config.teacher, report)
    asked, answers, seconds, notes, server = _ask(config, inputs, report)
    expected = forecast(rows, [answer.usage for answer in answers], config.teacher)
    return {
        **plan,
        "sample": {
            "messages": [[m.role, m.content] for m in asked[0].messages],
            "answer": answer_text(config.teacher, answers[0]),
        },
        "server": server or None,
        **expected,
        "minutes": _minutes(config.teacher, expected["requests"], seconds),
        "price": price_as_json(price),
        "cached": _cached(config, inputs, answers_path(config.cache, folder.parent)),
        "warnings": [
            *notes,
            *_thought_warnings(config, answers),
            *_no_text(config, answers),
            *money_warnings(config.budget, expected, price),
        ],
    }


def _first_targets(config: RunConfig, method: Method, inputs: RunData) -> dict[str, list[int]]:
    """Return, by label, what the first stage wants, and the most that it asks for; empty without a target."""
    if config.method.match is not None or not method.asks or method.student == "none":
        return {}
    first = None if inputs.seed else next(_plans(method, _context(config, method, inputs)), None)
    most = config.method.max_overgeneration
    return {label: [rows, math.ceil(rows * most)] for label, rows in first.targets.items()} if first else {}


def _so_far(folder: Path, config: RunConfig) -> list[LabelSpent]:
    """Return what each label took of this run, where it has begun; nothing of another run there."""
    if not (folder / JOURNAL).is_file():
        return []
    try:
        RunDirectory.check(folder, config)
        with closing(Journal(folder / JOURNAL)) as journal:
            return spent_by_label(journal, count_rows(journal))
    except RunError:
        # `stepsynth status` says what is wrong with it; a plan is for what comes.
        return []


def _minutes(teacher: TeacherConfig, requests: Sequence[int], seconds: float) -> list[float] | None:
    """Return how long requests take at this pace, no faster than they may be sent; ``None`` where nobody knows."""
    if teacher.mode == "batch":
        return None
    slowest = max(seconds, 60.0 / teacher.requests_per_minute if teacher.requests_per_minute else 0.0)
    return [round(count * slowest / 60, 1) for count in requests]


def _ask(
    config: RunConfig, inputs: RunData, report: Callable[[str], None] | None
) -> tuple[list[Request], list[Response], float, list[str], str]:
    """Return sample requests, their answers, how many seconds a request will take, and what was learned about the teacher."""
    # A sample is asked for live even where the run will use a batch API: it is wanted now.
    live = config.model_copy(update={"teacher": config.teacher.model_copy(update={"mode": "live"})})
    teacher = cast("AsyncTeacher | EngineTeacher", create_teacher(live.teacher))
    # One request says how fast a server answers; an engine in this process is asked for a small batch,
    # since it answers many at once far faster than one after the other.
    engine = isinstance(teacher, EngineTeacher)
    waits: list[float] = []

    def waiting(wait: float) -> None:
        waits.append(wait)
        if report is not None:
            report(f"the server asks to wait {wait:,.0f} s before it answers")

    asked = _sample(live, inputs, teacher, _ENGINE_SAMPLE if engine else 1, waiting)
    before = sum(waits)
    started = time.monotonic()
    answers = ask_sample(live.teacher, teacher, asked, waiting)
    # A wait says how often may be asked, and nothing of how fast an answer is.
    seconds = max(time.monotonic() - started - (sum(waits) - before), 0.0) / (len(asked) if engine else live.teacher.concurrency)
    remember(live.teacher, teacher)
    server = sample_findings(live.teacher, teacher, answers)
    notes = list(getattr(teacher, "notes", ()))
    if waits:
        notes.append(
            f"the server asked to wait {sum(waits):,.0f} s for the sample. A run waits, too, so it takes longer than the minutes "
            "above; with the limit of your plan in teacher.requests_per_minute they count that in."
        )
    return asked, answers, seconds, notes, server


def _thought_warnings(config: RunConfig, answers: Sequence[Response]) -> list[str]:
    """Return what a model that thinks takes, and whether it has room to answer."""
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
    """Return why a sample whose answers ended by themselves holds no text."""
    if all(answer.finish_reason == "refusal" for answer in answers):
        return ["the sample answer was refused: the teacher, or a filter before it, declines to write it."]
    if any(answer_text(config.teacher, a).strip() for a in answers) or is_cut_off_in_thought(config.teacher, answers[0]):
        return []
    if '"tool_calls"' in answers[0].raw and re.search(r'"tool_calls":\s{0,5}\[\s{0,20}\{', answers[0].raw):
        return ["the sample answer holds no text: the teacher called a tool instead, take another model."]
    where = thoughts_of(answers[0]).found
    went = f"what the teacher wrote is {where}, as thoughts" if where != "none seen" else "the server sent an empty one"
    return [f"the sample answer holds no text: {went}. Switch thinking off in teacher.options, or take another model."]


def _context(config: RunConfig, method: Method, inputs: RunData) -> MethodContext:
    """Return what a method may look at, as if its student had got every gold row wrong, and every label were a reason."""
    harvest, family = _shown(method, inputs), create_family(config.task)
    mistakes = [Mistake(example, "", 1.0) for example in harvest]
    reasons = {name: [name or "reason"] for name in config.task.labels or [""]}
    ctx = MethodContext(config, Prompts(config.task), family, harvest, inputs.contexts, lambda: reasons, lambda _: mistakes)
    return replace(ctx, together=deal_folds(harvest, config.method.folds, config.seed).together) if method.crossfits else ctx


def _shown(method: Method, inputs: RunData) -> tuple[Example, ...]:
    """Return the gold rows that may feed the loop."""
    return (*inputs.validation.harvest, *(inputs.validation.select if method.crossfits else ()))


def _sample(
    config: RunConfig,
    inputs: RunData,
    teacher: AsyncTeacher | EngineTeacher,
    count: int,
    waiting: Callable[[float], object],
) -> list[Request]:
    """Return the first requests for rows, with a reason that was really asked for where reasons are shown."""
    method = create_method(config)
    ctx = _context(config, method, inputs)
    if method.student == "none":
        sampling = config.teacher.sampling.frozen()
        return [Request(ctx.prompts.question(row), sampling, 0, "answer", 0, "") for row in ctx.harvest[:count]]
    plan = next(_plans(method, ctx))
    if plan.kind == StageKind.RATIONALES:
        request = plan.request(next(iter(plan.targets)), 0, 0)
        (answer,) = ask_sample(config.teacher, teacher, [request], waiting)
        found = candidates_of(request, "", answer, answer_text(config.teacher, answer), Layout())
        reasons = [candidate.text for candidate in found if candidate.text]
        given = {name: reasons or [name] for name in config.task.labels or [""]}
        later = _plans(method, replace(ctx, rationales=lambda: given))
        plan = next((found for found in later if found.kind != StageKind.RATIONALES), plan)
    first = next(iter(plan.targets))
    return [plan.request(first, number, number) for number in range(count)]


def _plans(method: Method, ctx: MethodContext) -> Iterator[Plan]:
    """Yield the plans of all rounds."""
    for number in range(method.rounds + 1):
        yield from plans_of(method, number, ctx)


def _rows(config: RunConfig, inputs: RunData) -> tuple[int, int]:
    """Return the fewest and the most answers that are likely to be asked for."""
    method, match = create_method(config), config.method.match
    if not method.asks:
        return 0, 0
    if method.student == "none":
        asked = len(inputs.validation.select) + (inputs.sealed.n if inputs.sealed else 0)
        return asked, asked
    if match and match.unit == "requests":
        return math.ceil(match.amount), math.ceil(match.amount)
    ctx = _context(config, method, inputs)
    always, by_mistakes = 0.0, 0.0
    for number in range(method.rounds + 1):
        looked: list[int] = []
        plans = list(plans_of(method, number, replace(ctx, mistakes=_noting(ctx, looked))))
        answers = sum(map(_answers, plans))
        if looked:
            by_mistakes += answers
        else:
            always += answers
        if number and not plans:
            break
    counts = [math.ceil((always + by_mistakes * wrong) / share) for share, wrong in zip(_ACCEPTED, _WRONG, strict=True)]
    return counts[0], counts[1]


def _noting(ctx: MethodContext, looked: list[int]) -> Callable[[int], Sequence[Mistake]]:
    """Return ``ctx.mistakes`` that tells whether it was called: then a plan is as large as there are mistakes."""

    def mistakes(number: int) -> Sequence[Mistake]:
        looked.append(number)
        return ctx.mistakes(number)

    return mistakes


def _answers(plan: Plan) -> float:
    """Return how many answers a plan's rows take if none is dropped; reasons of a label come in whole answers."""
    targets = {label: target for label, target in plan.targets.items() if target}
    if not targets:
        return 0.0
    each = plan.request(next(iter(targets)), 0, 0).parts
    if plan.kind == StageKind.RATIONALES:
        return sum(math.ceil(target / each) for target in targets.values())
    return sum(targets.values()) / each


def _trainings(config: RunConfig, method: Method, inputs: RunData) -> int:
    """Return how many students are trained, at most, where every fold takes one."""
    folds = deal_folds(_shown(method, inputs), config.method.folds, config.seed).count
    return trainings(config.method.final, method.rounds, folds)


def _cached(config: RunConfig, inputs: RunData, path: Path | None) -> dict[str, Any] | None:
    """Return how many requests of the run's first wave are answered already.

    ``None`` where no answers are shared, or where what is asked first is not known before.
    """
    method = create_method(config)
    first = None if inputs.seed else next(plans_of(method, 0, _context(config, method, inputs)), None)
    if path is None or first is None or config.method.match is not None:
        return None
    identity = config.teacher.identity()
    wave = next_wave(first, [], Counter(), config.method.max_overgeneration)
    wanted = {request.key(identity): with_room(config.teacher, request).sampling.max_tokens for request in wave}
    found = {"path": str(path), "requests": 0, "of": len(wanted), "problem": None}
    if not path.is_file():
        return found
    try:
        with closing(AnswerStore.shared(path)) as store:
            # Through the plain store: having been planned is no use that keeps an answer from being pruned.
            return {**found, "requests": len(AnswerStore(store.connection).find_many(list(wanted.items())))}
    except RunError as error:
        return {**found, "problem": error.message}
