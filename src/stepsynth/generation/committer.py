"""The journal's side of dispatching: answers become durable in small groups, and with them what was sent and what is reserved.

    committer.add(key, request, response)     priced, counted, in the next group
    committer.commit()                        here and now; or, with the writing in another thread:
    group = committer.prepare(upcoming)
    committer.write(group)                    the only step that touches the journal
    committer.confirm(group)                  or `put_back` where it failed

An answer is told of when it is durable, never before.
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
# A full group waits until the journal has taken no more than this share of the time.
_JOURNAL_SHARE = 0.04


@dataclass(frozen=True, slots=True)
class Group:
    """What one commit makes durable.

    Attributes:
        answers: key, request and answer.
        ledger: as it was when the group was put together, with the reservation for what follows.
        changed: whether the ledger says anything new.
        started: when it was put together, by the committer's clock.
    """

    answers: list[tuple[str, Request, Response]]
    ledger: Ledger
    changed: bool
    started: float


class Committer:
    """Brings answers into the journal for one call of `TeacherClient.run`.

    Args:
        journal: where to.
        identity: of the teacher, kept beside its answers.
        budget: counts and reserves.
        room: looks at every answer.
        clock: seconds.
        known: answers and final errors by key; grows.
        told: called after each commit that made answers durable.
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
        """Take an answer: fill in its price, count it, keep it for the next group."""
        response = self.priced(response)
        self._budget.ledger.count_answer(response.usage)
        self._budget.changed = True
        self._fresh.append((key, request, response))
        # It reads the answer, so it comes last: whatever it makes of it, the answer is kept.
        self._room.saw(key, request.sampling.max_tokens, response)

    def priced(self, response: Response) -> Response:
        """Return an answer with its dollars, where a price is known; what a teacher told stays."""
        usage, price = response.usage, self._budget.price
        if usage.cost_usd is not None or price is None:
            return response
        return replace(response, usage=replace(usage, cost_usd=price.cost(usage)))

    def give_up(self, keys: Iterable[str], error: TeacherError) -> None:
        """Take a final error for some requests; nothing of it is kept in the journal but its count."""
        self._known.update(dict.fromkeys(keys, error))

    # when ------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._fresh) or self._budget.changed

    @property
    def due(self) -> bool:
        """Whether it is time for a commit: a group is full and commits take a small share of the time, or the last one is old."""
        waited = self._clock() - self._committed_at
        return waited >= COMMIT_EVERY_S or (len(self._fresh) >= COMMIT_AT and waited * _JOURNAL_SHARE >= self._took)

    @property
    def old(self) -> bool:
        """Whether the last commit is old, however few answers wait."""
        return self._clock() - self._committed_at >= COMMIT_EVERY_S

    # commits ---------------------------------------------------------------------------

    def commit(self, upcoming: int = 0, least: Cost | None = None, *, also: Callable[[], None] | None = None) -> None:
        """Make answers and the ledger durable, and reserve what is sent next, in one transaction.

        Args:
            upcoming: how many sends may follow.
            least: a send that has to be possible afterwards.
            also: writes more within that transaction.
        """
        group = self.prepare(upcoming, least)
        try:
            self.write(group, also)
        except BaseException:
            self.put_back(group)
            raise
        self.confirm(group)

    def prepare(self, upcoming: int = 0, least: Cost | None = None) -> Group:
        """Return what the next commit writes; whatever is counted from now on belongs to the one after it."""
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
        """Keep a group for another try: its commit failed, or nobody knows; what is durable by then stays as it is."""
        self._fresh = group.answers + self._fresh
        self._budget.forget()

    def confirm(self, group: Group) -> None:
        """Tell of a group that is durable, and use what was reserved with it."""
        self._budget.confirm()
        self._committed_at = self._clock()
        self._took = self._committed_at - group.started
        if group.answers:
            self._known.update({key: response for key, _, response in group.answers})
            self._told()
