"""Estimates a run's requests, tokens and dollars from a sample's answers, and warns about caps that are too low."""

from __future__ import annotations

import math
from datetime import date
from statistics import fmean
from typing import TYPE_CHECKING, Any

from stepsynth.teachers.prices import STALE_DAYS, price_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepsynth.config import BudgetConfig, TeacherConfig
    from stepsynth.teachers.prices import Price
    from stepsynth.types import Usage

__all__ = ["amount", "forecast", "money_warnings", "price_as_json"]


def forecast(rows: tuple[int, int], usages: Sequence[Usage], teacher: TeacherConfig) -> dict[str, Any]:
    """Return the likely minimum and maximum as plain values.

    The minimum assumes answers as long as the sample's, and several per request if the config allows
    it; the maximum assumes one answer per request, each of the maximum length.

    Args:
        rows: the fewest and the most answers to request.
        usages: usage of the sample's answers.
        teacher: gives price, ``rows_per_request`` and ``max_tokens``.

    Returns:
        ``requests``; ``tokens``, ``None`` if the teacher does not count them; ``cost_usd``, ``None`` if
        no price is known.
    """
    low, high = rows
    fewest = math.ceil(low / teacher.rows_per_request)
    read = fmean(usage.prompt_tokens for usage in usages)
    written = fmean(usage.completion_tokens for usage in usages)
    longest = max(teacher.sampling.max_tokens + teacher.reasoning_tokens, written)
    counted = read + written > 0
    tokens = [round(fewest * read + low * written), math.ceil(high * (read + longest))] if counted else None
    found: dict[str, Any] = {"requests": [fewest, high], "tokens": tokens, "cost_usd": None}
    price = price_of(teacher)
    told = [usage.cost_usd for usage in usages if usage.cost_usd is not None]
    if price is not None and (counted or price.free):
        # Per request, since the rate may depend on the length of the prompt.
        least = fewest * price.worst(round(read), round(low * written / max(fewest, 1)))
        found["cost_usd"] = [least, high * price.worst(math.ceil(read), math.ceil(longest))]
    elif price is None and len(told) == len(usages):
        # The server itself reports the cost of an answer.
        found["cost_usd"] = [fewest * fmean(told), high * fmean(told) * ((read + longest) / (read + written) if counted else 1)]
    return found


def price_as_json(price: Price | None, today: date | None = None) -> dict[str, Any] | None:
    """Return a price as plain values, and whether it is more than a year old."""
    if price is None:
        return None
    age = price.age_days(today or date.today())
    return {
        "input": price.input,
        "output": price.output,
        "batch": price.batch,
        "date": price.date or None,
        "source": price.source,
        "stale": age is not None and age > STALE_DAYS,
    }


def money_warnings(budget: BudgetConfig, expected: dict[str, Any], price: Price | None, today: date | None = None) -> list[str]:
    """Return warnings before a run: caps that are too low, prices that are old or missing.

    Args:
        budget: the caps.
        expected: from `forecast`.
        price: from `price_of`.
        today: for tests.
    """
    warnings = []
    for cap, name, needs in (
        (budget.requests, "requests", expected["requests"]),
        (budget.tokens, "tokens", expected["tokens"]),
        (budget.usd, "usd", expected["cost_usd"]),
    ):
        if cap is None:
            continue
        if needs is None:
            why = "no price is known for this teacher: the run is refused" if name == "usd" else "the server counts no tokens"
            hint = "; set teacher.price" if name == "usd" else ""
            warnings.append(f"budget.{name} is set, but {why}{hint}.")
        elif cap < needs[1]:
            ends = "ends the run early" if cap < needs[0] else "may end the run early"
            warnings.append(f"budget.{name}={cap:,} {ends}: it takes {amount(needs[0])} to {amount(needs[1])}.")
    age = price.age_days(today or date.today()) if price else None
    if price is not None and age is not None and age > STALE_DAYS:
        warnings.append(f"the price is from {price.date}, {age:,} days ago: check {price.source}, or set teacher.price.")
    return warnings


def amount(value: float) -> str:
    """Return a count or a number of dollars as messages show it."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2g}" if value < 1 else f"{value:,.2f}"
