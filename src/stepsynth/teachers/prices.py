"""Teachers' prices: the config's price, else a dated list price, else unknown.

    price = price_of(config)          # None: unknown, which never counts as free
    price.cost(response.usage)        # dollars for one answer

The list (``prices.yaml``) holds only documented prices, each with its source and the day on which it
was valid. An engine in this process costs no dollars. Your own server may cost rent and power that
are not known here: set ``price: {input: 0, output: 0}`` to count it as free.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

if TYPE_CHECKING:
    from stepsynth.config import TeacherConfig
    from stepsynth.types import Usage

__all__ = ["STALE_DAYS", "Price", "price_of"]

STALE_DAYS = 365
_IN_PROCESS = frozenset({"openvino", "transformers", "vllm", "fake"})
# A dated variant costs what its model costs: gpt-4o-mini-2024-07-18, claude-haiku-4-5-20251001.
_DATED = re.compile(r"-(20\d\d-[01]\d-[0-3]\d|20\d\d[01]\d[0-3]\d)$")


@dataclass(frozen=True, slots=True)
class Price:
    """A teacher's price in dollars per million tokens.

    Attributes:
        input: price of prompt tokens, at the live rate.
        output: price of answer tokens, at the live rate.
        batch: the share of both that the batch API charges; 1 in live mode.
        date: the day of the list price, ISO 8601; empty if the price is from the config or
            nothing is charged.
        source: a page, ``config`` or ``in this process``.
        long: ``(above, input, output)``, the rates for prompts with more than ``above`` tokens.
    """

    input: float
    output: float
    batch: float = 1.0
    date: str = ""
    source: str = "config"
    long: tuple[int, float, float] | None = None

    @property
    def free(self) -> bool:
        """Whether answers cost nothing."""
        return self.input == 0.0 and self.output == 0.0

    def cost(self, usage: Usage) -> float | None:
        """Return an answer's cost in dollars by its counted tokens; ``None`` if the server counted none.

        Discounts for cached prompts are not known here.
        """
        if not (self.free or usage.prompt_tokens or usage.completion_tokens):
            return None
        return self.worst(usage.prompt_tokens, usage.completion_tokens)

    def worst(self, prompt_tokens: int, max_tokens: int) -> float:
        """Return a request's cost in dollars if the answer uses all of its tokens.

        Args:
            prompt_tokens: estimated tokens of the prompt.
            max_tokens: most tokens of the answer.
        """
        read, written = self.input, self.output
        if self.long is not None and prompt_tokens > self.long[0]:
            read, written = self.long[1:]
        return (prompt_tokens * read + max_tokens * written) * self.batch / 1e6

    def age_days(self, today: datetime.date) -> int | None:
        """Return the age of a list price; ``None`` without a date."""
        return (today - datetime.date.fromisoformat(self.date)).days if self.date else None


def price_of(config: TeacherConfig) -> Price | None:
    """Return a teacher's price; ``None`` if it is unknown.

    ``teacher.price`` comes first. An engine in this process costs nothing. Everything else is looked
    up by provider and model, exactly or without the date at the end of the name; a provider is
    identified by its host, so the same model on another server does not get its price.

    Args:
        config: only backend, base URL, model, mode and price are used.
    """
    batched = config.mode == "batch"
    if config.price is not None:
        return Price(config.price.input, config.price.output, config.price.batch if batched else 1.0)
    if len(config.base_urls) > 1:
        each = [price_of(config.at(address)) for address in config.base_urls]
        # It is not known beforehand which server answers: with different prices no cap in dollars could be kept.
        return each[0] if all(price == each[0] for price in each) else None
    if config.backend in _IN_PROCESS:
        return Price(0.0, 0.0, source="in this process")
    provider = _provider(config)
    if provider is None:
        return None
    model = _model(config, provider)
    models = provider["models"]
    found = models.get(model) or models.get(_DATED.sub("", model))
    # Without a known batch rate, the live rate would be as much a guess as half of it.
    if found is None or (batched and "batch" not in provider):
        return None
    return Price(
        float(found["input"]),
        float(found["output"]),
        float(provider["batch"]) if batched else 1.0,
        str(found.get("date", provider["date"])),
        str(found.get("source", provider["source"])),
        (int(long["above"]), float(long["input"]), float(long["output"])) if (long := found.get("long")) else None,
    )


def _provider(config: TeacherConfig) -> dict[str, Any] | None:
    providers = _listed()
    if config.base_url:
        try:
            host = (urlsplit(config.base_url).hostname or "").rstrip(".")
        except ValueError:  # whoever asks there says what is wrong with it
            return None
        return next((entry for entry in providers.values() if host in entry["hosts"]), None)
    if config.backend == "litellm":
        # A name without a provider's prefix is routed by LiteLLM's own rules.
        return providers.get(config.model.partition("/")[0]) if "/" in config.model else None
    return providers.get(config.backend)


def _model(config: TeacherConfig, provider: dict[str, Any]) -> str:
    if config.backend != "litellm":
        return config.model
    prefix, _, rest = config.model.partition("/")
    return rest if _listed().get(prefix) is provider else config.model


@cache
def _listed() -> dict[str, dict[str, Any]]:
    text = (files("stepsynth.teachers") / "prices.yaml").read_text(encoding="utf-8")
    providers: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return providers
