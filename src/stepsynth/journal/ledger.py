"""The ledger of everything sent and bought over all processes of a run, including failed attempts.

Answers alone are not enough: a request that failed four times was sent four times, and one whose
process was killed may have been billed. So every send needs a durable reservation first, and every
commit settles it: ended sends are counted, those in flight stay reserved at their worst case. A
reservation left open by a killed process counts as sent, so a cap holds over any number of kills.

The states of a send, and the fields that count it::

    reserved ──> in flight ──┬─> answered                 sent, answers, tokens, usd
      open         open      ├─> failed, not billed       sent, failures
        │            │       └─> failed, perhaps billed   sent, failures, doubtful (at its worst case)
        │            │
        └────────────┴──> its process was killed          lost: the next process moves all of open there

`open` does not distinguish reserved from in flight: after a kill nobody can know which of the reserved sends
went out, so all of them must count. A process that ends cleanly settles what was in flight and releases the rest.
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

# The answers of journals older than this table were paid for, too.
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
    """The cost of sends, past or planned.

    Attributes:
        sends: requests as the server counts them.
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
        sent: attempts that were sent and ended with an answer or a failure.
        answers: answers received.
        prompt_tokens: tokens of these answers' prompts.
        completion_tokens: tokens of these answers.
        usd: dollars of the answers with a known price.
        unpriced: answers without a known price.
        failures: failed attempts by `TeacherError.kind`.
        billed_twice: requests sent again although the first attempt may have been billed.
        doubtful: attempts without an answer that may have been billed, at their worst case; their
            sends are in ``sent``.
        lost: reservations that killed processes left open: the most that they may have sent beyond ``sent``.
        open: sends in flight, at their worst case, and sends reserved until the next commit.
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
        """Read a journal's ledger; nothing is changed."""
        row = first(connection, "SELECT * FROM ledger")
        if row is None:
            return cls()
        _, sent, answers, read, written, usd, unpriced, failures, twice, *amounts = row
        doubtful, lost, held = (Cost(*amounts[at : at + 3]) for at in (0, 3, 6))
        return cls(sent, answers, read, written, usd, unpriced, json.loads(failures), twice, doubtful, lost, held)

    @property
    def attempts(self) -> int:
        """Attempts sent, including those that a killed process may have sent."""
        return self.sent + self.lost.sends

    @property
    def spent(self) -> Cost:
        """The sum that caps apply to, without requests in flight: bought, doubtful and lost."""
        tokens = self.prompt_tokens + self.completion_tokens
        paid = Cost(self.sent, tokens + self.doubtful.tokens, self.usd + self.doubtful.usd)
        return paid + self.lost

    @property
    def cost_usd(self) -> float | None:
        """Dollars paid, ``None`` if any answer's price is unknown."""
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
        """Whether no answer came, and nothing was sent that may have been billed anyway."""
        return not (self.answers or self.doubtful.sends or self.lost.sends or self.open.sends)

    def count_failure(self, kind: str) -> None:
        """Count a failed attempt."""
        self.failures[kind] = self.failures.get(kind, 0) + 1

    def count_as_lost(self) -> None:
        """Count another process's unsettled reservation as sent."""
        self.lost, self.open = self.lost + self.open, Cost()

    def copy(self) -> Ledger:
        """Return a snapshot, which later counting does not change."""
        return replace(self, failures=dict(self.failures))

    def write(self, connection: sqlite3.Connection) -> None:
        """Write the row, within the caller's transaction."""
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
