"""Rows from prompts that a method of the user's writes itself."""

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
    """Asks for rows with a prompt of one's own.

    Attributes:
        ctx: what the method may look at.
        prompt: returns what the teacher is asked for the ``number``-th row of a label: ``prompt(label, number, given)``.
            ``given`` is the gold row from `source`; without one it holds the context and the answer that the row keeps, where
            the family has such. The same arguments give the same text; what is drawn is drawn with `stepsynth.methods.rng_for`.
        kind: a word for the stage's name and for tables.
        wanted: label -> accepted rows wanted; ``method.seed_rows``, spread as the family says, when absent.
        source: returns the gold row of ``ctx.harvest`` that the ``number``-th row of a label is written like; the new row
            keeps its context and its answer, and tables show it beside.
        round_number: of the data that is written.

    Example:
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
        # Rounds do not share answers: the same prompt in a later round asks for another row.
        replicate = (self.ctx.config.seed * 100 + self.round_number) * _REPLICATES + number
        return replace(request, replicate=replicate, source=given.id or None)
