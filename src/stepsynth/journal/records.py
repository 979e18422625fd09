"""Records read from a journal: rows with their outcome, the cost of a stage, and the totals of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepsynth.journal.database import decoded
from stepsynth.types import GeneratedRow, Span

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SELECT_ROWS", "Row", "Spent", "Totals"]

# Columns in the order of `Row.read`.
SELECT_ROWS = (
    "SELECT r.stage, s.round, s.kind, r.position, r.key, r.label, r.source, r.text, r.reason, r.context, r.answer"
    " FROM rows r JOIN stages s ON s.name = r.stage"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(GeneratedRow):
    """One planned row with its outcome: accepted, or dropped for a reason; its text is as the filters left it.

    Attributes:
        round: round of its stage.
        kind: kind of its stage, see `stepsynth.types.StageKind`.
        reason: empty if accepted, otherwise see `stepsynth.types.Verdict`.
    """

    round: int
    kind: str
    reason: str

    @classmethod
    def read(cls, *kept: Any) -> Row:
        """Make a row from the journal's columns, see `SELECT_ROWS`."""
        stage, number, kind, position, key, label, source, text, reason, context, answer = kept
        span = next((Span(*found) for found in json.loads(decoded(answer))), None)
        written = (stage, position, key, label, source, decoded(text), decoded(context), span)
        return cls(*written, round=number, kind=kind, reason=reason)


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of the answers of a stage's plan, bought by this run or already known.

    Attributes:
        requests: answers.
        tokens: prompt and completion tokens.
        usd: dollars, ``None`` if any price is unknown.
    """

    requests: int
    tokens: int
    usd: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """The cost of a run's answers, each counted once, and the requests sent for them.

    Attributes:
        requests: answers in the journal.
        from_cache: of these, taken from another run's answers.
        prompt_tokens: tokens read by the teacher.
        completion_tokens: tokens written by the teacher.
        cost_usd: dollars, ``None`` if any answer's price is unknown.
        bought_tokens: tokens of both kinds in answers that this run requested itself.
        attempts: requests sent by all processes, including failed attempts.
        failures: failed attempts by kind, see `stepsynth.errors.TeacherError`.
        maybe_billed_twice: requests sent again although an earlier attempt may have been billed.
        unsettled: attempts that a killed process may or may not have sent; included in ``attempts``.
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
