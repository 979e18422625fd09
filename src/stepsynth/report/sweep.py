"""A sweep's page: averages over data sets, every data set, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.config import FAKE
from stepsynth.report.comparison_figures import Forest, Mark, forest_figure
from stepsynth.report.template import fill, percent, signed, words

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["render_sweep"]

_SURE, _OPEN = 1, 5


def render_sweep(results: dict[str, Any]) -> str:
    """Return a sweep as one HTML document that encodes as UTF-8.

    The same results give the same characters.

    Args:
        results: the content of ``sweep.json``.
    """
    finished = [entry for entry in results["comparisons"] if entry["state"] == "finished"]
    metrics = sorted({words(entry["metric"]) for entry in finished})
    values = {
        "results": results,
        "finished": finished,
        "cells": sum(len(entry["cells"]) for entry in results["comparisons"]),
        "done": sum(cell["state"] == "finished" for entry in results["comparisons"] for cell in entry["cells"]),
        "metric": metrics[0] if len(metrics) == 1 else "score",
        "headline": _headline(results, finished),
        "figures": [_figure(results, average, place) for place, average in enumerate(results["averages"])],
        "others": any(_others(average) for average in results["averages"]),
        "teachers": sorted({_teacher(entry["teacher"]) for entry in results["comparisons"]}),
        "students": sorted({str(entry["student"]) for entry in results["comparisons"]}),
    }
    return fill("sweep.html.j2", values)


def _headline(results: dict[str, Any], finished: Sequence[dict[str, Any]]) -> list[str]:
    """Return the outcome in plain words."""
    total, reference = len(results["comparisons"]), results["reference"]
    if not finished:
        return ["No comparison is finished yet."]
    sentences = [] if len(finished) == total else [f"{len(finished)} of {total} comparisons are finished."]
    for average in results["averages"]:
        at = f"With {average['setting']}: " if average["setting"] else ""
        ranked = sorted(average["systems"], key=lambda entry: -entry["score"]["value"])
        first, count = ranked[0], len(average["data_sets"])
        over = f"on average over {count} data sets" if count > 1 else "on one data set"
        said = f"{at}{first['name']} scores highest {over}, {percent(first['score']['value'])} %"
        if found := first["difference"]:
            low, high = found["ci95"]
            said += f", {signed(found['value'])} points from {reference} ({signed(low)} to {signed(high)})"
        sentences.append(f"{said}.")
    return sentences


def _others(average: dict[str, Any]) -> bool:
    return any(entry["difference"] and entry["difference"]["other_data_sets_ci95"] for entry in average["systems"])


def _teacher(identity: dict[str, Any]) -> str:
    return FAKE if identity["backend"] == "fake" else f"{identity['model']} ({identity['backend']})"


def _figure(results: dict[str, Any], average: dict[str, Any], place: int) -> list[str] | None:
    """Draw the average differences, with a small mark for every data set; ``None`` without differences."""
    marks = []
    for entry in average["systems"]:
        if not (found := entry["difference"]):
            continue
        low, high = found["ci95"]
        each = tuple(_differences(results, average["setting"], entry["name"]))
        apart = low > 0 or high < 0
        marks.append(Mark(entry["name"], found["value"], low, high, each, _SURE if apart else _OPEN, apart))
    if not marks:
        return None
    title = f"Average differences to {results['reference']}"
    axis = f"points, minus {results['reference']}"
    forest = Forest(f"averages-{place}", title, axis, signed=True, marks=tuple(marks))
    return [forest_figure(forest, narrow=narrow) for narrow in (False, True)]


def _differences(results: dict[str, Any], setting: str | None, name: str) -> list[float]:
    own = [entry for entry in results["comparisons"] if entry["setting"] == setting]
    return [
        system["difference"]["value"]
        for entry in own
        for system in entry["systems"]
        if system["name"] == name and system["difference"]
    ]
