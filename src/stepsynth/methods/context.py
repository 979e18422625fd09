"""What a method may look at in a run: gold rows from the journal, and what earlier stages found."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from stepsynth.data import deal_folds
from stepsynth.journal.queries import repeated_answer
from stepsynth.journal.results import find_mistakes
from stepsynth.methods import MethodContext
from stepsynth.prompts import Prompts
from stepsynth.tasks import create_family

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal
    from stepsynth.methods import Method

__all__ = ["context_of_run"]

_REASONS = "round-0/rationales"


def context_of_run(config: RunConfig, method: Method, journal: Journal, contexts: Sequence[str]) -> MethodContext:
    """Return what the method of a run may look at.

    Args:
        config: of the run.
        method: decides which gold rows may feed the loop: the harvest half, or with cross-fitting all of them.
        journal: of the run; it is read when the method asks, so that it tells of the stages before.
        contexts: texts to write about, for families that keep one.
    """
    crossfits = method.crossfits
    harvest = [*journal.gold("harvest"), *(journal.gold("select") if crossfits else [])]
    folds = deal_folds(harvest, config.method.folds, config.seed) if crossfits else None
    return MethodContext(
        config,
        Prompts(config.task),
        create_family(config.task),
        harvest,
        contexts,
        rationales=lambda: _rationales(journal, config.task.labels),
        mistakes=lambda number: find_mistakes(journal, number),
        dropped=lambda label: _dropped_reasons(journal, label),
        repeated=lambda: repeated_answer(journal, reasons=True),
        **({"together": folds.together} if folds else {}),
    )


def _rationales(journal: Journal, labels: Mapping[str, str]) -> dict[str, list[str]]:
    rows = journal.rows(stage=_REASONS, accepted=True)
    return {label: [row.text for row in rows if row.label == label] for label in labels or [""]}


def _dropped_reasons(journal: Journal, label: str) -> dict[str, int]:
    rows = journal.rows(stage=_REASONS, accepted=False)
    return dict(Counter(row.reason for row in rows if row.label == label).most_common())
