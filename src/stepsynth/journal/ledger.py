"""The ledger: what was really sent and bought, over all processes of a run, failed attempts included.

Answers alone cannot tell: a request that failed four times was sent four times, and one whose
process was killed may have been paid for. So every send is covered beforehand by a reservation that is
durable, and every commit settles it: what was sent is counted, what is still out stays reserved at its
worst case. A reservation that a killed process left open counts as sent, so a cap holds over any
number of kills.

What becomes of a send, and where it is counted::

    reserved ──> in flight ──┬─> answered                 sent, answers, tokens, usd
      open         open      ├─> failed, not billed       sent, failures
        │            │       └─> failed, perhaps billed   sent, failures, doubtful (at its worst case)
        │            │
        └────────────┴──> its process was killed          lost: the next process moves all of open there

`open` does not tell reserved from in flight. It need not: after a kill nobody can know which of the reserved
sends went out, so all of them have to count. A process that ends in order settles what was in flight and gives the rest back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from stepsynth.journal.database import first

if TYPE_CHECKING:
    import sqlite3

    from stepsynth.types import Usage

__all__ = ["LEDGER_TABLE", "Cost", "Ledger"]

# A journal that is older than this table has paid for its answers, too.
LEDGER_TABLE = """
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY CHECK (id = 1), sent INTEGER NOT NULL, answers INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, usd REAL NOT NULL, unpriced INTEGER NOT NULL,
    failures TEXT NOT NULL, billed_twice INTEGER NOT NULL,
    doubtful_sends INTEGER NOT NULL, doubtful_tokens INTEGER NOT NULL, doubtful_usd REAL NOT NULL,
    lost_sends INTEGER NOT NULL, lost_tokens INTEGER NOT NULL, lost_usd REAL NOT NULL,
    open_sends INTEGER NOT NULL, open_tokens INTEGER NOT NULL, open_usd REAL NOT NULL
);
INSERT INTO ledger SELECT 1, COUNT(*), COUNT(*), COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0),
    COALESCE(SUM(cost_usd), 0.0), COUNT(*) - COUNT(cost_usd), '{}', 0, 0, 0, 0.0, 0, 0, 0.0, 0, 0, 0.0
    FROM answers WHERE origin != 'cache';
"""


@dataclass(slots=True)
class Cost:
    """Something to send, or sent.

    Attributes:
        sends: requests as a server counts them.
        tokens: prompt and completion tokens.
        usd: dollars.
    """

    sends: int = 0
    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.sends + other.sends, self.tokens + other.tokens, self.usd + other.usd)


@dataclass(slots=True)
class Ledger:
    """The ledger's one row, in memory.

    Attributes:
        sent: attempts that were sent and ended, in an answer or a failure.
        answers: answers that came.
        prompt_tokens: tokens of these answers' prompts.
        completion_tokens: tokens of these answers.
        usd: dollars of those answers whose price is known.
        unpriced: answers whose price is not.
        failures: failed attempts by `TeacherError.kind`.
        billed_twice: requests sent again although the first attempt may have been billed.
        doubtful: attempts that may have been billed and gave no answer, at their worst case; their
            sends are in ``sent``.
        lost: reservations that killed processes left open: the most that they may have sent beyond ``sent``.
        open: what is on its way, at its worst case, and what may be sent before the next commit.
    """

    sent: int = 0
    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    billed_twice: int = 0
    doubtful: Cost = field(default_factory=Cost)
    lost: Cost = field(default_factory=Cost)
    open: Cost = field(default_factory=Cost)

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Ledger:
        """Return what a journal holds; nothing is changed."""
        row = first(connection, "SELECT * FROM ledger")
        if row is None:
            return cls()
        _, sent, answers, read, written, usd, unpriced, failures, twice, *amounts = row
        doubtful, lost, held = (Cost(*amounts[at : at + 3]) for at in (0, 3, 6))
        return cls(sent, answers, read, written, usd, unpriced, json.loads(failures), twice, doubtful, lost, held)

    @property
    def attempts(self) -> int:
        """Attempts sent, those that a killed process may have sent included."""
        return self.sent + self.lost.sends

    @property
    def spent(self) -> Cost:
        """What caps are held against, requests in flight left out: bought, doubtful and lost."""
        tokens = self.prompt_tokens + self.completion_tokens
        paid = Cost(self.sent, tokens + self.doubtful.tokens, self.usd + self.doubtful.usd)
        return paid + self.lost

    @property
    def cost_usd(self) -> float | None:
        """Dollars bought, ``None`` when any answer's price is unknown."""
        return None if self.unpriced else self.usd

    def count_answer(self, usage: Usage) -> None:
        """Count an answer's tokens and dollars."""
        self.answers += 1
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        if usage.cost_usd is None:
            self.unpriced += 1
        else:
            self.usd += usage.cost_usd

    @property
    def paid_nothing(self) -> bool:
        """Whether no answer came, and nothing was sent that may have been billed all the same."""
        return not (self.answers or self.doubtful.sends or self.lost.sends or self.open.sends)

    def count_failure(self, kind: str) -> None:
        """Count a failed attempt."""
        self.failures[kind] = self.failures.get(kind, 0) + 1

    def count_as_lost(self) -> None:
        """Count what another process reserved and never settled as sent."""
        self.lost, self.open = self.lost + self.open, Cost()

    def copy(self) -> Ledger:
        """Return the ledger of this moment, which later counting leaves alone."""
        return replace(self, failures=dict(self.failures))

    def write(self, connection: sqlite3.Connection) -> None:
        """Write the row; the caller holds the transaction."""
        connection.execute(
            "INSERT OR REPLACE INTO ledger VALUES (1,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                *(self.sent, self.answers, self.prompt_tokens, self.completion_tokens, self.usd, self.unpriced),
                *(json.dumps(self.failures, sort_keys=True), self.billed_twice),
                *(self.doubtful.sends, self.doubtful.tokens, self.doubtful.usd),
                *(self.lost.sends, self.lost.tokens, self.lost.usd),
                *(self.open.sends, self.open.tokens, self.open.usd),
            ),
        )
