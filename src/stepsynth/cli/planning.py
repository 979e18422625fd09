"""``plan``: check everything, ask for one sample, say what a run will take."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from stepsynth.executor import ask_sample
from stepsynth.loop import check_inputs
from stepsynth.methods.seed import RationalePlan, SeedPlan
from stepsynth.prompts import Prompts
from stepsynth.teachers import BatchTeacher, create_teacher, probe_teacher

if TYPE_CHECKING:
    from stepsynth.config import RunConfig

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
    answered = probe_teacher(config.teacher)
    teacher = create_teacher(config.teacher)
    prompts = Prompts(config.task)
    label = next(iter(config.task.labels))
    (reason,) = ask_sample(config.teacher, teacher, [RationalePlan(config, prompts).request(label, 0, 0)])
    reasons = {name: [reason.text.strip() or label] for name in config.task.labels}
    seeds = SeedPlan(config, prompts, reasons)
    # One request says how fast a server answers; an engine in this process is asked for a small batch,
    # since it answers many at once far faster than one after the other.
    engine = isinstance(teacher, BatchTeacher)
    asked = [seeds.request(label, number, number) for number in range(_ENGINE_SAMPLE if engine else 1)]
    started = time.monotonic()
    answers = ask_sample(config.teacher, teacher, asked)
    seconds = (time.monotonic() - started) / (len(asked) if engine else config.teacher.concurrency)
    requests = _requests(config, len(inputs.validation.harvest))
    tokens = sum(answer.usage.prompt_tokens + answer.usage.completion_tokens for answer in answers) / len(answers)
    free = all(answer.usage.cost_usd == 0.0 for answer in answers)
    return {
        "task": config.task.name,
        "teacher": {**config.teacher.identity(), "probe": answered},
        "student": config.student.model,
        "data": {
            "harvest": len(inputs.validation.harvest),
            "select": len(inputs.validation.select),
            "test": inputs.sealed.n if inputs.sealed else None,
            "notes": list(inputs.validation.notes),
        },
        "sample": {"messages": [[m.role, m.content] for m in asked[0].messages], "answer": answers[0].text},
        "requests": list(requests),
        "tokens": [round(count * tokens) for count in requests],
        "cost_usd": [0.0, 0.0] if free else None,
        "minutes": [round(count * seconds / 60, 1) for count in requests],
    }


def _requests(config: RunConfig, harvest: int) -> tuple[int, int]:
    """Return the fewest and the most requests that are likely."""
    method = config.method
    reasons = method.rationales * len(config.task.labels)
    counts = []
    for accepted, wrong in zip(_ACCEPTED, _WRONG, strict=True):
        rows = method.seed_rows + method.extrapolation_rounds * harvest * wrong * method.rows_per_mistake
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
    console.print(f"teacher   {plan['teacher']['probe']}", markup=False)
    console.print(f"student   {plan['student']}", markup=False)
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
