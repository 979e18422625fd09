"""The proof of an export: on gold rows, the files answer as the student does in PyTorch.

In float32 every answer must be the same. In eight bits answers may differ, and what that costs is measured.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.data import SealedTest
from stepsynth.errors import RunError, UserError
from stepsynth.evaluation.clusters import clusters_of
from stepsynth.evaluation.statistics import PairedResult, paired_difference, plain
from stepsynth.run.existing import open_journal
from stepsynth.runtime.counting import counted
from stepsynth.tasks.scoring import score_of

if TYPE_CHECKING:
    from stepsynth.run import RunDirectory
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Example, Prediction

__all__ = ["MOST_ROWS", "TOLERANCE", "Agreement", "Proof", "check_same", "check_score", "compare", "proof_rows"]

# Two float32 engines differ by about 1e-6; a wrong weight, by far more than this.
TOLERANCE = 1e-4
# Enough to see one point, in seconds.
MOST_ROWS = 2000
_CALIBRATION = 200
_SEED = 0


@dataclass(frozen=True)
class Proof:
    """The rows of a proof.

    Attributes:
        rows: split -> rows on which answers are compared.
        calibration: rows of which an engine takes the ranges of activations; none is among the others, except where a student
            was trained on gold rows alone.
        notes: what is special about them, a sentence each.
    """

    rows: Mapping[str, Sequence[Example]]
    calibration: Sequence[Example]
    notes: tuple[str, ...] = ()

    @property
    def examples(self) -> list[Example]:
        """The rows of all splits."""
        return [row for rows in self.rows.values() for row in rows]


@dataclass(frozen=True)
class Agreement:
    """The answers of an export beside those of PyTorch.

    Attributes:
        rows: number of rows.
        same: of these, the same answer.
        furthest: the largest difference of a probability.
        metric: name of the score.
        torch: PyTorch's score.
        exported: the export's.
        difference: the export's minus PyTorch's on the same rows, with its 95 % interval.
    """

    rows: int
    same: int
    furthest: float
    metric: str
    torch: float
    exported: float
    difference: PairedResult

    @property
    def loss(self) -> float:
        """Points lost, from -100 to 100."""
        return -100 * self.difference.difference + 0.0

    def __str__(self) -> str:
        """The difference in points with its interval, and the rows."""
        low, high = (100 * bound for bound in self.difference.ci95)
        change = f"{100 * self.difference.difference:+.1f} [{low:+.1f}, {high:+.1f}] points of {self.metric}"
        return f"{change} on {counted(self.rows, 'row')}"


def proof_rows(directory: RunDirectory, round_number: int) -> Proof:
    """Return the select rows, or all gold rows where none are set apart, and the test rows if the run has opened them.

    Raises:
        RunError: there is no journal.
    """
    notes: list[str] = []
    with closing(open_journal(directory)) as journal:
        select = journal.gold("select")
        apart = journal.evaluation(round_number, "select") is not None
        rows: dict[str, Sequence[Example]] = {"select": select} if apart else {"gold": [*journal.gold("harvest"), *select]}
        calibration = [row.example for row in journal.dataset()] or journal.gold("harvest")
        sha256 = journal.meta("test_sha256") if journal.stage_done("test") else None
    if not apart:
        notes.append("The student may have learned from the gold rows, so their scores are too high; the difference counts.")
    if sha256 and directory.config.data.test is not None:
        try:
            rows["test"] = _some(SealedTest(directory.config).open(sha256), MOST_ROWS)
        except UserError as error:
            notes.append(f"The test rows were not compared: {error.message}")
    return Proof({split: found for split, found in rows.items() if found}, _some(calibration, _CALIBRATION), tuple(notes))


def compare(
    family: TaskFamily, examples: Sequence[Example], before: Sequence[Prediction], after: Sequence[Prediction]
) -> Agreement:
    """Compare predictions of the same rows.

    Args:
        family: scores them.
        examples: the rows, at least one.
        before: PyTorch's predictions.
        after: the export's.
    """
    scores = [
        [score_of(family, row, prediction) for row, prediction in zip(examples, found, strict=True)] for found in (after, before)
    ]
    pairs = list(zip(before, after, strict=True))
    return Agreement(
        rows=len(examples),
        same=sum((a.label, a.start) == (b.label, b.start) for a, b in pairs),
        furthest=max(_apart(a, b) for a, b in pairs),
        metric=family.metric,
        torch=plain(sum(scores[1]) / len(examples)),
        exported=plain(sum(scores[0]) / len(examples)),
        difference=paired_difference(scores[0], scores[1], _SEED, clusters_of(examples)),
    )


def check_same(found: Agreement, what: str) -> None:
    """Refuse an export in float32 that answers differently from PyTorch.

    Raises:
        RunError: it does.
    """
    if found.same < found.rows or not found.furthest <= TOLERANCE:
        raise RunError(
            f"{what} does not answer as the student does in PyTorch: {found.rows - found.same:,} of {found.rows:,} "
            f"answers differ, and probabilities by up to {found.furthest:.1g} (at most {TOLERANCE:g} is allowed).",
            hint="Nothing was written. Export it in another form; safetensors are the trained files themselves.",
        )


def check_score(found: Agreement, what: str, max_loss: float) -> None:
    """Refuse an export in eight bits that loses too much.

    Args:
        found: the comparison.
        what: the export.
        max_loss: points that it may lose.

    Raises:
        RunError: it does.
    """
    if found.loss > max_loss + 1e-9:
        raise RunError(
            f"{what} loses {found.loss:.1f} points: {found}, and max_loss is {max_loss:g}.",
            hint="Nothing was written. Export it in fp32 or in another form, or allow a larger loss.",
        )


def _apart(a: Prediction, b: Prediction) -> float:
    """Return the largest difference of two predictions' probabilities; of spans, the last candidates may be others."""
    names = a.probabilities.keys() & b.probabilities.keys()
    return max((abs(a.probabilities[name] - b.probabilities[name]) for name in names), default=0.0)


def _some(rows: Sequence[Example], most: int) -> Sequence[Example]:
    """Return at most that many rows, always the same ones."""
    return rows if len(rows) <= most else random.Random(_SEED).sample(list(rows), most)
