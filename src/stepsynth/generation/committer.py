"""Commits answers to the journal in small groups, together with the ledger of sends and reservations.

    committer.add(key, request, response)     priced, counted, in the next group
    committer.commit()                        at once; or, to write in another thread:
    group = committer.prepare(upcoming)
    committer.write(group)                    the only step that touches the journal
    committer.confirm(group)                  or `put_back` if it failed

An answer is reported only once it is durable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stepsynth.errors import TeacherError
    from stepsynth.generation.budget import BudgetGuard
    from stepsynth.generation.room import RoomWatch
    from stepsynth.journal import Cost, Journal, Ledger
    from stepsynth.types import Request, Response

__all__ = ["COMMIT_AT", "COMMIT_EVERY_S", "Committer", "Group"]

COMMIT_EVERY_S = 0.25
COMMIT_AT = 64
# A full group waits so that commits take no more than this share of the time.
_JOURNAL_SHARE = 0.04


@dataclass(frozen=True, slots=True)
class Group:
    """The content of one commit.

    Attributes:
        answers: key, request and answer.
        ledger: a copy from when the group was prepared, with the reservation for the next sends.
        changed: whether the ledger has changed.
        started: when the group was prepared, by the committer's clock.
    """

    answers: list[tuple[str, Request, Response]]
    ledger: Ledger
    changed: bool
    started: float


class Committer:
    """Writes answers to the journal in one call of `TeacherClient.run`.

    Args:
        journal: the journal.
        identity: the teacher's, stored with its answers.
        budget: counts and reserves.
        room: sees every answer.
        clock: seconds.
        known: answers and final errors by key; results are added.
        told: called after each commit that contained answers.
    """

    def __init__(
        self,
        journal: Journal,
        identity: dict[str, object],
        budget: BudgetGuard,
        room: RoomWatch,
        *,
        clock: Callable[[], float],
        known: dict[str, Response | TeacherError],
        told: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._identity = identity
        self._budget = budget
        self._room = room
        self._clock = clock
        self._known = known
        self._told = told
        self._fresh: list[tuple[str, Request, Response]] = []
        self._committed_at = clock()
        self._took = 0.0

    # answers ---------------------------------------------------------------------------

    def add(self, key: str, request: Request, response: Response) -> None:
        """Price and count an answer, and keep it for the next group."""
        response = self.priced(response)
        self._budget.ledger.count_answer(response.usage)
        self._budget.changed = True
        self._fresh.append((key, request, response))
        # Last, since it reads the answer: even if it fails, the answer is kept.
        self._room.saw(key, request.sampling.max_tokens, response)

    def priced(self, response: Response) -> Response:
        """Return an answer with its cost if a price is known; a cost that the teacher reported stays."""
        usage = response.usage
        cost = self._budget.cost_usd(usage)
        return response if cost == usage.cost_usd else replace(response, usage=replace(usage, cost_usd=cost))

    def give_up(self, keys: Iterable[str], error: TeacherError) -> None:
        """Record a final error for some requests; the journal keeps only its count."""
        self._known.update(dict.fromkeys(keys, error))

    # when ------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._fresh) or self._budget.changed

    @property
    def due(self) -> bool:
        """Whether to commit: the last commit is old, or the group is full and commits take a small share of the time."""
        waited = self._clock() - self._committed_at
        return waited >= COMMIT_EVERY_S or (len(self._fresh) >= COMMIT_AT and waited * _JOURNAL_SHARE >= self._took)

    @property
    def old(self) -> bool:
        """Whether the last commit is old, however few answers are pending."""
        return self._clock() - self._committed_at >= COMMIT_EVERY_S

    # commits ---------------------------------------------------------------------------

    def commit(self, upcoming: int = 0, least: Cost | None = None, *, also: Callable[[], None] | None = None) -> None:
        """Make answers and the ledger durable, and reserve the next sends, in one transaction.

        Args:
            upcoming: how many sends may follow.
            least: a send that must be possible afterwards.
            also: writes more within the same transaction.
        """
        group = self.prepare(upcoming, least)
        try:
            self.write(group, also)
        except BaseException:
            self.put_back(group)
            raise
        self.confirm(group)

    def prepare(self, upcoming: int = 0, least: Cost | None = None) -> Group:
        """Assemble the next commit; anything counted from now on belongs to the one after it."""
        started = self._clock()
        self._budget.reserve(upcoming, least)
        group = Group(self._fresh, self._budget.ledger.copy(), self._budget.changed, started)
        self._fresh, self._budget.changed = [], False
        return group

    def write(self, group: Group, also: Callable[[], None] | None = None) -> None:
        """Make a group durable, in one transaction; may be called in another thread."""
        if group.answers or also is not None:
            self._journal.commit_answers(group.answers, self._identity, ledger=group.ledger, also=also)
        elif group.changed:
            self._journal.commit_ledger(group.ledger)

    def put_back(self, group: Group) -> None:
        """Keep a group for another try, since its commit failed or may have; answers already durable are not rewritten."""
        self._fresh = group.answers + self._fresh
        self._budget.forget()

    def confirm(self, group: Group) -> None:
        """Report a durable group, and use the sends reserved with it."""
        self._budget.confirm()
        self._committed_at = self._clock()
        self._took = self._committed_at - group.started
        if group.answers:
            self._known.update({key: response for key, _, response in group.answers})
            self._told()
