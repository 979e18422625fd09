"""How a run's answers were spent: requests and outcomes per label, and which labels took more than their share."""

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

# A label is greedy if it took this many times the answers per wanted row of the others, and this many more.
_TIMES, _MORE = 2.5, 30


@dataclass(frozen=True, slots=True)
class LabelSpent:
    """The requests for one label, reasons and rows together.

    Attributes:
        label: the label; several are joined by ``|``.
        wanted: accepted rows that the stages aimed for.
        asked: requested answers; the items of a list count one each.
        accepted: how many of them were accepted.
        reason: why most of the others were dropped; empty if none was.
        for_reason: number dropped for it.
    """

    label: str
    wanted: int
    asked: int
    accepted: int
    reason: str
    for_reason: int

    @property
    def said(self) -> str:
        """The main reason in words, with its number."""
        return f"{self.for_reason:,} {self.reason}" if self.reason else ""


def spent_by_label(journal: Journal, counts: Iterable[RowCount]) -> list[LabelSpent]:
    """Return the answers spent per label in the finished generating stages, largest first.

    Args:
        journal: holds the targets of the stages.
        counts: the journal's row counts.
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
    """Return the labels that took far more answers per wanted row than the others."""
    asked, wanted = sum(label.asked for label in spent), sum(label.wanted for label in spent)
    found = []
    for label in spent:
        others = (asked - label.asked) / max(wanted - label.wanted, 1)
        if wanted > label.wanted and label.asked > max(_TIMES * others * label.wanted, others * label.wanted + _MORE):
            found.append(label)
    return found
