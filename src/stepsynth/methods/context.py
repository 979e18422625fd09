"""Builds a method's view of a run: gold rows from the journal, and results of earlier stages."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

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
    from stepsynth.methods import Method, Similar
    from stepsynth.types import Example

__all__ = ["context_of_run"]

_REASONS = "round-0/rationales"


def context_of_run(
    config: RunConfig,
    method: Method,
    journal: Journal,
    contexts: Sequence[str],
    pool: Sequence[Example] = (),
    similar: Similar | None = None,
) -> MethodContext:
    """Return the data that a run's method may use.

    Args:
        config: the run's config.
        method: decides which gold rows may feed the loop: the harvest half, or with cross-fitting all of them.
        journal: the run's journal; read when the method asks, so that earlier stages are included.
        contexts: texts to write about, for families with context.
        pool: texts without labels.
        similar: orders them by their likeness to rows.
    """
    crossfits = method.crossfits
    harvest = [*journal.gold("harvest"), *(journal.gold("select") if crossfits else [])]
    folds = deal_folds(harvest, config.method.folds, config.seed) if crossfits else None
    family = create_family(config.task)
    given: dict[str, Any] = {**({"similar": similar} if similar else {}), **({"together": folds.together} if folds else {})}
    return MethodContext(
        config,
        Prompts(config.task),
        family,
        harvest,
        contexts,
        rationales=lambda: _rationales(journal, config.task.labels),
        mistakes=lambda number: find_mistakes(journal, number),
        dropped=lambda label: _dropped_reasons(journal, label),
        repeated=lambda: repeated_answer(journal, reasons=True),
        pool=pool,
        **given,
    )


def _rationales(journal: Journal, labels: Mapping[str, str]) -> dict[str, list[str]]:
    rows = journal.rows(stage=_REASONS, accepted=True)
    return {label: [row.text for row in rows if row.label == label] for label in labels or [""]}


def _dropped_reasons(journal: Journal, label: str) -> dict[str, int]:
    rows = journal.rows(stage=_REASONS, accepted=False)
    return dict(Counter(row.reason for row in rows if row.label == label).most_common())
