"""Rows from prompts written by a user's method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stepsynth.methods.seed import RowPlan
from stepsynth.types import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepsynth.types import Example, Request

__all__ = ["PromptPlan"]

_REPLICATES = 1_000_000


@dataclass(frozen=True)
class PromptPlan(RowPlan):
    """Asks for rows with a custom prompt.

    Attributes:
        ctx: the method's data.
        prompt: ``prompt(label, number, given)`` returns the prompt for the ``number``-th row of a label. ``given`` is the gold
            row from `source`; without one, it has the row's given context and answer, if the family has them. The same
            arguments must give the same text; for random draws use `stepsynth.methods.rng_for`.
        kind: a word for the stage's name and for tables.
        wanted: label -> number of accepted rows wanted; by default ``method.seed_rows``, distributed by the family.
        source: ``source(label, number)`` returns the gold row of ``ctx.harvest`` on which the ``number``-th row of a label is
            modelled; the new row keeps its context and answer, and tables show it alongside.
        round_number: round of the written rows.

    Examples:
        >>> plan = PromptPlan(ctx, lambda label, number, given: f"Write a {label} ticket.", kind="plain")  # doctest: +SKIP
    """

    prompt: Callable[[str, int, Example], str]
    kind: str = "prompted"
    wanted: Mapping[str, int] | None = None
    source: Callable[[str, int], Example] | None = None
    round_number: int = 0

    @property
    def stage(self) -> str:
        """``round-k/`` and the kind."""
        return f"round-{self.round_number}/{self.kind}"

    @property
    def targets(self) -> Mapping[str, int]:
        """The rows wanted."""
        return super().targets if self.wanted is None else self.wanted

    def request(self, label: str, number: int, index: int) -> Request:
        """Ask for one row."""
        given = self.source(label, number) if self.source else self.given(label, number)
        messages = (Message("user", self.prompt(label, number, given)),)
        request = self.row(messages, label, number, index, self.stage, given, 1)
        # Rounds do not share answers: the same prompt in a later round must give another row.
        replicate = (self.ctx.config.seed * 100 + self.round_number) * _REPLICATES + number
        return replace(request, replicate=replicate, source=given.id or None)
