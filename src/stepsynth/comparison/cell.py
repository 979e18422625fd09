"""One method with one seed: what its finished run came to."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stepsynth.errors import RunError
from stepsynth.journal import LEARNING, Journal, Spent
from stepsynth.journal.queries import count_rows
from stepsynth.journal.results import best_round, find_clusters
from stepsynth.methods import trains_on
from stepsynth.run import RunDirectory
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stepsynth.evaluation.clusters import Clusters
    from stepsynth.journal import Totals

__all__ = ["Cell", "CellRound", "read_cell"]


@dataclass(frozen=True)
class CellRound:
    """A round of one cell.

    Attributes:
        number: the round's number.
        rows: rows that its student learned from.
        harvest: score per harvest row.
        select: score per select row.
        test: score per test row.
    """

    number: int
    rows: int
    harvest: tuple[float, ...]
    select: tuple[float, ...]
    test: tuple[float, ...]


@dataclass(frozen=True)
class Cell:
    """The result of one system with one seed.

    Attributes:
        system: the system's name.
        seed: seed of the draw, the teacher and the student.
        folder: its run directory.
        metric: name of the score.
        rows: rows that the tested student learned from.
        spent_rows: accepted rows in all rounds.
        requests: answers used, bought or already known.
        tokens: prompt and completion tokens of these answers.
        usd: dollars of these answers, ``None`` if unknown.
        seconds: measured seconds of all stages, for ``generating``, ``training`` and ``testing``; cached
            answers and students that another cell trained take almost none.
        best_round: the round chosen by the select half.
        rounds: all rounds.
        latency_s: seconds per 1,000 predictions on this machine, ``None`` if all answers were known.
        answer_usd: dollars per 1,000 predictions; 0 for a student.
        details: further numbers of the test evaluation (F1 and the like).
        clusters: split -> cluster of each row (`stepsynth.evaluation.clusters`), for ``harvest``, ``select`` and ``test``.
        steps: optimiser steps of the tested student; ``None`` if there is no student or an earlier version trained it.
    """

    system: str
    seed: int
    folder: Path
    metric: str
    rows: int
    spent_rows: int
    requests: int
    tokens: int
    usd: float | None
    seconds: dict[str, float]
    best_round: int
    rounds: tuple[CellRound, ...]
    latency_s: float | None = None
    answer_usd: float | None = 0.0
    details: dict[str, float] = field(default_factory=dict)
    steps: int | None = None
    clusters: dict[str, Clusters] = field(default_factory=dict)

    @property
    def test(self) -> tuple[float, ...]:
        """Score per test row of the chosen round."""
        return next(entry.test for entry in self.rounds if entry.number == self.best_round)


def read_cell(folder: Path, system: str) -> Cell:
    """Read the result of a finished run.

    Raises:
        RunError: it is not finished, or has no test scores.
    """
    directory = RunDirectory.read(folder)
    with closing(Journal(directory.journal_path)) as journal:
        rounds = journal.rounds()
        best = best_round(journal) if rounds else 0
        evaluation = journal.evaluation(best, "test")
        if evaluation is None:
            raise RunError(f"the run at {str(folder)!r} is not finished.", hint="Run it again.")
        stages = journal.stages()
        trained = {number: int(info["rows"]) for _, number, kind, info, _ in stages if kind == StageKind.TRAIN}
        steps = {number: info.get("steps") for _, number, kind, info, _ in stages if kind == StageKind.TRAIN}
        totals = journal.totals()
        test_info = next(info for _, _, kind, info, _ in stages if kind == StageKind.TEST)
        predicted = float(test_info["seconds"].get(str(best), 0.0))
        asks = trains_on(directory.config, journal) == "none"
        known = totals.from_cache > 0 if asks else False
        spent = _spent(journal, totals, [name for name, _, kind, *_ in stages if kind not in LEARNING])
        return Cell(
            system=system,
            seed=directory.config.seed,
            folder=folder,
            metric=evaluation.metric,
            rows=trained[best],
            spent_rows=sum(count.rows for count in count_rows(journal) if count.in_dataset),
            requests=spent.requests,
            tokens=spent.tokens,
            usd=spent.usd,
            seconds=_seconds(stages),
            best_round=best,
            rounds=tuple(
                CellRound(n, trained[n], *(_scores(journal, n, s) for s in ("harvest", "select", "test"))) for n in rounds
            ),
            latency_s=None if known else 1000 * predicted / evaluation.n,
            answer_usd=_per_thousand(totals.cost_usd, totals.requests) if asks else 0.0,
            details={key: value for key, value in evaluation.details.items() if isinstance(value, float)},
            steps=steps[best],
            clusters={split: find_clusters(journal, split) for split in ("harvest", "select", "test")},
        )


def _seconds(stages: Sequence[tuple[str, int, str, dict[str, Any], float]]) -> dict[str, float]:
    found = {"generating": 0.0, "training": 0.0, "testing": 0.0}
    for _, _, kind, _, seconds in stages:
        found["testing" if kind == StageKind.TEST else "training" if kind in LEARNING else "generating"] += seconds
    return found


def _spent(journal: Journal, totals: Totals, stages: Sequence[str]) -> Spent:
    """Return the cost of the answers in a run's plan, without those of a matched run's last wave that gave no rows."""
    if not stages:
        return Spent(totals.requests, totals.prompt_tokens + totals.completion_tokens, totals.cost_usd)
    parts = [journal.spent(stage) for stage in stages]
    known = [part.usd for part in parts if part.usd is not None]
    usd = sum(known) if len(known) == len(parts) else None
    return Spent(sum(part.requests for part in parts), sum(part.tokens for part in parts), usd)


def _scores(journal: Journal, number: int, split: str) -> tuple[float, ...]:
    return tuple(graded.score for graded in journal.graded(number, split))


def _per_thousand(usd: float | None, answers: int) -> float | None:
    return None if usd is None or not answers else 1000 * usd / answers
