"""Error extrapolation: new texts like the student's mistakes, with their gold label (S3, section 3.2)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from stepsynth.methods import even_targets, seeded
from stepsynth.types import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.prompts import Prompts
    from stepsynth.types import Example, Mistake

__all__ = ["ExtrapolationPlan"]

_REPLICATES_PER_SEED = 1_000_000
_EXAMPLES_PER_PROMPT = 2


@dataclass(frozen=True)
class ExtrapolationPlan:
    """Asks for ``method.rows_per_mistake`` rows like each mistake of the harvest half.

    Attributes:
        mistakes: of the previous round's student, in the order of the harvest half.
        harvest: the gold rows that a prompt may show.
        round_number: of the data that is written, from 1.
    """

    config: RunConfig
    prompts: Prompts
    mistakes: Sequence[Mistake]
    harvest: Sequence[Example]
    round_number: int
    kind: str = "extrapolate"

    @property
    def stage(self) -> str:
        """``round-k/extrapolate``."""
        return f"round-{self.round_number}/extrapolate"

    @property
    def targets(self) -> Mapping[str, int]:
        """``rows_per_mistake`` times as many rows as mistakes; see ``method.balance`` for their labels.

        With ``mistakes`` a label gets as many as it has mistakes (the paper's way). With ``even``
        the same total is spread evenly over the labels that have mistakes: a student errs more
        often in one direction, and the rows that cure it should not tilt the classes the other way.
        """
        counts = Counter(mistake.example.label for mistake in self.mistakes)
        labels = [label for label in self.config.task.labels if counts[label]]
        total = len(self.mistakes) * self.config.method.rows_per_mistake
        if self.config.method.balance == "even":
            return even_targets(total, labels)
        return {label: counts[label] * self.config.method.rows_per_mistake for label in labels}

    @cached_property
    def _by_label(self) -> dict[str, list[Mistake]]:
        grouped: dict[str, list[Mistake]] = {}
        for mistake in self.mistakes:
            grouped.setdefault(mistake.example.label, []).append(mistake)
        return grouped

    def request(self, label: str, number: int, index: int) -> Request:
        """Ask for a row like one mistake; the mistakes of a label take turns."""
        mistakes = self._by_label[label]
        mistake = mistakes[number % len(mistakes)].example
        others = [e.text for e in self.harvest if e.label == label and e.id != mistake.id]
        draw = seeded("extrapolate", self.config.seed, self.round_number, mistake.id, number)
        return Request(
            messages=self.prompts.render(
                "extrapolate",
                label,
                text=mistake.text,
                examples=draw.sample(others, min(_EXAMPLES_PER_PROMPT, len(others))),
            ),
            sampling=self.config.teacher.sampling.frozen(),
            replicate=(self.config.seed * 100 + self.round_number) * _REPLICATES_PER_SEED + number,
            stage=self.stage,
            index=index,
            label=label,
            source=mistake.id,
        )
