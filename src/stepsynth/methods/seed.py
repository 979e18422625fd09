"""Seed data with rationales: explain, then generate (S3, section 3.1).

First reasons per label that would make a text carry it, then texts, each from k reasons drawn
without replacement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stepsynth.errors import RunError
from stepsynth.methods import even_targets, seeded
from stepsynth.types import Request, Sampling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.prompts import Prompts

__all__ = ["RationalePlan", "SeedPlan"]

_REPLICATES_PER_SEED = 1_000_000


@dataclass(frozen=True)
class RationalePlan:
    """Asks for ``method.rationales`` distinct reasons per label; every request is independent."""

    config: RunConfig
    prompts: Prompts
    stage: str = "round-0/rationales"
    kind: str = "rationales"

    @property
    def targets(self) -> Mapping[str, int]:
        """The same number of reasons for every label."""
        return dict.fromkeys(self.config.task.labels, self.config.method.rationales)

    def request(self, label: str, number: int, index: int) -> Request:
        """Ask for one reason."""
        return Request(
            messages=self.prompts.render("rationale", label),
            sampling=_for_reasons(self.config.teacher.sampling.frozen()),
            replicate=self.config.seed * _REPLICATES_PER_SEED + number,
            stage=self.stage,
            index=index,
            label=label,
        )


def _for_reasons(sampling: Sampling) -> Sampling:
    """Return cooler and shorter sampling: small teachers stray from the label above 0.6."""
    return replace(sampling, temperature=min(sampling.temperature, 0.6), max_tokens=min(sampling.max_tokens, 32))


@dataclass(frozen=True)
class SeedPlan:
    """Asks for ``method.seed_rows`` texts, evenly over the labels.

    Attributes:
        rationales: label -> accepted reasons.

    Raises:
        RunError: no reason at all for a label.
    """

    config: RunConfig
    prompts: Prompts
    rationales: Mapping[str, Sequence[str]]
    stage: str = "round-0/seed"
    kind: str = "seed"

    def __post_init__(self) -> None:
        """Refuse to go on without reasons."""
        for label in self.config.task.labels:
            if not self.rationales.get(label):
                raise RunError(
                    f"the teacher gave no usable rationale for label {label!r}.",
                    hint="Describe the label in task.labels, or override task.prompts.rationale.",
                )

    @property
    def targets(self) -> Mapping[str, int]:
        """Even over the labels."""
        return even_targets(self.config.method.seed_rows, list(self.config.task.labels))

    def request(self, label: str, number: int, index: int) -> Request:
        """Ask for one text that shows k reasons, drawn without replacement."""
        reasons = self.rationales[label]
        draw = seeded("seed", self.config.seed, label, number)
        shown = draw.sample(list(reasons), min(self.config.method.rationales_per_row, len(reasons)))
        return Request(
            messages=self.prompts.render("seed", label, rationales=shown),
            sampling=self.config.teacher.sampling.frozen(),
            replicate=self.config.seed * _REPLICATES_PER_SEED + number,
            stage=self.stage,
            index=index,
            label=label,
        )
