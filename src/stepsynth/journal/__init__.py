"""The journal: requests, answers, rows, trainings and scores, all made durable before they are used."""

from __future__ import annotations

from stepsynth.journal.answers import AnswerStore
from stepsynth.journal.jobs import Job, JobStore
from stepsynth.journal.ledger import Cost, Ledger
from stepsynth.journal.records import Row, Spent, Totals
from stepsynth.journal.runs import LEARNING, Journal, extent, holds_nothing

__all__ = [
    "LEARNING",
    "AnswerStore",
    "Cost",
    "Job",
    "JobStore",
    "Journal",
    "Ledger",
    "Row",
    "Spent",
    "Totals",
    "extent",
    "holds_nothing",
]
