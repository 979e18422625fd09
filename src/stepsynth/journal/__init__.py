"""The journal: what was asked, answered, accepted, trained and scored, durable before it is used."""

from __future__ import annotations

from stepsynth.journal.answers import AnswerStore
from stepsynth.journal.runs import Journal, Row, Spent, Totals

__all__ = ["AnswerStore", "Journal", "Row", "Spent", "Totals"]
