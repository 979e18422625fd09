"""What a journal tells: rows as they ended, what a stage took, and what a whole run did."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepsynth.journal.database import decoded
from stepsynth.types import Example, Span

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Row", "Spent", "Totals"]


@dataclass(frozen=True, slots=True)
class Row:
    """One planned row as it ended: accepted, or dropped for a reason.

    Attributes:
        stage: stage that asked for it.
        round: round of that stage.
        kind: ``rationales``, ``import``, ``seed``, ``zerogen`` or ``extrapolate``.
        position: place in the stage's plan.
        key: key of the answer it was parsed from.
        label: the asked label.
        source: id of the mistake it was written from, if any.
        text: the text after hygiene (as far as hygiene got).
        reason: empty when accepted.
        context: the text that the row keeps, if any.
        answer: the answer that the question was written for, if any.
    """

    stage: str
    round: int
    kind: str
    position: int
    key: str
    label: str
    source: str | None
    text: str
    reason: str
    context: str = ""
    answer: Span | None = None

    @classmethod
    def read(cls, *kept: Any) -> Row:
        """Return a row from how the journal keeps it, in the order of the attributes."""
        stage, number, kind, position, key, label, source, text, reason, context, answer = kept
        span = next((Span(*found) for found in json.loads(decoded(answer))), None)
        return cls(stage, number, kind, position, key, label, source, decoded(text), reason, decoded(context), span)

    @property
    def example(self) -> Example:
        """The row as training data."""
        answers = (self.answer,) if self.answer else ()
        return Example(f"{self.stage}/{self.position}", self.text, self.label, self.context, answers)


@dataclass(frozen=True, slots=True)
class Spent:
    """What the answers of a stage's plan took, whether they were bought by this run or known before.

    Attributes:
        requests: answers.
        tokens: prompt and completion tokens.
        usd: dollars, ``None`` when any price is unknown.
    """

    requests: int
    tokens: int
    usd: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """What a run's answers took, counted once per answer, and what was sent for them.

    Attributes:
        requests: answers in the journal.
        from_cache: of these, taken from another run's answers.
        prompt_tokens: tokens read by the teacher.
        completion_tokens: tokens written by the teacher.
        cost_usd: dollars, ``None`` when any answer's price is unknown.
        bought_tokens: of both kinds of tokens, those that this run asked for itself.
        attempts: requests sent, failed attempts and all processes included.
        failures: failed attempts by kind, see `stepsynth.errors.TeacherError`.
        maybe_billed_twice: requests sent again although an earlier attempt may have been billed.
        unsettled: of the attempts, those that a killed process may have sent: nobody can tell afterwards.
    """

    requests: int
    from_cache: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    bought_tokens: int = 0
    attempts: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    maybe_billed_twice: int = 0
    unsettled: int = 0
