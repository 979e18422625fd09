"""Caps for a few requests outside a run: their worst-case cost, and a check against the caps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.errors import BudgetError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import BudgetConfig, TeacherConfig
    from stepsynth.teachers.prices import Price
    from stepsynth.types import Request, Response

__all__ = ["Bill", "Purse"]

# No tokenizer makes more than one token per byte; chat templates add a few tokens.
_TOKENS_PER_MESSAGE = 8
_TOKENS_PER_PROMPT = 16


@dataclass
class Bill:
    """Requests, tokens and dollars; ``usd`` is ``None`` without a known price."""

    requests: int = 0
    tokens: int = 0
    usd: float | None = None


class Purse:
    """Spending so far, and checks against the caps.

    Args:
        config: the teacher's config; its ``requests_per_minute`` is a cap, too, because a check takes less than a minute.
        budget: hard caps.
        price: the teacher's price; ``None`` if unknown.

    Attributes:
        spent: spending so far; a request in flight counts as its worst case.
        price: as given.

    Raises:
        ConfigError: dollars are capped but the price is unknown.
    """

    def __init__(self, config: TeacherConfig, budget: BudgetConfig, price: Price | None) -> None:
        if budget.usd is not None and price is None:
            what = f"budget.usd={budget.usd:g} cannot be kept: the price of {config.model!r} is unknown."
            raise ConfigError(what, hint="Set teacher.price: {input: ..., output: ...} (dollars per million tokens).")
        self.price = price
        self.spent = Bill(usd=None if price is None else 0.0)
        self._budget = budget
        self._pace = config.requests_per_minute

    def worst(self, requests: Sequence[Request]) -> Bill:
        """Return the worst-case cost of one send for these requests, whose prompts are equal."""
        messages, most = requests[0].messages, requests[0].sampling.max_tokens
        prompt = sum(len(m.content.encode("utf-8", "surrogatepass")) + _TOKENS_PER_MESSAGE for m in messages)
        prompt += _TOKENS_PER_PROMPT
        usd = None if self.price is None else len(requests) * self.price.worst(prompt, most)
        return Bill(1, len(requests) * (prompt + most), usd)

    def take(self, requests: Sequence[Request]) -> Bill:
        """Count a send as its worst case before it is sent.

        Raises:
            BudgetError: a cap would be exceeded.
        """
        cost, budget, spent = self.worst(requests), self._budget, self.spent
        if self._pace is not None and spent.requests + 1 > self._pace:
            raise BudgetError(f"teacher.requests_per_minute={self._pace} allows no more requests in this minute.")
        for name, cap, needs in (
            ("requests", budget.requests, spent.requests + 1),
            ("tokens", budget.tokens, spent.tokens + cost.tokens),
            ("usd", budget.usd, (spent.usd or 0.0) + (cost.usd or 0.0)),
        ):
            if cap is not None and needs > cap:
                raise BudgetError(f"budget.{name}={cap:g} allows no more: it may take {needs:g}.", hint=f"Raise budget.{name}.")
        spent.requests += 1
        self._add(cost, 1)
        return cost

    def settle(self, cost: Bill, responses: Sequence[Response]) -> None:
        """Replace a send's worst case with its answers' actual cost; without token counts it stays at its worst."""
        tokens = sum(r.usage.prompt_tokens + r.usage.completion_tokens for r in responses)
        if tokens:
            self.release(cost)
            known = [self.price.cost(r.usage) or 0.0 for r in responses] if self.price is not None else []
            self._add(Bill(0, tokens, sum(known) if known else None), 1)

    def release(self, cost: Bill) -> None:
        """Take back the cost of a refused send; the request itself still counts."""
        self._add(cost, -1)

    def _add(self, cost: Bill, sign: int) -> None:
        self.spent.tokens += sign * cost.tokens
        if self.spent.usd is not None:
            self.spent.usd = max(0.0, self.spent.usd + sign * (cost.usd or 0.0))
