"""Cross-fitting: every gold row is judged by a student that learnt neither from it nor from rows written from it.

crossfit = CrossFit(student_runner, journal, config, folds)
crossfit.judge(0, "both")  # one training per fold; their predictions are the round's evaluation
crossfit.settle(last=2)  # compare, choose, and train the final students
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepsynth.evaluation.clusters import cluster_sums, clusters_of
from stepsynth.evaluation.statistics import as_matrix
from stepsynth.journal.results import find_choice
from stepsynth.students.curve import learning_curve
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.data import Folds
    from stepsynth.journal import Journal
    from stepsynth.runtime.progress import Progress
    from stepsynth.tasks import TaskFamily
    from stepsynth.training.runner import StudentRunner
    from stepsynth.types import Example

__all__ = ["PREFERRED", "RECIPES", "SPLIT", "CrossFit", "Recipe", "competing", "judged_rounds", "trainings"]

# Predictions by students on rows that they had not seen.
SPLIT = "crossfit"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A final student's training data.

    Attributes:
        written: whether it learns from written rows.
        gold: whether it learns from gold rows.
        staged: whether it learns first from written rows, then from gold ones, instead of both at once.
    """

    written: bool
    gold: bool
    staged: bool = False


# A recipe's student has the number of the last round plus the recipe's position here, from 1.
RECIPES: dict[str, Recipe] = {
    "labels": Recipe(written=False, gold=True),
    "written": Recipe(written=True, gold=False),
    "both": Recipe(written=True, gold=True),
    "stages": Recipe(written=True, gold=True, staged=True),
}
# Ties between recipes go to the first one here.
PREFERRED = ("stages", "both", "labels", "written")
# The recipe of the rounds' students: gold rows last, so that bad written rows do less harm.
_OF_ROUNDS = "stages"
_AUTO = ("labels", _OF_ROUNDS)


def competing(final: str) -> tuple[str, ...]:
    """Return the recipes to judge: labels alone, and the one compared with them."""
    return _AUTO if final == "auto" else tuple(dict.fromkeys(("labels", final)))


def trainings(final: str, rounds: int, folds: int) -> int:
    """Return the number of students a run trains: one per fold in every round and for every other recipe, plus the final ones."""
    others = [name for name in competing(final) if name != _OF_ROUNDS]
    return folds * (rounds + 1 + len(others)) + 3


def judged_rounds(journal: Journal) -> list[int]:
    """Return the rounds of the loop whose students were judged by cross-fitting."""
    return [
        number for _, number, kind, info, _ in journal.stages() if kind == StageKind.CROSSFIT and info["recipe"] == _OF_ROUNDS
    ]


class CrossFit:
    """Judges recipes out of fold, and trains the final students.

    Args:
        student_runner: trains and grades.
        journal: the source of rows and store of predictions.
        config: the run's config.
        family: the task's family.
        folds: which fold a row belongs to.
        progress: told about the choice.
    """

    no_gain = "No gain in cross-validation for two rounds in a row: the loop ends here."
    no_mistakes = "The student got no gold row wrong: the loop ends here."

    def __init__(
        self,
        student_runner: StudentRunner,
        journal: Journal,
        config: RunConfig,
        family: TaskFamily,
        folds: Folds,
        progress: Progress,
    ) -> None:
        self._student_runner = student_runner
        self._journal = journal
        self._config = config
        self._family = family
        self._folds = folds
        self._progress = progress
        self._gold = [*journal.gold("harvest"), *journal.gold("select")]

    def scores(self, before: int) -> list[list[float]]:
        """Return the scores of each earlier round, one per gold row."""
        return self._student_runner.scores(before, SPLIT)

    def judge(self, number: int, name: str = _OF_ROUNDS) -> None:
        """Predict every gold row with a student that had not seen it; the predictions are the round's evaluation.

        Each fold is its own stage, so that a stopped run loses at most one training.

        Args:
            number: the round; students learn from its rows and earlier ones.
            name: the recipe.
        """
        stage = f"round-{number}/crossfit"
        if self._journal.stage_done(stage):
            return
        written = [
            (row.example, self._folds.written(row.source, row.context)) for row in self._journal.dataset(number)
        ] * RECIPES[name].written
        for fold in range(self._folds.count):
            if not self._journal.stage_done(f"round-{number}/fold-{fold}"):
                self._judge_fold(number, name, fold, written)
        graded = self._journal.graded(number, SPLIT)
        evaluation = self._student_runner.evaluate(self._gold, graded)
        info = {"rows": len(written) + len(self._gold) * RECIPES[name].gold, "recipe": name, "folds": self._folds.count}
        self._journal.finish_training(stage, number, {SPLIT: (evaluation, [])}, info, 0.0, kind=StageKind.CROSSFIT)
        right = sum(g.score == 1.0 for g in graded)
        self._progress.note(f"{stage}, {_CALLED[name]}: {right:,} of {len(graded):,} gold rows right in cross-validation.")

    def _judge_fold(self, number: int, name: str, fold: int, written: Sequence[tuple[Example, int | None]]) -> None:
        started = time.monotonic()
        stage, recipe = f"round-{number}/fold-{fold}", RECIPES[name]
        rows = [example for example, own in written if own != fold]
        gold = [row for row in self._gold if self._folds.gold(row) != fold] if recipe.gold else []
        judged = {place: row for place, row in enumerate(self._gold) if self._folds.gold(row) == fold}
        parts = [rows, gold] if recipe.staged else [[*rows, *gold]]
        graded = dict(zip(judged, self._student_runner.judge_aside(parts, list(judged.values()), stage), strict=True))
        info = {"rows": len(rows) + len(gold), "fold": fold}
        self._journal.finish_fold(stage, number, SPLIT, graded, info, time.monotonic() - started)
        right = sum(g.score == 1.0 for g in graded.values())
        self._progress.finish(f"trained on {info['rows']:,} rows: {right:,} of {len(graded):,} rows of this fold right")

    def settle(self, last: int) -> None:
        """Choose the final student's recipe, and train it and the students it is compared with.

        Args:
            last: the last round with rows.
        """
        names = competing(self._config.method.final)
        for name in names:
            if name != _OF_ROUNDS:
                self.judge(_number(last, name), name)
        chosen = self._choose(last, names)
        # The final table compares labels alone, written rows alone and a combination of both.
        combined = next((name for name in (chosen, *PREFERRED) if RECIPES[name].written and RECIPES[name].gold), chosen)
        for name in RECIPES:
            if name in ("labels", "written", combined, chosen):
                self._keep(last, name, needed=name == chosen)

    def _choose(self, last: int, names: Sequence[str]) -> str:
        """Choose the recipe with the most gold rows right out of fold, or the highest score if a family gives partial scores.

        With few gold rows chance matters, so labels alone must lead by more than one standard error of the paired
        difference (the one-standard-error rule: Breiman et al. 1984, section 3.4.3); for ties see `PREFERRED`.
        """
        final = self._config.method.final
        if not self._journal.stage_done(StageKind.CHOICE):
            started = time.monotonic()
            # The rounds' recipe has been judged in any case.
            judged = dict.fromkeys((*names, _OF_ROUNDS))
            numbers = {name: last if name == _OF_ROUNDS else _number(last, name) for name in judged}
            right = {n: sum(g.score == 1.0 for g in self._journal.graded(number, SPLIT)) for n, number in numbers.items()}
            chosen = self._best(numbers, names) if final == "auto" else final
            info = {
                "chosen": chosen,
                "right": right,
                "of": len(self._gold),
                "judged": numbers,
                "curve": learning_curve(self._config.student, self._family, self._gold, self._folds.gold),
            }
            self._journal.finish_training(StageKind.CHOICE, last + 1, {}, info, time.monotonic() - started, kind=StageKind.CHOICE)
            why = "as set in method.final" if final != "auto" else "by gold rows right in cross-validation"
            if right.get(chosen, 0) < max(right.values()):
                why += ", where differences within one standard error do not count"
            found = ", ".join(f"{_CALLED[n]} {count:,}" for n, count in right.items())
            self._progress.note(f"The final student learns from {_CALLED[chosen]}, {why} ({found} of {len(self._gold):,}).")
        return str((find_choice(self._journal) or {})["chosen"])

    def _best(self, numbers: Mapping[str, int], names: Sequence[str]) -> str:
        scores = {name: [g.score for g in self._journal.graded(numbers[name], SPLIT)] for name in names}
        found = max(sorted(names, key=PREFERRED.index), key=lambda name: sum(scores[name]))
        if found != "labels":
            return found
        other = max((name for name in sorted(names, key=PREFERRED.index) if name != found), key=lambda name: sum(scores[name]))
        # If rows are only right or wrong and share no context, this is the number that exactly one of them got right.
        differences = as_matrix([scores[found]]) - as_matrix([scores[other]])
        apart = float((cluster_sums(differences, clusters_of(self._gold)) ** 2).sum())
        return found if sum(scores[found]) - sum(scores[other]) > math.sqrt(apart) else other

    def _keep(self, last: int, name: str, *, needed: bool) -> None:
        recipe, written = RECIPES[name], [row.example for row in self._journal.dataset(last)]
        hopeless = not written or (bool(self._config.task.labels) and len({row.label for row in written}) < 2)
        if name == "written" and hopeless and not needed:
            return
        written, gold = written * recipe.written, self._gold * recipe.gold
        self._student_runner.keep(name, _number(last, name), [written, gold] if recipe.staged else [[*written, *gold]])


_CALLED = {"labels": "labels alone", "written": "written rows alone", "both": "both", "stages": "both in two stages"}


def _number(last: int, name: str) -> int:
    return last + 1 + list(RECIPES).index(name)
