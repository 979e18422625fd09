"""Results of a run's students, read from its journal: their mistakes, the choice among them, the best round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.evaluation.clusters import clusters_of
from stepsynth.types import Mistake, StageKind

if TYPE_CHECKING:
    from stepsynth.evaluation.clusters import Clusters
    from stepsynth.journal.runs import Journal

__all__ = ["best_round", "find_choice", "find_clusters", "find_mistakes"]


def best_round(journal: Journal) -> int:
    """Return the round whose student did best on the select half; ties go to the latest.

    A student that was also trained on the select half cannot be judged by it; then the last round
    is the best. After cross-fitting, it is the chosen student's round.
    """
    rounds = journal.rounds()
    kinds = {info.get("student"): number for _, number, kind, info, _ in journal.stages() if kind == StageKind.TRAIN}
    if (choice := find_choice(journal)) and choice["chosen"] in kinds:
        return kinds[choice["chosen"]]
    if journal.evaluation(rounds[-1], "select") is None:
        return rounds[-1]
    return max(rounds, key=lambda number: (_select_score(journal, number), number))


def find_choice(journal: Journal) -> dict[str, Any] | None:
    """Return the choice by cross-fitting and its reasons; ``None`` if there was none."""
    return next((info for _, _, kind, info, _ in journal.stages() if kind == StageKind.CHOICE), None)


def find_clusters(journal: Journal, split: str) -> Clusters:
    """Return which rows of a split share a context, in the order of `Journal.graded`; ``None`` if none do.

    The journal has no texts of the test set, so the test's clusters were counted when it was opened. Runs of
    versions that did not count them have none.
    """
    if split == "test":
        info: dict[str, Any] = next((info for _, _, kind, info, _ in journal.stages() if kind == StageKind.TEST), {})
        return tuple(info["clusters"]) if "clusters" in info else None
    parts = ("harvest", "select") if split == "crossfit" else (split,)
    return clusters_of([row for part in parts for row in journal.gold(part)])


def find_mistakes(journal: Journal, round_number: int) -> list[Mistake]:
    """Return the harvest rows that a round's student got wrong, in order (S3, section 3.2).

    With cross-fitting they come from all gold rows. With ``method.mistakes_of`` they are that other student's mistakes.
    """
    gold = {example.id: example for split in ("harvest", "select") for example in journal.gold(split)}
    splits = ("crossfit", "harvest-other", "harvest")
    graded = next((found for split in splits if (found := journal.graded(round_number, split))), [])
    return [Mistake(gold[g.prediction.example_id], g.prediction.label, g.prediction.confidence) for g in graded if g.score < 1.0]


def _select_score(journal: Journal, round_number: int) -> float:
    evaluation = journal.evaluation(round_number, "select")
    return evaluation.value if evaluation else 0.0
