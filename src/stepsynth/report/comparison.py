"""A comparison's page: which method beats which, by how much, and whether that is established."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from stepsynth.comparison.looks import looks_sentence
from stepsynth.comparison.markdown import sealed_rows, steps_sentence
from stepsynth.config import FAKE
from stepsynth.methods.base import built_in_student
from stepsynth.report.comparison_figures import Forest, Mark, curve_figure, forest_figure
from stepsynth.report.template import fill, percent, signed, words

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["render_comparison"]

# The level at which a difference counts as established, after Holm's correction.
_LEVEL = 0.05
_REFERENCE_COLOUR, _OTHER_COLOUR, _OPEN_COLOUR = 0, 1, 5


def render_comparison(results: dict[str, Any]) -> str:
    """Return a comparison as one HTML document that encodes as UTF-8.

    The same results give the same characters.

    Args:
        results: from `stepsynth.comparison.summarise`, or the content of its ``results.json``.
    """
    systems = results["systems"]
    # Only scores that every method has can stand side by side.
    further = [name for name in systems[0]["details"] if all(name in entry["details"] for entry in systems)] if systems else []
    metric = words(results["metric"])
    values = {
        "results": results,
        "metric": metric,
        "headline": _headline(results),
        "further": further,
        "replaces": _replaces(results),
        "figures": _figures(results, metric),
        "level": _LEVEL,
        "looks": looks_sentence(results),
        "steps": steps_sentence(results),
        "command": _command(results),
        "budget": _budget_of(results),
        "fake": FAKE,
    }
    return fill("comparison.html.j2", values)


# sentences -----------------------------------------------------------------------------


def _headline(results: dict[str, Any]) -> list[str]:
    """Return the outcome in plain words."""
    systems, metric, seeds = results["systems"], words(results["metric"]), len(results["seeds"])
    over = f"over {seeds} seeds" if seeds > 1 else "with one seed"
    first = max(systems, key=lambda entry: entry["score"]["value"])
    reference = next((entry for entry in systems if entry["name"] == results["reference"]), None)
    said = reference or first
    low, high = said["score"]["ci95"]
    sentences = [
        f"{said['name']} scores {percent(said['score']['value'])} % {metric} ({percent(low)}\u2013{percent(high)}) {over}, "
        f"on {sealed_rows(results)}."
    ]
    if reference is None:
        return [*sentences, "It is the highest mean here. No differences were computed, so nothing is established."]
    compared = [entry for entry in systems if entry["difference"] and not _is_teacher(entry)]
    sure = [entry for entry in compared if _established(entry)]
    beaten = [entry for entry in sure if entry["difference"]["value"] < 0]
    ahead = [entry for entry in sure if entry["difference"]["value"] > 0]
    rest = [entry for entry in compared if entry not in beaten and entry not in ahead]
    if beaten:
        sentences.append(f"It beats {_listed(beaten)}: established.")
    if ahead:
        sentences.append(f"It is beaten by {_listed(ahead)}: established.")
    if rest:
        sentences.append(f"No difference from it is established for {_joined([_side(entry) for entry in rest])}.")
    if not compared:
        sentences.append("No other method was compared with it.")
    if teacher := next(filter(_is_teacher, systems), None):
        sentences.append(f"The teacher itself scores {percent(teacher['score']['value'])} %.")
    if seeds == 1:
        sentences.append("One seed compares students, not methods.")
    return sentences


def _replaces(results: dict[str, Any]) -> list[str]:
    """Return whether the student can replace the teacher, and what that would save."""
    systems = results["systems"]
    teacher = next(filter(_is_teacher, systems), None)
    if teacher is None:
        return ["The teacher was not asked to answer the test rows itself; add the method teacher to compare it."]
    student = next((entry for entry in systems if entry["name"] == _budget_of(results)), None)
    difference = teacher.get("against_student") or teacher["difference"]
    if student is None or not difference:
        return [f"The teacher itself scores {percent(teacher['score']['value'])} %. Add the method s3 to compare its student."]
    # The student minus the teacher.
    gap = -difference["value"]
    low, high = (-end for end in reversed(difference["ci95"]))
    scores = (
        f"the student of s3 scores {percent(student['score']['value'])} %, the teacher {percent(teacher['score']['value'])} %"
    )
    if not _is_established(difference):
        sentences = [
            f"Not decided: {scores}. The difference of {signed(gap)} points is not established; "
            f"the interval runs from {signed(low)} to {signed(high)} points for the student."
        ]
    elif gap > 0:
        sentences = [f"Yes: {scores}. Its lead of {100 * gap:.1f} points is established."]
    else:
        sentences = [f"Not without loss: {scores}. Its deficit of {-100 * gap:.1f} points is established."]
    return [*sentences, *_savings(student["per_1000_predictions"], teacher["per_1000_predictions"])]


def _savings(student: dict[str, Any], teacher: dict[str, Any]) -> list[str]:
    sentences = []
    if teacher["seconds"] is None:
        sentences.append("The teacher's time was not measured: its answers were already known.")
    elif student["seconds"]:
        times = teacher["seconds"] / student["seconds"]
        sentences.append(
            f"1,000 predictions take the student {student['seconds']:.1f} s on this machine, the teacher "
            f"{teacher['seconds']:,.1f} s: {times:,.1f} times as long."
        )
    if teacher["usd"] is None:
        sentences.append("What the teacher's answers cost is unknown.")
    elif teacher["usd"]:
        sentences.append(f"1,000 answers of the teacher cost ${teacher['usd']:,.2f}; the student has no price.")
    return sentences


def _budget_of(results: dict[str, Any]) -> str | None:
    """Return the method that set the others' budget; in results of older versions that was the reference."""
    name: str | None = results["budget"] if "budget" in results else results["reference"]
    return name


def _established(entry: dict[str, Any]) -> bool:
    return _is_established(entry["difference"])


def _is_established(difference: dict[str, Any]) -> bool:
    value = difference["p_holm"]
    return value is not None and value < _LEVEL


def _is_teacher(entry: dict[str, Any]) -> bool:
    return (built_in_student(str(entry["name"]).split(":")[0]) or entry.get("student")) == "none"


def _side(entry: dict[str, Any]) -> str:
    value = round(100 * entry["difference"]["value"], 1)
    side = "no difference" if not value else f"{abs(value):.1f} points {'higher' if value > 0 else 'lower'}"
    return f"{entry['name']} ({side})"


def _listed(entries: Sequence[dict[str, Any]]) -> str:
    return _joined([f"{entry['name']} by {abs(100 * entry['difference']['value']):.1f} points" for entry in entries])


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _command(results: dict[str, Any]) -> str:
    """Return the command that repeats the comparison from the same config file."""
    names = ",".join(entry["name"] for entry in results["systems"])
    options = [f"--methods {shlex.quote(names)}", f"--seeds {len(results['seeds'])}", f"--match {results['match']}"]
    if results.get("max_seeds", 0) > len(results["seeds"]):
        options.append(f"--max-seeds {results['max_seeds']}")
    if results["reference"]:
        options.append(f"--reference {shlex.quote(results['reference'])}")
    return " \\\n    ".join(["stepsynth compare CONFIG", *options, f"--set seed={min(results['seeds'])}"])


# figures -------------------------------------------------------------------------------


def _figures(results: dict[str, Any], metric: str) -> dict[str, list[str]]:
    """Draw each figure wide and narrow; empty figures are left out."""
    reference = results["reference"]
    scores = tuple(
        _mark(entry, entry["score"], entry["per_seed"], _REFERENCE_COLOUR if entry["name"] == reference else _OTHER_COLOUR)
        for entry in results["systems"]
    )
    differences = tuple(
        _mark(entry, found, found["per_seed"], _OTHER_COLOUR if _established(entry) else _OPEN_COLOUR, solid=_established(entry))
        for entry in results["systems"]
        if (found := entry["difference"])
    )
    forests = [Forest("scores", f"{metric} per method", f"{metric}, %", signed=False, marks=scores)]
    if differences:
        axis = f"points of {metric}, minus {reference}"
        forests.append(Forest("differences", f"Differences to {reference}", axis, signed=True, marks=differences))
    figures = {forest.name: [forest_figure(forest, narrow=narrow) for narrow in (False, True)] for forest in forests}
    seeds: dict[int, list[tuple[int, float]]] = {}
    for point in results["curve"]:
        seeds.setdefault(point["seed"], []).append((point["rows"], point["test"]))
    if any(len(points) > 1 for points in seeds.values()):
        told = results["forecast"]
        ahead = (told["rows"], told["value"], *told["ci95"]) if told else None
        figures["curve"] = [curve_figure(seeds, ahead, metric=metric, narrow=narrow) for narrow in (False, True)]
    return figures


def _mark(
    entry: dict[str, Any], found: dict[str, Any], per_seed: Sequence[dict[str, Any]], colour: int, *, solid: bool = True
) -> Mark:
    low, high = found["ci95"]
    return Mark(entry["name"], found["value"], low, high, tuple(each["value"] for each in per_seed), colour, solid)
