"""A run's page: gathers every number and row that it shows from the journal."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import yaml

from stepsynth.filters import REASONS
from stepsynth.journal import LEARNING
from stepsynth.journal.queries import count_rows
from stepsynth.methods import trains_on
from stepsynth.report.abstaining import coverage_figures
from stepsynth.report.drawing import SERIES
from stepsynth.report.figures import Bar, Line, accuracy_figure, ledger_figure
from stepsynth.report.gap import gap_drawings, gap_table, has_figures
from stepsynth.report.review import labels_in_doubt, texts_to_label
from stepsynth.report.rows import Stage, feeding, misses_of, samples_of, stages_of
from stepsynth.report.scores import CROSSFITTED, SPLITS, RoundScores, best_of, details_of, mapping, rounds_of, score_of
from stepsynth.report.spending import greedy, spent_by_label
from stepsynth.report.template import fill
from stepsynth.report.warnings import cautions_of
from stepsynth.tasks import stored_family
from stepsynth.training import judged_rounds, worth_title
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal
    from stepsynth.methods.base import Trains

__all__ = ["render_report", "warnings_of"]

_HEADLINE = {"f1": "F1", "micro_f1": "micro-F1", "macro_f1": "macro-F1"}


def warnings_of(journal: Journal, results: dict[str, Any], config: RunConfig) -> list[str]:
    """Return the report's warnings about a run, a sentence each; arguments as for `render_report`."""
    method = mapping(mapping(results.get("methods")).get(config.method.name))
    best = best_of(journal, method, rounds_of(journal, method))
    test = (best.scores.get("test") if best else None) or score_of(method.get("test"))
    counts = count_rows(journal)
    return cautions_of(journal, best, test, stages_of(journal, counts), config, spent_by_label(journal, counts))


def render_report(journal: Journal, results: dict[str, Any], config: RunConfig) -> str:
    """Return the report of a run as one HTML document that encodes as UTF-8.

    The same journal, results and config give the same characters.

    Args:
        journal: the run's journal; scores, rows and predictions are read from it.
        results: the content of ``results.json``; optional keys may be absent.
        config: the run's config.
    """
    family, trains = stored_family(config.task), trains_on(config, journal)
    method = mapping(mapping(results.get("methods")).get(config.method.name))
    rounds = rounds_of(journal, method)
    best = best_of(journal, method, rounds)
    test = (best.scores.get("test") if best else None) or score_of(method.get("test"))
    worth = mapping(method.get("worth"))
    shown = test or (best.scores.get("crossfit" if trains == "crossfit" else "select") if best else None)
    counts = count_rows(journal)
    stages = stages_of(journal, counts)
    spent = spent_by_label(journal, counts)
    coverage = mapping(method.get("coverage"))
    ranked, kinds = _ranked(stages), {stage.kind for stage in stages}
    gap = mapping(method.get("gap"))
    figures = _figures(_of_loop(journal, trains, rounds), stages, ranked)
    figures |= _optional_figures(journal, config, best, coverage, gap)
    values = {
        "name": results.get("run") or config.task.name,
        "config": config,
        "trains": trains,
        "kept": family.page_names,
        "family": family,
        "facts": _facts(journal, method, config, best, stages),
        "learner": _learner(trains, best),
        "worth": worth,
        "worth_title": worth_title(worth) if worth else "",
        "texts": mapping(method.get("pool")),
        "called": {entry["round"]: entry["called"] for entry in worth.get("students", ())},
        "best": best,
        "test": test,
        "shown": shown,
        "beside": [(name, shown.details[key]) for key, name in _HEADLINE.items() if shown and shown.details.get(key) is not None],
        "warnings": cautions_of(journal, best, test, stages, config, spent),
        "spent": spent if len(spent) > 1 else [],
        "greedy": greedy(spent),
        "told": _told(stages),
        "rounds": rounds,
        "detail": details_of(best, test),
        "stages": stages,
        "ledger": [stage for stage in stages if stage.kind not in LEARNING],
        "annotates": StageKind.ANNOTATE in kinds and StageKind.EXTRAPOLATE not in kinds,
        "ranked": ranked,
        "meanings": [(reason, REASONS[reason]) for reason in ranked if reason in REASONS],
        "samples": samples_of(journal, stages, counts, list(config.task.labels)),
        "misses": [misses_of(journal, entry.number, config) for entry in rounds if feeding(journal, entry.number, config)],
        "doubts": labels_in_doubt(journal, config, family),
        "next_texts": texts_to_label(journal),
        "read_again": mapping(method.get("second_reading")),
        "figures": figures,
        "coverage": coverage,
        "finished": journal.meta("finished") is not None,
        "gap": gap,
        "nearness": gap_table(gap) if has_figures(gap) else None,
        "learning": LEARNING,
        "series": SERIES,
        "yaml": yaml.safe_dump(config.written(), sort_keys=False, allow_unicode=True, width=100),
    }
    return fill("page.html.j2", values)


def _optional_figures(
    journal: Journal, config: RunConfig, best: RoundScores | None, coverage: dict[str, Any], gap: dict[str, Any]
) -> dict[str, Any]:
    """Return the drawings that only some runs have."""
    found: dict[str, Any] = {}
    if coverage and (drawn := coverage_figures(journal, config, best.number if best else None, coverage)):
        found["coverage"] = drawn
    if drawn := gap_drawings(gap):
        found["gap"] = drawn
    return found


def _ranked(stages: Sequence[Stage]) -> list[str]:
    """Return the reasons of dropped rows, the most frequent first."""
    return [reason for reason, _ in sum((Counter(stage.reasons) for stage in stages), Counter[str]()).most_common()]


def _told(stages: Sequence[Stage]) -> dict[str, list[str]]:
    """Return the warnings that prompts gave the teacher, by label; later stages repeat those of earlier ones."""
    found: dict[str, dict[str, None]] = {}
    for stage in stages:
        for label, sentences in stage.told.items():
            found.setdefault(label, {}).update(dict.fromkeys(sentences.values()))
    return {label: list(sentences) for label, sentences in found.items()}


def _learner(trains: Trains, best: RoundScores | None) -> str:
    """Return whose score the headline gives."""
    number = best.number if best else "unknown"
    return {
        "none": "the teacher itself",
        "gold": "the student trained on the validation rows",
        "crossfit": "the final student",
        "both": f"the last student (round {number}), trained on written and validation rows",
        "written": f"the best student (round {number})",
    }[trains]


def _facts(
    journal: Journal, method: Mapping[str, Any], config: RunConfig, best: RoundScores | None, stages: Sequence[Stage]
) -> dict[str, Any]:
    totals = journal.totals()
    accepted = sum(stage.accepted for stage in stages if stage.kind != StageKind.RATIONALES)
    tokens = mapping(method.get("tokens"))
    cost = method.get("cost_usd", totals.cost_usd)
    if config.teacher.backend == "openvino":
        price = "no price: runs on this machine"
    else:
        price = "unknown" if cost is None else f"${cost:,.2f}" if cost >= 1 or cost == 0 else f"${cost:.4f}"
    return {
        "rows": method.get("rows", best.rows if best else accepted),
        "requests": method.get("requests", totals.requests),
        "from_cache": method.get("from_cache", totals.from_cache),
        "prompt": tokens.get("prompt", totals.prompt_tokens),
        "completion": tokens.get("completion", totals.completion_tokens),
        "cost": price,
    }


def _of_loop(journal: Journal, trains: Trains, rounds: Sequence[RoundScores]) -> list[RoundScores]:
    """Leave out the students kept after cross-fitting: they are not a step after the round before."""
    judged = judged_rounds(journal)
    return [entry for entry in rounds if trains != "crossfit" or entry.number in judged]


def _figures(rounds: Sequence[RoundScores], stages: Sequence[Stage], ranked: Sequence[str]) -> dict[str, list[str]]:
    """Draw each figure wide and narrow; empty figures are left out."""
    points = {
        split: tuple((r.number, s.value, s.low, s.high) for r in rounds if (s := r.scores.get(split)) and math.isfinite(s.value))
        for split in (*SPLITS, CROSSFITTED[0])
    }
    metric = next((score.metric for entry in rounds for score in entry.scores.values()), "accuracy")
    own, rest = list(ranked[: SERIES - 2]), ranked[SERIES - 2 :]
    bars = [
        Bar(
            stage.title,
            (stage.accepted, *(stage.reasons.get(r, 0) for r in own), sum(stage.reasons.get(r, 0) for r in rest)),
        )
        for stage in stages
        if stage.accepted or stage.dropped
    ]
    figures = {}
    # A single point would say less than its line in the table.
    if len({number for line in points.values() for number, *_ in line}) > 1:
        lines = [Line(split, points[split]) for split in SPLITS]
        if points["crossfit"]:
            lines = [Line("cross-validated", points["crossfit"])]
        figures["accuracy"] = [accuracy_figure(lines, metric=metric, narrow=narrow) for narrow in (False, True)]
    if bars:
        figures["ledger"] = [ledger_figure(bars, narrow=narrow) for narrow in (False, True)]
    return figures
