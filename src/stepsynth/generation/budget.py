"""Hard caps: a request is sent only if it is reserved in the journal and fits every cap.

    budget.begin(cost)     in memory: takes one send from what the journal has reserved
    budget.reserve(...)    before each commit: settles what was sent and plans the next reservation
    budget.confirm()       after it: the sends are reserved

A request in flight counts as its worst case until its answer shows the actual cost, so a cap can be
reached but never exceeded; near it fewer requests are in flight. A killed process leaves its
reservation behind, which then counts as spent.

The journal stores one sum, ``ledger.open``; in memory it is split in three::

    reserve          commit, confirm          begin              answered, failed
    ────────> next ──────────────────> left ──────────> out ──────────────────────> counted in the ledger
               │
               └─ the commit failed, forget: nothing may be sent before the next one succeeds

Invariant: the sum in the file is at least ``out + left`` (except for batches, which have their own table). So ``begin`` never
adds to a reservation, it only takes from it, and a new sum is in the file before anything is sent on it. Sends continue
during a commit, when the file may contain the old sum or the new one: both must cover them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stepsynth.errors import BudgetError, ConfigError, TransientError
from stepsynth.journal import Cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import BudgetConfig, TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.journal import Ledger
    from stepsynth.teachers.prices import Price
    from stepsynth.types import Request, Response, Usage

__all__ = ["BudgetGuard", "check_price"]

# No tokenizer makes more than one token per byte; chat templates add a few of their own.
_TOKENS_PER_MESSAGE = 8
_TOKENS_PER_PROMPT = 16


def check_price(config: TeacherConfig, budget: BudgetConfig, price: Price | None) -> None:
    """Refuse a dollar cap that cannot be enforced.

    Raises:
        ConfigError: dollars are capped and the price is unknown.
    """
    if budget.usd is not None and price is None:
        raise ConfigError(
            f"budget.usd={budget.usd:g} cannot be enforced: the price of {config.model!r} is unknown.",
            hint="Set teacher.price: {input: ..., output: ...} (dollars per million tokens), or cap requests or tokens.",
        )


class BudgetGuard:
    """What a run has spent, has reserved and may still spend.

    Args:
        config: the teacher's; ``concurrency`` is how many sends are reserved at once.
        ledger: the journal's ledger, the source of truth; sends and failures are counted in it.
        budget: the caps.
        price: the teacher's price, ``None`` if unknown.

    Raises:
        ConfigError: dollars are capped and the price is unknown.
    """

    def __init__(self, config: TeacherConfig, ledger: Ledger, budget: BudgetConfig, price: Price | None) -> None:
        check_price(config, budget, price)
        self.ledger = ledger
        self.price = price
        self._budget = budget
        self._uncapped = budget.requests is None and budget.tokens is None and budget.usd is None
        self._block = config.most_in_flight
        self._out = Cost()
        self._left = Cost()
        self._next: Cost | None = None
        self._largest = Cost(1, 1, 0.0)
        self._over = Cost()
        self.changed = False

    def cost(self, requests: Sequence[Request]) -> Cost:
        """Return the worst case of sending these requests, which share a prompt, at once."""
        cost = self._worst(requests)
        cost.tokens += len(requests) * self._over.tokens
        cost.usd += len(requests) * self._over.usd
        self._largest = Cost(1, max(self._largest.tokens, cost.tokens), max(self._largest.usd, cost.usd))
        return cost

    def _worst(self, requests: Sequence[Request]) -> Cost:
        messages, most = requests[0].messages, requests[0].sampling.max_tokens
        prompt = sum(len(m.content.encode("utf-8", "surrogatepass")) + _TOKENS_PER_MESSAGE for m in messages)
        prompt += _TOKENS_PER_PROMPT
        usd = self.price.worst(prompt, most) if self.price is not None else 0.0
        return Cost(1, len(requests) * (prompt + most), len(requests) * usd)

    def start(self) -> None:
        """Prepare to send; an open reservation was left by a killed process and counts as lost."""
        self._out, self._left, self._next = Cost(), Cost(), None
        if self.ledger.open != Cost():
            self.ledger.count_as_lost()
            self.changed = True

    def fits(self, cost: Cost) -> bool:
        """Whether every cap holds if this is sent and everything in flight takes its worst case."""
        if self._uncapped:
            return True
        budget, spent = self._budget, self.ledger.spent
        return (
            (budget.requests is None or spent.sends + self._out.sends + cost.sends <= budget.requests)
            and (budget.tokens is None or spent.tokens + self._out.tokens + cost.tokens <= budget.tokens)
            and (budget.usd is None or spent.usd + self._out.usd + cost.usd <= budget.usd)
        )

    def begin(self, cost: Cost) -> bool:
        """Move a send from reserved to in flight; ``False`` means reserve first.

        During a commit, both the old reservation and the new one must cover it: a killed process may
        leave either behind.
        """
        if not _holds(self._left, cost) or (self._next is not None and not _holds(self._next, cost)):
            return False
        self._left = _less(self._left, cost)
        if self._next is not None:
            self._next = _less(self._next, cost)
        self.hold(cost)
        self.changed = True
        return True

    def hold(self, cost: Cost) -> None:
        """Count something as in flight that is recorded elsewhere, such as a provider's batch."""
        self._out += cost

    @property
    def in_flight(self) -> int:
        """Sends without an outcome yet."""
        return self._out.sends

    def release(self, cost: Cost) -> None:
        """Count something as no longer in flight."""
        self._out = _less(self._out, cost)
        self.changed = True

    def count_sent(self, cost: Cost) -> None:
        """Count a send that ended with an answer or a failure."""
        self.ledger.sent += cost.sends
        self.changed = True

    def count_sent_again(self) -> None:
        """Count a send whose previous attempt may be billed as well."""
        self.ledger.billed_twice += 1

    def answered(self, cost: Cost, requests: Sequence[Request], responses: Sequence[Response]) -> None:
        """Replace a send's worst case by its answers' actual cost; `Committer.add` counts that in the ledger."""
        self.release(cost)
        tokens = sum(r.usage.prompt_tokens + r.usage.completion_tokens for r in responses)
        usd = sum(self.cost_usd(r.usage) or 0.0 for r in responses)
        if not tokens and not usd:
            # The server reports no usage, so the worst case counts against the cap.
            self.ledger.doubtful += Cost(0, cost.tokens, cost.usd)
        for surplus in responses[len(requests) :]:
            # Nobody asked for it and it is not kept, but the provider may charge for it.
            usage = surplus.usage
            self.ledger.doubtful += Cost(0, usage.prompt_tokens + usage.completion_tokens, self.cost_usd(usage) or 0.0)
        if tokens > cost.tokens or usd > cost.usd:
            # For instance the server adds a long template of its own: later requests reserve for it, too.
            worst, count = self._worst(requests), len(requests)
            self._over.tokens = max(self._over.tokens, math.ceil((tokens - worst.tokens) / count))
            self._over.usd = max(self._over.usd, (usd - worst.usd) / count)

    def cost_usd(self, usage: Usage) -> float | None:
        """Return an answer's dollars: as the teacher reports them, else at the known price; ``None`` if neither says."""
        if usage.cost_usd is not None or self.price is None:
            return usage.cost_usd
        return self.price.cost(usage)

    def failed(self, cost: Cost, error: TeacherError) -> bool:
        """Release a failed send; return whether it may still be billed, in which case its worst case counts."""
        self.release(cost)
        self.ledger.count_failure(error.kind)
        doubtful = error.kind == "damaged" or (isinstance(error, TransientError) and error.maybe_billed)
        if doubtful:
            self.ledger.doubtful += cost
        return doubtful

    def reserve(self, most: int, least: Cost | None = None) -> None:
        """Settle, and plan the next reservation; the following commit makes it durable, `confirm` makes it usable.

        Args:
            most: sends that may follow; a block of at most ``concurrency`` of them is reserved.
            least: a send that fits the caps and must be possible afterwards.
        """
        sends = min(most, self._block)
        budget, spent, each = self._budget, self.ledger.spent, self._largest
        if budget.requests is not None:
            sends = min(sends, budget.requests - spent.sends - self._out.sends)
        if budget.tokens is not None:
            sends = min(sends, (budget.tokens - spent.tokens - self._out.tokens) // each.tokens)
        if budget.usd is not None and each.usd > 0:
            sends = min(sends, int((budget.usd - spent.usd - self._out.usd) / each.usd))
        sends = max(0, sends)
        left = Cost(sends, sends * each.tokens, sends * each.usd)
        if least is not None and not _holds(left, least):
            left = least
        self._next = left
        held = Cost(self._out.sends + left.sends, self._out.tokens + left.tokens, max(0.0, self._out.usd) + left.usd)
        if held != self.ledger.open:
            self.ledger.open = held
            self.changed = True

    def confirm(self) -> None:
        """Use the planned reservation: it is durable now."""
        self._left, self._next = self._next or Cost(), None

    def forget(self) -> None:
        """Drop all reservations: a commit failed."""
        self._left, self._next = Cost(), None
        self.changed = True

    def low(self, waiting: int) -> bool:
        """Whether so little is reserved that the waiting calls will soon need a commit."""
        return self._left.sends < min(waiting, self._block // 2)

    def refuse(self, cost: Cost | None = None) -> BudgetError:
        """Return the error for a cap that was reached, with the numbers.

        Args:
            cost: the worst case of the request that no longer fits.
        """
        budget, spent = self._budget, self.ledger.spent
        said = [
            f"{spent.sends:,}{_of(budget.requests)} requests sent",
            f"{spent.tokens:,}{_of(budget.tokens)} tokens",
        ]
        if budget.usd is not None:
            said.append(f"${spent.usd:.4f} of ${budget.usd:.4f}")
        what = f"the budget is used up: {', '.join(said)}"
        if cost is not None and budget.tokens is not None and spent.tokens + cost.tokens > budget.tokens:
            what += f"; the next request may take {cost.tokens:,} tokens"
        if cost is not None and budget.usd is not None and spent.usd + cost.usd > budget.usd:
            what += f"; the next request may take ${cost.usd:.4f}"
        if self.ledger.lost.sends:
            what += f"; {self.ledger.lost.sends:,} of the requests were in flight when a process was killed"
        caps = [f"budget.{name}" for name in ("requests", "tokens", "usd") if getattr(budget, name) is not None]
        return BudgetError(f"{what}.", hint=f"Everything so far is kept; raise {' or '.join(caps)} and run it again.")


def _holds(left: Cost, cost: Cost) -> bool:
    return left.sends >= cost.sends and left.tokens >= cost.tokens and left.usd >= cost.usd


def _less(left: Cost, cost: Cost) -> Cost:
    return Cost(left.sends - cost.sends, left.tokens - cost.tokens, left.usd - cost.usd)


def _of(cap: int | None) -> str:
    return "" if cap is None else f" of {cap:,}"
