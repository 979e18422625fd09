"""Where a run's answers went: how many were asked for per label, what became of them, and which label took the others' share."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.report.scores import mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepsynth.journal import Journal
    from stepsynth.journal.queries import RowCount

__all__ = ["LabelSpent", "greedy", "spent_by_label"]

# A label is greedy when it took so many times as many answers per wanted row as the others, and so many more.
_TIMES, _MORE = 2.5, 30


@dataclass(frozen=True, slots=True)
class LabelSpent:
    """What was asked for with one label, reasons and rows together.

    Attributes:
        label: several are joined by ``|``.
        wanted: accepted ones that the stages wanted.
        asked: answers, a list counted by its parts.
        accepted: of these.
        reason: why most of the others were dropped; empty where none was.
        for_reason: how many were dropped for it.
    """

    label: str
    wanted: int
    asked: int
    accepted: int
    reason: str
    for_reason: int

    @property
    def said(self) -> str:
        """The chief reason in words, with its number."""
        return f"{self.for_reason:,} {self.reason}" if self.reason else ""


def spent_by_label(journal: Journal, counts: Iterable[RowCount]) -> list[LabelSpent]:
    """Return what each label took in the finished stages that asked for something, most first.

    Args:
        journal: holds what the stages wanted.
        counts: its rows.
    """
    wanted: Counter[str] = Counter()
    asking = set()
    for name, _, _, info, _ in journal.stages():
        if targets := mapping(info.get("targets")):
            asking.add(name)
            wanted.update({str(label): int(rows) for label, rows in targets.items()})
    ended: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for count in counts:
        if count.stage in asking:
            ended[count.label][count.reason] += count.rows
    found = []
    for label, reasons in ended.items():
        accepted = reasons.pop("", 0)
        reason, most = min(reasons.items(), key=lambda item: (-item[1], item[0]), default=("", 0))
        found.append(LabelSpent(label, wanted[label], accepted + reasons.total(), accepted, reason, most))
    return sorted(found, key=lambda spent: (-spent.asked, spent.label))


def greedy(spent: Sequence[LabelSpent]) -> list[LabelSpent]:
    """Return the labels that took far more answers for what was wanted of them than the others did."""
    asked, wanted = sum(label.asked for label in spent), sum(label.wanted for label in spent)
    found = []
    for label in spent:
        others = (asked - label.asked) / max(wanted - label.wanted, 1)
        if wanted > label.wanted and label.asked > max(_TIMES * others * label.wanted, others * label.wanted + _MORE):
            found.append(label)
    return found
