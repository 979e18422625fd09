"""Warnings that a reader must see before believing a run's headline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepsynth.evaluation.drift import halves_drift
from stepsynth.journal.results import find_clusters
from stepsynth.methods import trains_on
from stepsynth.report.spending import greedy
from stepsynth.tasks import stored_family
from stepsynth.training import artefacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal
    from stepsynth.methods.base import Trains
    from stepsynth.report.rows import Stage
    from stepsynth.report.scores import RoundScores, Score
    from stepsynth.report.spending import LabelSpent

__all__ = ["cautions_of"]

_WIDE_INTERVAL = 0.05
# Fixed, so that resampling and folds are the same whenever a page is made.
_SEED = 0


def cautions_of(
    journal: Journal,
    best: RoundScores | None,
    test: Score | None,
    stages: Sequence[Stage],
    config: RunConfig,
    spent: Sequence[LabelSpent] = (),
) -> list[str]:
    """Return the warnings of a run.

    Args:
        journal: holds the scores per row, the written rows and the gold rows.
        best: the round in the headline.
        test: its score on the sealed test set.
        stages: the run's stages.
        config: the run's config.
        spent: answers spent per label.
    """
    trains = trains_on(config, journal)
    found = _scored(best, test, config, trains, len(journal.rounds()))
    judged, split = (test, "test") if test else (best.scores.get("select") if best else None, "select")
    if judged is None and best and trains == "crossfit":
        judged, split = best.scores.get("crossfit"), "validation"
    if judged and judged.half > _WIDE_INTERVAL:
        found.append(f"The {split} set is small (n = {judged.n:,}): its 95 % interval is {200 * judged.half:.1f} points wide.")
    if undecided := max((stage.undecided for stage in stages), default=0):
        found.append(f"Answers of the teacher that gave no decision or never came, and count as guesses: {undecided:,}.")
    if near := max((stage.near_test for stage in stages), default=0):
        found.append(
            f"Written rows that repeat most of a row of the sealed test set: {near:,}. The test score may be too high; "
            "this could not be prevented, since the test set is read only after the last training."
        )
    if shared := max((stage.in_validation for stage in stages), default=0):
        found.append(f"Test rows that are also in the validation data: {shared:,}. The test score is too high.")
    found += _drift(journal)
    if not stored_family(config.task).spans:
        found += artefacts(journal, config)
    for stage in stages:
        found += _of_stage(stage)
    return found + _of_labels(spent)


def _of_labels(spent: Sequence[LabelSpent]) -> list[str]:
    """Return a sentence for each label that took the others' share."""
    asked, wanted = sum(label.asked for label in spent), sum(label.wanted for label in spent)
    return [
        f"{label.label or 'No label'} took {label.asked:,} of {asked:,} answers ({label.asked / asked:.0%}) for "
        f"{label.wanted:,} of {wanted:,} wanted rows" + (f"; most were dropped: {label.said}." if label.reason else ".")
        for label in greedy(spent)
    ]


def _scored(best: RoundScores | None, test: Score | None, config: RunConfig, trains: Trains, rounds: int) -> list[str]:
    if best is None:
        return ["No student has been evaluated yet: this page shows rows only."]
    if test is not None:
        return []
    given = "has not been scored yet" if config.data.test else "was not given"
    select = best.scores.get("select")
    if trains == "crossfit":
        reason = "Cross-validation on your labels also chose the final student, so this score is slightly optimistic."
    elif select is None:
        reason = "This student learned from all validation rows, so they cannot judge it, and nothing else did."
    elif trains == "none":
        reason = "The figures are those of the select half."
    elif rounds < 2 and config.student.keep == "last":
        reason = f"Select {select.metric} chose nothing here, so it is a fair score, though of few rows."
    else:
        reason = f"Select {select.metric} also chose the best round, so it is optimistic."
    return [f"The sealed test set {given}. {reason}"]


def _drift(journal: Journal) -> list[str]:
    """Return a warning if the two halves drift apart: samples of one source should gain alike."""
    halves = [[[g.score for g in journal.graded(n, split)] for split in ("harvest", "select")] for n in journal.rounds()]
    judged = [(harvest, select) for harvest, select in halves if harvest and select]
    if len(judged) < 2:
        return []
    clusters = find_clusters(journal, "harvest"), find_clusters(journal, "select")
    drift = halves_drift([harvest for harvest, _ in judged], [select for _, select in judged], _SEED, clusters)
    return [drift.message] if drift else []


def _of_stage(stage: Stage) -> list[str]:
    found = []
    if stage.missing:
        first = ", ".join(f"{label} {n:,}" for label, n in list(stage.missing.items())[:8] if label)
        more = f" and {len(stage.missing) - 8} more labels" if len(stage.missing) > 8 else ""
        told = f": {first}{more}" if first else ""
        found.append(f'The stage "{stage.title}" ended {sum(stage.missing.values()):,} rows short of its target{told}.')
    for label, why in stage.stopped.items():
        reason = f", most of the others dropped as {why['reason']!r}" if why.get("reason") else ""
        found.append(
            f'The stage "{stage.title}" gave up on {label or "its rows"}: {why["good"]:,} of the last '
            f"{why['answers']:,} answers were good{reason}."
        )
    if not stage.adds_up:
        found.append(
            f'The stage "{stage.title}" asked for {stage.requested:,} rows, but the journal accounts for '
            f"{stage.accepted + stage.dropped:,}."
        )
    return found
