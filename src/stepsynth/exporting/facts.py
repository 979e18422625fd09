"""What a run's record says about itself, gathered once for both cards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepsynth.filters import REASONS
from stepsynth.journal.queries import count_rows
from stepsynth.methods import trains_on
from stepsynth.model_cache.catalogue import ASSETS
from stepsynth.report.derived import build_results
from stepsynth.report.rows import stages_of
from stepsynth.report.scores import best_of, mapping, rounds_of
from stepsynth.report.spending import spent_by_label
from stepsynth.report.warnings import cautions_of
from stepsynth.tasks import stored_family
from stepsynth.types import DropReason, StageKind

if TYPE_CHECKING:
    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal
    from stepsynth.methods.base import Trains
    from stepsynth.run import RunDirectory
    from stepsynth.tasks import TaskFamily

__all__ = ["Facts", "gather_facts", "model_licence"]

_OF_QUESTIONS = (DropReason.NAMES_ANSWER, DropReason.NO_QUESTION)
# These say that a row was not needed or never came, not what is wrong with it.
_NO_RULE = (DropReason.FAILED, DropReason.SURPLUS, DropReason.NO_ANSWER)


@dataclass(frozen=True)
class Facts:
    """A run, for its cards.

    Attributes:
        config: its config.
        family: the task's family.
        trains: what its students learn from.
        finished: whether the run has ended.
        method: the method's entry of ``results.json``.
        stages: of these, the outcome of every stage that asked for rows.
        warnings: as the page shows them.
        harvest: number of validation rows in the half that mistakes come from.
        select: number of those in the other half.
        kinds: kind of rows -> accepted rows.
        rules: reason -> meaning, of the filters that every written row had to pass.
    """

    config: RunConfig
    family: TaskFamily
    trains: Trains
    finished: bool
    method: dict[str, Any]
    stages: list[dict[str, Any]]
    warnings: list[str]
    harvest: int
    select: int
    kinds: dict[str, int]
    rules: dict[str, str]

    @property
    def only_labelled(self) -> bool:
        """Whether all rows of the teacher are real texts that it labelled."""
        return StageKind.ANNOTATE in self.kinds and set(self.kinds) <= {StageKind.ANNOTATE, StageKind.IMPORT}

    @property
    def from_mistakes(self) -> bool:
        """Whether mistakes of a student decided about rows."""
        return any(stage["accepted"] and not stage["stage"].startswith("round-0/") for stage in self.stages)

    @property
    def learned_from_teacher(self) -> bool:
        """Whether the final student learned from rows of the teacher."""
        chosen = (self.method.get("worth") or {}).get("chosen")
        return bool(self.kinds) and chosen not in ("labels", "pool") and self.trains not in ("gold", "none")

    @property
    def accepted(self) -> int:
        """Accepted rows."""
        return sum(stage["accepted"] for stage in self.stages)

    @property
    def requested(self) -> int:
        """Requested rows: accepted and dropped ones."""
        return sum(stage["requested"] for stage in self.stages)

    @property
    def dropped(self) -> Counter[str]:
        """Dropped rows by reason."""
        return sum((Counter(stage["dropped"]) for stage in self.stages), Counter())


def gather_facts(journal: Journal, directory: RunDirectory) -> Facts:
    """Return the facts of a run from its journal and config."""
    config = directory.config
    family, trains = stored_family(config.task), trains_on(config, journal)
    (method,) = build_results(journal, directory)["methods"].values()
    rounds = rounds_of(journal, method)
    best = best_of(journal, mapping(method), rounds)
    test = best.scores.get("test") if best else None
    counts = count_rows(journal)
    warnings = cautions_of(journal, best, test, stages_of(journal, counts), config, spent_by_label(journal, counts))
    kinds: Counter[str] = Counter()
    for count in counts:
        if count.in_dataset:
            kinds[count.kind] += count.rows
    return Facts(
        config=config,
        family=family,
        trains=trains,
        finished=journal.meta("finished") is not None,
        method=method,
        stages=[stage for stage in method["stages"] if stage["kind"] != StageKind.RATIONALES],
        warnings=warnings,
        harvest=len(journal.gold("harvest")),
        select=len(journal.gold("select")),
        kinds=dict(kinds),
        rules=_rules(config, family, checked=method["label_check"] is not None),
    )


def model_licence(name: str) -> str:
    """Return the licence of an embedded model by its name; empty if it is not known."""
    return ASSETS[name].license if name in ASSETS else ""


def _rules(config: RunConfig, family: TaskFamily, *, checked: bool) -> dict[str, str]:
    """Return the filters of a run: reason -> meaning."""
    unused = {*_NO_RULE, *(() if family.spans else _OF_QUESTIONS)}
    if family.spans:
        unused.add(DropReason.NAMES_LABEL)
    if not checked:
        unused.add(DropReason.LABEL_IN_DOUBT)
    if config.method.row_similarity is None:
        unused.add(DropReason.NEAR_DUPLICATE)
    if config.method.second_reading != "drop":
        unused.add(DropReason.READ_OTHERWISE)
    return {str(reason): meaning for reason, meaning in REASONS.items() if reason not in unused}
