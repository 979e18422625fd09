"""What teachers cost: the config's price, else a dated list price, else unknown.

    price = price_of(config)          # None: unknown, which is never counted as nothing
    price.cost(response.usage)        # dollars of one answer

The list (``prices.yaml``) holds only what some document says, each entry with the day on which that
document was valid and where it is. An engine in this process costs no dollars. A server of one's
own may cost rent and power that nobody here knows: say ``price: {input: 0, output: 0}`` to count it
as free.
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
    """Dollars per million tokens, as they are charged to this teacher.

    Attributes:
        input: of the prompt, at the live rate.
        output: of the answer, at the live rate.
        batch: what the batch API charges of both, as a share; 1 for a teacher that is asked live.
        date: the day on which the list said so, ISO 8601; empty where the config says it or
            nothing is charged.
        source: where that stands: a page, ``config`` or ``in this process``.
        long: ``(above, input, output)``, the rates of requests whose prompt has more than ``above`` tokens.
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
        """Return the dollars of an answer by its counted tokens, ``None`` where the server counted none.

        Discounts for cached prompts are not known here.
        """
        if not (self.free or usage.prompt_tokens or usage.completion_tokens):
            return None
        return self.worst(usage.prompt_tokens, usage.completion_tokens)

    def worst(self, prompt_tokens: int, max_tokens: int) -> float:
        """Return the dollars of a request whose answer uses all of its tokens.

        Args:
            prompt_tokens: tokens of the prompt, as estimated.
            max_tokens: most tokens of the answer.
        """
        read, written = self.input, self.output
        if self.long is not None and prompt_tokens > self.long[0]:
            read, written = self.long[1:]
        return (prompt_tokens * read + max_tokens * written) * self.batch / 1e6

    def age_days(self, today: datetime.date) -> int | None:
        """Return how old a list price is, ``None`` for one without a date."""
        return (today - datetime.date.fromisoformat(self.date)).days if self.date else None


def price_of(config: TeacherConfig) -> Price | None:
    """Return what a teacher costs, ``None`` where nobody said.

    ``teacher.price`` comes first. An engine in this process costs nothing. Everything else is looked
    up by provider and model, exactly or without the date at the end of its name; a provider is known
    by the host of its address, so the same model on another server is not priced like it.

    Args:
        config: backend, base URL, model, mode and price are read.
    """
    batched = config.mode == "batch"
    if config.price is not None:
        return Price(config.price.input, config.price.output, config.price.batch if batched else 1.0)
    if config.backend in _IN_PROCESS:
        return Price(0.0, 0.0, source="in this process")
    provider = _provider(config)
    if provider is None:
        return None
    model = _model(config, provider)
    models = provider["models"]
    found = models.get(model) or models.get(_DATED.sub("", model))
    # No batch rate is known: the live one would be a guess as much as a half of it.
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
        host = (urlsplit(config.base_url).hostname or "").rstrip(".")
        return next((entry for entry in providers.values() if host in entry["hosts"]), None)
    if config.backend == "litellm":
        # A name without a provider's prefix is routed by rules that are LiteLLM's own.
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
