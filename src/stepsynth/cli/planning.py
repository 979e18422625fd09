"""``plan``: check everything, ask for one sample, say what a run will take."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from stepsynth.executor import ask_sample
from stepsynth.inputs import Inputs, check_inputs
from stepsynth.methods import Lab, create_method
from stepsynth.methods.seed import RationalePlan, SeedPlan
from stepsynth.prompts import Prompts
from stepsynth.tasks import create_family
from stepsynth.teachers import EngineTeacher, create_teacher, probe_teacher
from stepsynth.types import Mistake, Request

if TYPE_CHECKING:
    from stepsynth.config import RunConfig
    from stepsynth.teachers import AsyncTeacher

__all__ = ["make_plan", "print_plan"]

# Measured on the shipped example and three public sets: share of answers that hygiene lets pass,
# and share of the harvest half that a first student gets wrong.
_ACCEPTED = (0.95, 0.3)
_WRONG = (0.1, 0.7)
_ENGINE_SAMPLE = 16


def make_plan(config: RunConfig) -> dict[str, Any]:
    """Check config, data, prompts and teacher; return the plan as plain values.

    Raises:
        UserError: whatever a run would stump on, before it starts.
        TeacherError: the teacher does not answer.
    """
    inputs = check_inputs(config)
    plan: dict[str, Any] = {
        "task": config.task.name,
        "family": config.task.family,
        "method": config.method.name,
        "teacher": {**config.teacher.identity(), "probe": None},
        "student": config.student.model,
        "data": {
            "harvest": len(inputs.validation.harvest),
            "select": len(inputs.validation.select),
            "test": inputs.sealed.n if inputs.sealed else None,
            "contexts": len(inputs.contexts),
            "seed": len(inputs.seed),
            "notes": list(inputs.notes),
        },
    }
    requests = _requests(config, inputs)
    if requests[1] == 0:
        return {**plan, "sample": None, "requests": [0, 0], "tokens": [0, 0], "cost_usd": [0.0, 0.0], "minutes": [0.0, 0.0]}
    plan["teacher"]["probe"] = probe_teacher(config.teacher)
    teacher = create_teacher(config.teacher)
    # One request says how fast a server answers; an engine in this process is asked for a small batch,
    # since it answers many at once far faster than one after the other.
    engine = isinstance(teacher, EngineTeacher)
    asked = _sample(config, inputs, teacher, _ENGINE_SAMPLE if engine else 1)
    started = time.monotonic()
    answers = ask_sample(config.teacher, teacher, asked)
    seconds = (time.monotonic() - started) / (len(asked) if engine else config.teacher.concurrency)
    tokens = sum(answer.usage.prompt_tokens + answer.usage.completion_tokens for answer in answers) / len(answers)
    free = all(answer.usage.cost_usd == 0.0 for answer in answers)
    return {
        **plan,
        "sample": {"messages": [[m.role, m.content] for m in asked[0].messages], "answer": answers[0].text},
        "requests": list(requests),
        "tokens": [round(count * tokens) for count in requests],
        "cost_usd": [0.0, 0.0] if free else None,
        "minutes": [round(count * seconds / 60, 1) for count in requests],
    }


def _sample(config: RunConfig, inputs: Inputs, teacher: AsyncTeacher | EngineTeacher, count: int) -> list[Request]:
    """Return the first requests for rows, with a reason that was really asked for where reasons are shown."""
    harvest, prompts = inputs.validation.harvest, Prompts(config.task)
    mistakes = [Mistake(example, "", 1.0) for example in harvest]
    labels = list(config.task.labels) or [""]
    lab = Lab(config, prompts, create_family(config.task), harvest, inputs.contexts, rationales=dict, mistakes=lambda _: mistakes)
    if config.method.name == "teacher":
        return [Request(prompts.question(row), config.teacher.sampling.frozen(), 0, "answer", 0, "") for row in harvest[:count]]
    if create_method(config).takes_seed and config.method.rationales and not inputs.seed:
        (reason,) = ask_sample(config.teacher, teacher, [RationalePlan(lab).request(labels[0], 0, 0)])
        plan: Any = SeedPlan(lab, {name: [reason.text.strip() or name] for name in labels})
    else:
        plan = next(create_method(config).plans(1 if inputs.seed else 0, lab))
    first = next(iter(plan.targets))
    return [plan.request(first, number, number) for number in range(count)]


def _requests(config: RunConfig, inputs: Inputs) -> tuple[int, int]:
    """Return the fewest and the most requests that are likely."""
    method, harvest = config.method, len(inputs.validation.harvest)
    if method.name == "gold":
        return 0, 0
    if method.name == "teacher":
        asked = len(inputs.validation.select) + (inputs.sealed.n if inputs.sealed else 0)
        return asked, asked
    if method.match and method.match.unit == "requests":
        return math.ceil(method.match.amount), math.ceil(method.match.amount)
    takes_seed = create_method(config).takes_seed
    reasons = method.rationales * max(1, len(config.task.labels)) if takes_seed and not inputs.seed else 0
    seed = 0 if takes_seed and inputs.seed else method.seed_rows
    counts = []
    for accepted, wrong in zip(_ACCEPTED, _WRONG, strict=True):
        rows = seed + method.extrapolation_rounds * harvest * wrong * method.rows_per_mistake
        counts.append(math.ceil((reasons + rows) / accepted))
    return counts[0], counts[1]


def print_plan(plan: dict[str, Any]) -> None:
    """Print what `make_plan` found."""
    from rich.console import Console

    console = Console(highlight=False)
    data = plan["data"]
    test = f"{data['test']:,} sealed test rows" if data["test"] else "no test set"
    console.print(f"task      {plan['task']}: {data['harvest']:,} harvest + {data['select']:,} select rows, {test}", markup=False)
    for note in data["notes"]:
        console.print(f"note      {note}", markup=False)
    if data["contexts"]:
        console.print(f"contexts  {data['contexts']:,} to write about")
    if data["seed"]:
        console.print(f"seed      {data['seed']:,} given rows")
    console.print(f"method    {plan['method']}")
    console.print(f"student   {plan['student']}", markup=False)
    if plan["sample"] is None:
        console.print("teacher   is not asked for anything")
        return
    console.print(f"teacher   {plan['teacher']['probe']}", markup=False)
    console.print("\na sample prompt", style="bold")
    for role, content in plan["sample"]["messages"]:
        console.print(f"{role}: {content}", markup=False, style="dim")
    console.print("its answer", style="bold")
    console.print(plan["sample"]["answer"], markup=False)
    low, high = plan["requests"]
    cost = "none: it runs on this machine" if plan["cost_usd"] else "unknown: no price is known for this model"
    console.print(f"\nrequests  {low:,} to {high:,}")
    console.print(f"tokens    {plan['tokens'][0]:,} to {plan['tokens'][1]:,}")
    console.print(f"price     {cost}")
    console.print(f"minutes   {plan['minutes'][0]} to {plan['minutes'][1]} for the teacher, training not counted")
