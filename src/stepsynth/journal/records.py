"""What a journal tells: rows as they ended, what a stage took, and what a whole run did."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepsynth.journal.database import decoded
from stepsynth.types import GeneratedRow, Span

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SELECT_ROWS", "Row", "Spent", "Totals"]

# Columns in the order in which `Row.read` takes them.
SELECT_ROWS = (
    "SELECT r.stage, s.round, s.kind, r.position, r.key, r.label, r.source, r.text, r.reason, r.context, r.answer"
    " FROM rows r JOIN stages s ON s.name = r.stage"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(GeneratedRow):
    """One planned row as it ended: accepted, or dropped for a reason; its text as the filters left it.

    Attributes:
        round: round of its stage.
        kind: kind of its stage, see `stepsynth.types.StageKind`.
        reason: empty when accepted, else see `stepsynth.types.Verdict`.
    """

    round: int
    kind: str
    reason: str

    @classmethod
    def read(cls, *kept: Any) -> Row:
        """Return a row from how the journal keeps it, see `SELECT_ROWS`."""
        stage, number, kind, position, key, label, source, text, reason, context, answer = kept
        span = next((Span(*found) for found in json.loads(decoded(answer))), None)
        written = (stage, position, key, label, source, decoded(text), decoded(context), span)
        return cls(*written, round=number, kind=kind, reason=reason)


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
