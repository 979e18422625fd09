"""``plan``: make it and print it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.cli.progress_view import dollars
from stepsynth.cli.screens import plain_text
from stepsynth.cli.signals import handle_signals
from stepsynth.cli.trying import decision_line, trial_lines
from stepsynth.runtime.counting import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stepsynth.config import RunConfig

__all__ = ["plan_config", "print_plan"]

_MOST_LABELS = 20


def plan_config(config: RunConfig, folder: Path, *, report: Callable[[str], None], trial: bool) -> dict[str, Any]:
    """Make a plan; see `stepsynth.planning.making.make_plan`. During a trial, signals ask for a clean stop.

    Args:
        config: the checked config.
        folder: the run directory.
        report: called with a sentence per slow step.
        trial: whether to make a trial.
    """
    from stepsynth.planning import make_plan

    if not trial:
        return make_plan(config, folder=folder, report=report)
    with handle_signals():
        return make_plan(config, folder=folder, report=report, trial=True)


def print_plan(plan: dict[str, Any], config: Path, overrides: Sequence[str] = (), *, tried: bool = False) -> None:
    """Print what `make_plan` found.

    Args:
        plan: the plan.
        config: the config's file, to name it in the command for a trial.
        overrides: the changes that the plan was made with, for the same command.
        tried: whether a trial was asked for.
    """
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    data = plan["data"]
    # With cross-fitting there is a score without a test set.
    untested = "no test set (scores are cross-validated)" if "trainings" in plan else "no test set"
    test = counted(data["test"], "sealed test row") if data["test"] else untested
    halves = f"{data['harvest']:,} harvest + {data['select']:,} select rows"
    # With cross-fitting every row feeds the loop and judges it.
    gold = f"{data['harvest'] + data['select']:,} validation rows" if "trainings" in plan else halves
    console.print(f"task      {plain_text(plan['task'])}: {gold}, {test}", markup=False)
    if plan["power"]:
        for line in _power_lines(plan["power"]):
            console.print(line, markup=False, soft_wrap=True)
    for name, read in data["read"].items():
        console.print(f"read      {name}: {read['said']}", markup=False)
    for note in data["notes"]:
        console.print(f"note      {plain_text(note)}", markup=False)
    if data["contexts"]:
        console.print(f"contexts  {data['contexts']:,} to write about")
    if data["seed"]:
        console.print(f"seed      {counted(data['seed'], 'given row')}")
    if data["pool"]:
        console.print(f"pool      {counted(data['pool'], 'text')} without labels to learn from")
    console.print(f"method    {plan['method']}")
    console.print(f"student   {plan['student']}", markup=False)
    if "trainings" in plan:
        console.print(f"          trained {plan['trainings']} times: once per fold and round, and the students that are kept")
    if plan["sample"] is None:
        console.print("teacher   not used")
        if tried:
            console.print(f"decision  none: method {plan['method']} asks no teacher, so there is nothing to try", markup=False)
        return
    console.print(f"teacher   {plan['teacher']['probe']}", markup=False)
    if plan["server"]:
        console.print(f"server    {plan['server']}", markup=False, soft_wrap=True)
    console.print("\na sample prompt", style="bold")
    for role, content in plan["sample"]["messages"]:
        console.print(f"{role}: {plain_text(content)}", markup=False, style="dim")
    console.print("its answer", style="bold")
    console.print(plain_text(plan["sample"]["answer"]), markup=False)
    console.print()
    for line in _forecast_lines(plan):
        console.print(plain_text(line), markup=False, soft_wrap=True)
    for warning in plan["warnings"]:
        console.print(f"[yellow]warning[/yellow]   {escape(plain_text(warning))}", soft_wrap=True)
    for line in trial_lines(plan["trial"]):
        console.print(plain_text(line), markup=False, soft_wrap=True)
    console.print(plain_text(decision_line(plan["trial"], config, overrides)), markup=False, soft_wrap=True, style="bold")


def _power_lines(power: dict[str, Any]) -> list[str]:
    """Return the differences that the test set can show: between two students, and between two methods in a comparison."""
    least, wanted = power["detectable"], power["wanted"]
    shows = f"shows differences of {100 * least:.1f} points or more" if least else "too few rows to tell most students apart"
    enough = least and least <= wanted
    takes = "" if enough else f"; {100 * wanted:.0f} points take about {power['rows_needed']:,} rows"
    lines = [f"test      {shows}{takes} (if two students differ on {power['disagreement']:.0%} of the rows)"]
    several = power["comparison"]
    shows = f"{100 * several['detectable']:.1f} points or more" if several["detectable"] else "none"
    needs = f"{several['seeds_needed']:,} seeds" if several["seeds_needed"] else "more test rows"
    takes = "" if several["detectable"] and several["detectable"] <= wanted else f"; {100 * wanted:.0f} points take {needs}"
    lines.append(f"          of two methods, compared with {several['seeds']} seeds: {shows}{takes} (typical variances)")
    return lines


def _label_lines(plan: dict[str, Any]) -> list[str]:
    """Return the answers that labels may take, and those taken so far if a run has begun."""
    lines = []
    targets = {label: rows for label, rows in plan["labels"].items() if label}
    if targets:
        most = max(targets, key=lambda label: targets[label][1])
        least = min(rows for rows, _ in targets.values())
        each = f"{least:,}" if least == targets[most][0] else f"{least:,} to {targets[most][0]:,}"
        needs = f"the first stage needs {each} accepted answers for each, from at most {targets[most][1]:,} requests each"
        lines.append(f"labels    {len(targets):,}: {needs}")
    for place, spent in enumerate(plan["so_far"][:_MOST_LABELS]):
        why = f"; most dropped: {spent['for_reason']:,} {spent['reason']}" if spent["reason"] else ""
        said = f"{spent['label'] or 'all'}: {spent['asked']:,} asked, {spent['accepted']:,} of {spent['wanted']:,} accepted{why}"
        lines.append(f"{'so far' if not place else '':8}  {said}")
    if len(plan["so_far"]) > _MOST_LABELS:
        lines.append(f"          and {len(plan['so_far']) - _MOST_LABELS:,} more labels: see the run's report")
    return lines


def _forecast_lines(plan: dict[str, Any]) -> list[str]:
    price, cost, tokens, minutes, cached = (plan[name] for name in ("price", "cost_usd", "tokens", "minutes", "cached"))
    lines = [f"requests  {plan['requests'][0]:,} to {plan['requests'][1]:,}", *_label_lines(plan)]
    if cached is not None and cached["problem"]:
        lines.append(f"cached    unknown: {cached['problem']}")
    elif cached is not None:
        lines.append(f"cached    {cached['requests']:,} of the first {cached['of']:,} requests, in {cached['path']}")
    lines.append(f"tokens    {tokens[0]:,} to {tokens[1]:,}" if tokens else "tokens    unknown: the server does not count them")
    if price is None:
        lines.append(f"price     {'reported by the server with each answer' if cost else 'unknown; set teacher.price'}")
    elif price["input"] == price["output"] == 0:
        lines.append(f"price     none: {price['source']}")
    else:
        rate = f"{price['input']:g} / {price['output']:g} USD per million tokens read / written"
        rate += f", times {price['batch']:g} for the batch API" if price["batch"] != 1 else ""
        lines.append(f"price     {rate} ({price['source']}{', ' + price['date'] if price['date'] else ''})")
    if cost is None:
        lines.append("cost      unknown")
    else:
        lines.append("cost      nothing" if cost[1] == 0 else f"cost      {dollars(cost[0])} to {dollars(cost[1])} USD")
    trial = plan["trial"] or {}
    training = trial.get("training")
    trained = "training not counted" if trial.get("decision") else "training not counted (--try measures it)"
    if training:
        steps = f"{training['steps']:,} steps, {training['steps_per_s']:g} a second"
        most = "up to about" if training["pool"] else "about"
        trained = f"{most} {training['minutes']} for {counted(training['students'], 'training')} of {steps}"
    if minutes is None:
        lines.append(f"minutes   unknown: a batch API answers within a day per wave; {trained}")
    else:
        lines.append(f"minutes   {minutes[0]} to {minutes[1]} for the teacher, {trained}")
    return lines
