"""What counts against a cap: answers at their price, surplus ones too, and what a server takes beyond the worst case."""

from __future__ import annotations

import pytest

from stepsynth.config import BudgetConfig, TeacherConfig
from stepsynth.generation.budget import BudgetGuard
from stepsynth.journal import Cost, Ledger
from stepsynth.teachers.prices import Price
from stepsynth.types import Message, Request, Response, Sampling, Usage

# One and two dollars a token.
PRICE = Price(1e6, 2e6)


def ask(replicate: int = 0) -> Request:
    return Request((Message("user", "Write."),), Sampling(max_tokens=6), replicate, "round-0/seed", 0, "kalm")


def sent(requests: list[Request], responses: list[Response], price: Price | None = PRICE) -> BudgetGuard:
    """Send requests in one attempt, answer them, and count the answers that are kept, as the committer does."""
    config = TeacherConfig(backend="openai", base_url="http://127.0.0.1:9/v1", concurrency=8)
    guard = BudgetGuard(config, Ledger(), BudgetConfig(usd=1000.0) if price else BudgetConfig(tokens=1000), price)
    guard.reserve(8)
    guard.confirm()
    cost = guard.cost(requests)
    guard.hold(cost)
    guard.answered(cost, requests, responses)
    for response in responses[: len(requests)]:
        usage = response.usage
        guard.ledger.prompt_tokens += usage.prompt_tokens
        guard.ledger.completion_tokens += usage.completion_tokens
        guard.ledger.usd += (price.cost(usage) or 0.0) if price and usage.cost_usd is None else usage.cost_usd or 0.0
    return guard


def answer(prompt: int, completion: int, usd: float | None = None) -> Response:
    return Response("Text.", usage=Usage(prompt, completion, usd))


@pytest.mark.parametrize(("usd", "dollars"), [(None, 3 + 12), (0.25, 0.25)])
def test_an_answer_more_than_was_asked_for_is_paid_for(usd: float | None, dollars: float) -> None:
    """Simulation, seed 31146: a server gave four texts where three were asked for, and a cap in dollars was passed."""
    guard = sent([ask(0), ask(1)], [answer(3, 6, usd), answer(3, 6, usd), answer(3, 6, usd)])
    assert guard.ledger.spent.tokens == 27
    assert guard.ledger.spent.usd == pytest.approx(3 * dollars)
    assert guard.ledger.doubtful == Cost(0, 9, dollars)


def test_as_many_answers_as_were_asked_for_leave_nothing_in_doubt() -> None:
    assert sent([ask(0), ask(1)], [answer(3, 6), answer(3, 6)]).ledger.doubtful == Cost()


def test_what_a_server_takes_beyond_the_worst_case_is_reserved_for_later_requests_in_dollars_too() -> None:
    """Also where the price is ours: a server's own long template costs dollars like any other prompt."""
    plain = sent([ask()], [answer(3, 6)]).cost([ask()])
    guard = sent([ask()], [answer(500, 6)])
    dearer = guard.cost([ask()])
    assert dearer.tokens - plain.tokens == 506 - plain.tokens
    assert dearer.usd == pytest.approx(500 * 1 + 6 * 2)


def test_an_answer_without_usage_counts_as_its_worst_case() -> None:
    guard = sent([ask()], [answer(0, 0)])
    assert guard.ledger.doubtful == guard.cost([ask()]) + Cost(-1, 0, 0.0)
