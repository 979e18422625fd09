"""What a plan's sample and a trial ask the teacher, and what that costs at most.

The requests are those of a run, with the same keys: a run that follows finds their answers in the shared file.
"""

from __future__ import annotations

import math
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stepsynth.config import BudgetConfig
from stepsynth.data.splits import apportion
from stepsynth.errors import BudgetError
from stepsynth.generation import answer_requests
from stepsynth.generation.room import with_room
from stepsynth.generation.waves import next_wave
from stepsynth.journal import AnswerStore
from stepsynth.methods import rng_for
from stepsynth.planning.forecast import amount
from stepsynth.planning.plans import all_plans
from stepsynth.runtime.counting import counted
from stepsynth.tasks.labels import carried_labels
from stepsynth.teachers.prices import price_of
from stepsynth.teachers.purse import Bill, Purse
from stepsynth.types import Request, StageKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from stepsynth.config import RunConfig, TeacherConfig
    from stepsynth.methods import Method, MethodContext, Plan
    from stepsynth.run.data import RunData
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example

__all__ = [
    "Questions",
    "check_caps",
    "cost_line",
    "draw_gold",
    "known_keys",
    "reason_sample",
    "row_sample",
    "with_long_reasons",
    "worst_case",
]

_GOLD = 20
_ROWS = 20
# Enough for every reason that a run asks for where the teacher lists ten at a time and there are few labels; then the rows'
# prompts are the run's, too.
_REASONS = 40
# A reason has at most this many words, see `stepsynth.filters.FilterPipeline.for_rationales`.
_LONG_REASON = " ".join(["reasons"] * 60)


@dataclass(frozen=True)
class Questions:
    """What a trial asks.

    Attributes:
        gold: the gold rows that the teacher labels.
        labelling: the requests for that.
        reasons: the stage of reasons before the rows, if the method has one.
        row_labels: the labels of the sample rows.
        writes: whether the method writes rows.
    """

    gold: tuple[Example, ...]
    labelling: tuple[Request, ...]
    reasons: Plan | None
    row_labels: frozenset[str]
    writes: bool

    @classmethod
    def of(cls, method: Method, inputs: RunData, ctx: MethodContext) -> Questions:
        """Choose the questions by the run's seed; the test set is not looked at.

        Args:
            method: the run's method.
            inputs: the run's data.
            ctx: see `stepsynth.planning.plans.planning_context`.
        """
        config, halves = ctx.config, inputs.validation
        # A row that prompts show would be no question.
        pool = halves.select if config.method.few_shot else (*halves.harvest, *halves.select)
        gold = draw_gold(pool, ctx.family, _GOLD, config.seed)
        labelling = answer_requests(config, ctx.family, halves.harvest, gold)
        plans = list(_first_stages(method, with_long_reasons(ctx)))
        reasons = next((plan for plan in plans if plan.kind == StageKind.RATIONALES), None)
        rows = next((plan for plan in plans if plan.kind not in (StageKind.RATIONALES, StageKind.ANNOTATE)), None)
        labels = _labels_of(rows, config.seed) if rows else frozenset()
        return cls(tuple(gold), tuple(labelling), reasons, labels, rows is not None)

    def row_requests(self, method: Method, ctx: MethodContext) -> list[Request]:
        """Return the first requests of the method's first stage of rows, the labels in turn.

        Args:
            method: the run's method.
            ctx: with the reasons that prompts show.
        """
        plan = next((plan for plan in _first_stages(method, ctx) if plan.kind != StageKind.RATIONALES), None)
        wanted = {label: rows for label, rows in plan.targets.items() if label in self.row_labels and rows} if plan else {}
        if plan is None or not wanted:
            return []
        each = plan.request(next(iter(wanted)), 0, 0).parts
        most = math.ceil(_ROWS / each)
        turns = [(turn, label) for turn in range(most) for label, rows in wanted.items() if turn * each < rows]
        return [plan.request(label, turn, place) for place, (turn, label) in enumerate(turns[:most])]

    def reason_labels(self, config: RunConfig) -> frozenset[str]:
        """Return the labels that need reasons for the sample rows."""
        known = config.task.labels
        return frozenset(part for label in self.row_labels for part in carried_labels(label, known) or ("",))

    def at_most(self, method: Method, ctx: MethodContext) -> list[Request]:
        """Return the requests of the trial, or as many that cost no less where they depend on earlier answers."""
        return [*self.labelling, *self._reasons_at_most(ctx.config), *self.row_requests(method, with_long_reasons(ctx))]

    def _reasons_at_most(self, config: RunConfig) -> list[Request]:
        if self.reasons is None:
            return []
        labels, most = self.reason_labels(config), config.method.max_overgeneration
        first = [request for request in next_wave(self.reasons, [], Counter(), most) if request.label in labels][:_REASONS]
        if not first:
            return []
        possible = sum(
            math.ceil(math.ceil(rows * most) / first[0].parts) for label, rows in self.reasons.targets.items() if label in labels
        )
        longest = max(first, key=lambda request: sum(len(m.content) for m in request.messages))
        more = range(min(_REASONS, possible) - len(first))
        return [*first, *(replace(longest, replicate=~number) for number in more)]

    @property
    def most_reasons(self) -> int:
        """The most requests for reasons."""
        return _REASONS


def _first_stages(method: Method, ctx: MethodContext) -> Iterable[Plan]:
    """Yield the stages up to the first one that writes rows."""
    for plan in all_plans(method, ctx):
        yield plan
        if plan.kind != StageKind.RATIONALES:
            return


def _labels_of(plan: Plan, seed: int) -> frozenset[str]:
    """Return the labels of the sample rows: all, or if there are more labels than rows, some of them."""
    labels = [label for label, target in plan.targets.items() if target]
    return frozenset(labels if len(labels) <= _ROWS else rng_for("trial labels", seed).sample(labels, _ROWS))


def draw_gold(rows: Sequence[Example], family: TaskFamily, size: int, seed: int) -> list[Example]:
    """Draw up to ``size`` gold rows, stratified by label if there are no more labels than rows.

    Args:
        rows: the gold rows.
        family: says which labels belong together.
        size: how many.
        seed: the run's seed.
    """
    size = min(size, len(rows))
    strata = family.strata(Counter(row.label for row in rows))
    sizes = Counter(strata[row.label] for row in rows)
    if len(sizes) > size:
        strata, sizes = dict.fromkeys(strata, ""), Counter({"": len(rows)})
    left = apportion(sizes, size)
    drawn: list[Example] = []
    for row in rng_for("trial gold", seed).sample(list(rows), len(rows)):
        if left[strata[row.label]]:
            left[strata[row.label]] -= 1
            drawn.append(row)
    return drawn


def with_long_reasons(ctx: MethodContext) -> MethodContext:
    """Return the data of a method as if every label had reasons of the greatest length."""
    labels, count = ctx.config.task.labels or [""], max(ctx.config.method.rationales, 1)
    return replace(ctx, rationales=lambda: {label: [_LONG_REASON] * count for label in labels})


def reason_sample(method: Method, ctx: MethodContext) -> Request | None:
    """Return the request for a plan's sample reason; ``None`` if the method does not begin with reasons."""
    plan = next(iter(all_plans(method, ctx)), None)
    return plan.request(next(iter(plan.targets)), 0, 0) if plan is not None and plan.kind == StageKind.RATIONALES else None


def row_sample(method: Method, ctx: MethodContext, count: int) -> list[Request]:
    """Return the requests for a plan's sample rows, all of one label; for a teacher that answers itself, its questions."""
    if method.student == "none":
        sampling = ctx.config.teacher.sampling.frozen()
        return [Request(ctx.prompts.question(row), sampling, 0, "answer", 0, "") for row in ctx.harvest[:count]]
    stages = list(_first_stages(method, ctx))
    plan, first = stages[-1], next(iter(stages[-1].targets))
    return [plan.request(first, number, number) for number in range(count)]


def worst_case(config: TeacherConfig, sample: Sequence[Request], asked: Sequence[Request], known: set[str]) -> Bill:
    """Return the most that a sample and a trial cost, each request counted once; a repeated attempt comes on top.

    Args:
        config: the teacher's, in live mode.
        sample: always asked.
        asked: asked unless known.
        known: keys of known answers.
    """
    identity = config.identity()
    wanted = {request.key(identity): request for request in sample}
    wanted |= {key: request for request in asked if (key := request.key(identity)) not in known and key not in wanted}
    return _bill(Purse(config, BudgetConfig(), price_of(config)), [with_room(config, request) for request in wanted.values()])


def _bill(purse: Purse, requests: Sequence[Request]) -> Bill:
    costs = [purse.worst([request]) for request in requests]
    usd = None if purse.price is None else sum(cost.usd or 0.0 for cost in costs)
    return Bill(len(costs), sum(cost.tokens for cost in costs), usd)


def cost_line(worst: Bill) -> str:
    """Return what a sample and a trial may cost, before anything is asked."""
    usd = "price unknown" if worst.usd is None else "free" if worst.usd == 0 else f"{amount(worst.usd)} USD"
    requests = counted(worst.requests, "request")
    return f"Trial: at most {requests} and {worst.tokens:,} tokens: {usd}. Failed attempts that are repeated come on top."


def check_caps(worst: Bill, budget: BudgetConfig) -> None:
    """Refuse a trial that may pass a cap, before anything is sent.

    Raises:
        BudgetError: it may take more than a cap allows.
    """
    for name, cap, most in (
        ("requests", budget.requests, worst.requests),
        ("tokens", budget.tokens, worst.tokens),
        ("usd", budget.usd, worst.usd),
    ):
        if cap is not None and most is not None and most > cap:
            what = f"budget.{name}={cap:,} is too low for a trial, which may take {amount(most)}: nothing was asked."
            raise BudgetError(what, hint=f"Raise budget.{name}, or plan without a trial.")


def known_keys(config: TeacherConfig, requests: Sequence[Request], path: Path | None) -> set[str]:
    """Return the keys of requests whose answers are known; empty if there is no file.

    Args:
        config: the teacher's.
        requests: the requests.
        path: the file of shared answers, if there is one.

    Raises:
        RunError: the file cannot be read.
    """
    if path is None or not path.is_file():
        return set()
    identity = config.identity()
    wanted = {request.key(identity): with_room(config, request).sampling.max_tokens for request in requests}
    with closing(AnswerStore.shared(path)) as store:
        # The plain store does not record a use: planning must not keep an answer from being pruned.
        return set(AnswerStore(store.connection).find_many(list(wanted.items())))
