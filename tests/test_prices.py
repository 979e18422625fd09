"""Prices: the config's first, then a dated list; unknown is unknown and never nothing."""

from __future__ import annotations

import datetime
from importlib.resources import files
from typing import Any

import pytest
import yaml

from stepsynth.config import TeacherConfig
from stepsynth.teachers.prices import STALE_DAYS, Price, price_of
from stepsynth.types import Usage

OPENAI = "https://api.openai.com/v1"


def teacher(**values: Any) -> TeacherConfig:
    return TeacherConfig.model_validate(values)


def listed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((files("stepsynth.teachers") / "prices.yaml").read_text(encoding="utf-8"))
    return found


def entries() -> list[tuple[str, str, dict[str, Any]]]:
    return [(name, model, entry) for name, provider in listed().items() for model, entry in provider["models"].items()]


@pytest.mark.parametrize(("provider", "model", "entry"), entries())
def test_every_listed_price_has_a_day_a_page_and_two_rates(provider: str, model: str, entry: dict[str, Any]) -> None:
    source = listed()[provider]
    price = price_of(teacher(backend="openai", base_url=f"https://{source['hosts'][0]}/v1", model=model))
    assert price is not None
    assert (price.input, price.output) == (entry["input"], entry["output"])
    assert 0 < price.input <= price.output
    assert datetime.date(2026, 1, 1) <= datetime.date.fromisoformat(price.date)
    assert price.source.startswith("https://")
    assert not price.free


def test_the_config_comes_before_the_list() -> None:
    config = teacher(backend="openai", base_url=OPENAI, model="gpt-4o-mini", price={"input": 7, "output": 9})
    assert price_of(config) == Price(7, 9)


@pytest.mark.parametrize(
    ("model", "like"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4.1-2025-04-14", "gpt-4.1"),
    ],
)
def test_a_dated_variant_costs_what_its_model_costs(model: str, like: str) -> None:
    found = [price_of(teacher(backend="openai", base_url=OPENAI, model=name)) for name in (model, like)]
    assert found[0] == found[1] is not None


def test_a_dated_variant_with_a_price_of_its_own_keeps_it() -> None:
    old = price_of(teacher(backend="openai", base_url=OPENAI, model="gpt-4o-2024-05-13"))
    assert old is not None
    assert (old.input, old.output) == (5.0, 15.0)


def test_anthropic_needs_no_address_and_dates_without_dashes_are_dates() -> None:
    price = price_of(teacher(backend="anthropic", model="claude-haiku-4-5-20251001"))
    assert price is not None
    assert (price.input, price.output) == (1.0, 5.0)


@pytest.mark.parametrize(
    "model", ["gpt-4o-mini-turbo", "gpt-4", "ft:gpt-4o-mini-2024-07-18:us::1", "gpt-4o-mini-2024", "", "GPT-4o-mini"]
)
def test_a_similar_name_is_no_listed_model(model: str) -> None:
    assert price_of(teacher(backend="openai", base_url=OPENAI, model=model)) is None


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8000/v1",
        "http://localhost:11434/v1",
        "http://10.0.0.7/v1",
        "https://openrouter.ai/api/v1",
        "https://mine.openai.azure.com/openai/v1",
        "https://api.openai.com.example.org/v1",
        "https://eu.api.openai.com/v1",
    ],
)
def test_a_listed_model_on_another_server_has_no_known_price(address: str) -> None:
    """Least of all is a server of one's own counted as free without being told so."""
    config = teacher(backend="openai", base_url=address, model="gpt-4o-mini")
    assert price_of(config) is None
    told = config.model_copy(update={"price": teacher(price={"input": 0, "output": 0}).price})
    assert price_of(told) == Price(0, 0)


@pytest.mark.parametrize("backend", ["openvino", "transformers", "vllm", "fake"])
def test_an_engine_in_this_process_costs_no_dollars_unless_the_config_says_so(backend: str) -> None:
    price = price_of(teacher(backend=backend, model="gpt-4o-mini"))
    assert price is not None
    assert price.free
    assert price.cost(Usage(1000, 1000)) == 0.0
    told = price_of(teacher(backend=backend, price={"input": 1, "output": 1}))
    assert told is not None
    assert told.cost(Usage(500_000, 500_000)) == 1.0


def test_litellm_is_priced_by_the_provider_that_its_name_begins_with() -> None:
    direct = price_of(teacher(backend="openai", base_url=OPENAI, model="gpt-4.1-mini"))
    assert price_of(teacher(backend="litellm", model="openai/gpt-4.1-mini")) == direct is not None
    for model in ("gpt-4.1-mini", "azure/gpt-4.1-mini", "openrouter/openai/gpt-4.1-mini"):
        assert price_of(teacher(backend="litellm", model=model)) is None


def test_dollars_are_counted_by_tokens_of_both_kinds() -> None:
    price = Price(2.0, 8.0)
    assert price.cost(Usage(1_000_000, 0)) == 2.0
    assert price.cost(Usage(0, 1_000_000)) == 8.0
    assert price.cost(Usage(1000, 250)) == pytest.approx(0.004)
    assert price.cost(Usage(1000, 64)) == price.worst(1000, 64) < price.worst(1000, 65)
    # A server that counts no tokens: nothing is known, and nothing is not zero.
    assert price.cost(Usage(0, 0)) is None


def test_a_batch_api_takes_its_share_of_both_rates() -> None:
    live, batch = (price_of(teacher(backend="anthropic", model="claude-haiku-4-5", mode=mode)) for mode in ("live", "batch"))
    assert live is not None
    assert batch is not None
    whole = live.cost(Usage(4000, 100))
    assert whole is not None
    assert batch.cost(Usage(4000, 100)) == pytest.approx(0.5 * whole)
    assert batch.worst(4000, 100) == pytest.approx(0.5 * live.worst(4000, 100))
    own = {"input": 1, "output": 1, "batch": 0.25}
    told = [price_of(teacher(backend="anthropic", mode=mode, price=own)) for mode in ("live", "batch")]
    assert [price.worst(1_000_000, 0) for price in told if price] == [1.0, 0.25]


def test_long_prompts_are_charged_at_their_own_rate() -> None:
    price = price_of(teacher(backend="anthropic", model="claude-haiku-5-5"))
    assert price is not None
    assert price.worst(100_000, 0) == pytest.approx(0.01)
    assert price.worst(100_001, 1_000_000) == pytest.approx(0.0500005 + 2.5)


def test_a_price_knows_how_old_it_is() -> None:
    day = datetime.date(2026, 10, 3)
    price = Price(1, 1, date=day.isoformat())
    assert price.age_days(day + datetime.timedelta(days=STALE_DAYS + 1)) == STALE_DAYS + 1
    assert Price(1, 1).age_days(day) is None
