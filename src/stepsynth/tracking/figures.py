"""The figures that trackers get, from a run's journal and results, under names that read well in their pages.

``select/accuracy``, ``rows/accepted``, ``rows/dropped/duplicate``, ``requests/total``, ``cost/usd``; the step is the round.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from stepsynth.data import deal_folds
from stepsynth.journal.queries import count_rows
from stepsynth.methods import create_method
from stepsynth.training import judged_rounds
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal

__all__ = ["final_metrics", "final_table", "flat", "round_metrics", "scored_rounds", "test_metrics"]

_SPLITS = ("select", "harvest", "crossfit")
_OTHER = re.compile(r"[^\w.-]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)


def scored_rounds(journal: Journal) -> list[int]:
    """Return the rounds of the loop that have their scores; students that are only compared at the end have no round."""
    kept = [n for _, n, kind, info, _ in journal.stages() if kind == StageKind.TRAIN and "student" not in info]
    return sorted({*kept, *judged_rounds(journal)})


def round_metrics(journal: Journal, config: RunConfig, number: int) -> dict[str, float]:
    """Return what is known of a round before the test set is opened; the same whenever it is asked."""
    found = dict(score for split in _SPLITS for score in _score(journal, number, split))
    found |= _by_fold(journal, config, number)
    found |= _rows(journal, number)
    return found | _spent(journal, number)


def test_metrics(journal: Journal, number: int) -> dict[str, float]:
    """Return a round's score on the sealed test set with its interval; empty as long as it is sealed."""
    return dict(_score(journal, number, "test"))


def _score(journal: Journal, number: int, split: str) -> Iterator[tuple[str, float]]:
    if evaluation := journal.evaluation(number, split):
        name = f"{split}/{_OTHER.sub('_', evaluation.metric)}"
        yield name, float(evaluation.value)
        yield f"{name}_low", float(evaluation.ci95[0])
        yield f"{name}_high", float(evaluation.ci95[1])


def _by_fold(journal: Journal, config: RunConfig, number: int) -> dict[str, float]:
    """Return the mean score of the rows of each fold; a row that is right has 1."""
    graded = journal.graded(number, "crossfit")
    if not graded or not create_method(config).crossfits:
        return {}
    gold = [*journal.gold("harvest"), *journal.gold("select")]
    folds = deal_folds(gold, config.method.folds, config.seed)
    own = {row.id: folds.gold(row) for row in gold}
    scores: dict[int, list[float]] = {}
    for row in graded:
        scores.setdefault(own[row.prediction.example_id], []).append(row.score)
    return {f"crossfit/fold_{fold + 1}": sum(found) / len(found) for fold, found in sorted(scores.items())}


def _rows(journal: Journal, number: int) -> dict[str, float]:
    found = {"rows/accepted": 0.0, "rows/dropped": 0.0, "rows/total": 0.0}
    for count in count_rows(journal):
        if count.kind == StageKind.RATIONALES or count.round > number:
            continue
        if not count.reason:
            found["rows/total"] += count.rows
        if count.round != number:
            continue
        found["rows/dropped" if count.reason else "rows/accepted"] += count.rows
        if count.reason:
            reason = f"rows/dropped/{_OTHER.sub('_', count.reason)}"
            found[reason] = found.get(reason, 0.0) + count.rows
    return found


def _spent(journal: Journal, number: int) -> dict[str, float]:
    """Return what the answers behind the rows cost, in this round and up to it."""
    totals = {"round": [0.0, 0.0, 0.0], "total": [0.0, 0.0, 0.0]}
    priced = True
    for stage, of, *_ in journal.stages():
        if of > number:
            continue
        spent = journal.spent(stage)
        priced = priced and spent.usd is not None
        for name in ("total", "round") if of == number else ("total",):
            for place, amount in enumerate((spent.requests, spent.tokens, spent.usd or 0.0)):
                totals[name][place] += amount
    found = {
        f"{what}/{name}": values[place] for name, values in totals.items() for place, what in enumerate(("requests", "tokens"))
    }
    # An unknown price is no price of 0.
    return found | ({"cost/usd": totals["total"][2], "cost/usd_round": totals["round"][2]} if priced else {})


def final_metrics(results: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a finished run, from ``results.json``."""
    (method,) = results["methods"].values()
    found = {
        "final/round": method["best_round"],
        "final/rows": method["rows"],
        "final/requests": method["requests"],
        "final/tokens": method["tokens"]["prompt"] + method["tokens"]["completion"],
        "final/cost_usd": method["cost_usd"],
    }
    for entry in method["rounds"]:
        # Students that are only compared at the end have names and no round of the loop.
        places = ["final"] * (entry["round"] == method["best_round"])
        places += [f"students/{_OTHER.sub('_', entry['student'])}"] if "student" in entry else []
        for place in places:
            for split in ("test", *_SPLITS):
                if score := entry.get(split):
                    name = f"{place}/{split}/{_OTHER.sub('_', score['metric'])}"
                    found |= {name: score["value"], f"{name}_low": score["ci95"][0], f"{name}_high": score["ci95"][1]}
    return {name: float(value) for name, value in found.items() if value is not None}


def final_table(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a line per student: its round, its name where it has one, rows and scores; ``None`` where there is none."""
    (method,) = results["methods"].values()
    splits = [split for split in (*_SPLITS, "test") if any(entry.get(split) for entry in method["rounds"])]
    table = []
    for entry in method["rounds"]:
        line: dict[str, Any] = {
            "round": entry["round"],
            "student": str(entry.get("student", "")),
            "chosen": entry["round"] == method["best_round"],
            "rows": entry["rows"],
            "new_rows": entry["new_rows"],
        }
        for split in splits:
            score = entry.get(split)
            line[split] = score["value"] if score else None
            if split == "test":
                line |= {f"test_{end}": score["ci95"][place] if score else None for place, end in enumerate(("low", "high"))}
        table.append(line)
    return table


def flat(values: Mapping[str, Any], where: str = "") -> dict[str, str | int | float | bool]:
    """Return a config's values under dotted names; lists, and mappings with free keys, become JSON."""
    found: dict[str, str | int | float | bool] = {}
    for key, value in values.items():
        name = f"{where}.{key}".lstrip(".")
        if isinstance(value, dict) and value and all(_NAME.fullmatch(str(inner)) for inner in value):
            found |= flat(value, name)
        elif isinstance(value, str | int | float | bool):
            found[name] = value
        elif value is not None and value not in ({}, []):
            found[name] = json.dumps(value, ensure_ascii=False)
    return found
