"""Cross-fitting: every gold row is judged by a student that learned neither from it nor from rows written from it.

crossfit = CrossFit(student_runner, journal, config, folds)
crossfit.judge(0, "both")  # one training per fold; their predictions are the round's evaluation
crossfit.settle(last=2)  # compare, choose, and train the final students
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepsynth.data.splits import fingerprint
from stepsynth.evaluation.clusters import cluster_sums, clusters_of
from stepsynth.evaluation.statistics import as_matrix
from stepsynth.journal.results import find_choice
from stepsynth.run.stage_titles import STUDENTS, stage_title
from stepsynth.runtime.counting import counted
from stepsynth.students.curve import learning_curve
from stepsynth.training.soft_labels import pseudo_labelled, weighted
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

__all__ = [
    "PREFERRED",
    "RECIPES",
    "SPLIT",
    "CrossFit",
    "Recipe",
    "asks_again",
    "competing",
    "judged_rounds",
    "learns_from_pool",
    "trainings",
]

# Predictions by students on rows that they had not seen.
SPLIT = "crossfit"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A final student's training data.

    Attributes:
        written: whether it learns from written rows.
        gold: whether it learns from gold rows.
        staged: whether it learns first from the other rows, then from gold ones, instead of from all at once.
        pool: whether it learns from texts of the pool, with the labels of a student of its other rows (self-training).
        weighted: whether a written row counts by the probability that a student of gold rows alone gives its label.
    """

    written: bool
    gold: bool
    staged: bool = False
    pool: bool = False
    weighted: bool = False


# A recipe's student has the number of the last round plus the recipe's position here, from 1.
RECIPES: dict[str, Recipe] = {
    "labels": Recipe(written=False, gold=True),
    "written": Recipe(written=True, gold=False),
    "both": Recipe(written=True, gold=True),
    "stages": Recipe(written=True, gold=True, staged=True),
    "pool": Recipe(written=False, gold=True, staged=True, pool=True),
    "all": Recipe(written=True, gold=True, staged=True, pool=True),
    "weighted": Recipe(written=True, gold=True, staged=True, weighted=True),
}
# The first one here that competes is taken, unless another is ahead of it by more than one standard error.
PREFERRED = ("stages", "all", "weighted", "both", "pool", "labels", "written")
# The recipe of the rounds' students: gold rows last, so that bad written rows do less harm.
_OF_ROUNDS = "stages"


def competing(final: str, *, writes: bool = True, pool: bool = False) -> tuple[str, ...]:
    """Return the recipes to judge: labels alone, and those compared with them.

    Args:
        final: ``method.final``.
        writes: whether the run has written rows.
        pool: whether it has texts without labels.
    """
    if final != "auto":
        return tuple(dict.fromkeys(("labels", final)))
    return ("labels", *(["stages"] if writes else []), *(["pool"] if pool else []), *(["all"] if writes and pool else []))


def asks_again(final: str, *, pool: bool) -> bool:
    """Whether students of folds are asked about more rows than those that they judge; see `competing` for the arguments."""
    recipes = [RECIPES[name] for name in competing(final, pool=pool)]
    return any(recipe.pool or recipe.weighted for recipe in recipes)


def learns_from_pool(final: str, *, writes: bool = True) -> bool:
    """Whether a student of a run with a pool may learn from it; see `competing` for the arguments."""
    return any(RECIPES[name].pool for name in competing(final, writes=writes, pool=True))


def trainings(final: str, rounds: int, folds: int, *, writes: bool = True, pool: bool = False) -> int:
    """Return the number of students a run trains.

    One per fold in every round and for every other recipe, plus the final ones; one that learns from a pool, or from weighted
    rows, needs one more, which labels or weighs them. In a fold, students that were judged before do that. The arguments are
    those of `competing`.
    """
    names = competing(final, writes=writes, pool=pool)
    others = [name for name in names if name != _of_rounds(writes=writes)]
    kept = _kept(names, names[-1], writes=writes)
    return folds * (rounds + 1 + len(others)) + len(kept) + sum(RECIPES[name].pool or RECIPES[name].weighted for name in kept)


def _of_rounds(*, writes: bool) -> str:
    return _OF_ROUNDS if writes else "labels"


def _kept(names: Sequence[str], chosen: str, *, writes: bool) -> list[str]:
    """Return the recipes whose students are kept: the judged ones and, for the table, written rows alone and both."""
    kept = {*names, chosen}
    if writes:
        both = [name for name in PREFERRED if RECIPES[name].written and RECIPES[name].gold and not RECIPES[name].pool]
        kept |= {"written", next((name for name in (chosen, *names) if name in both), both[0])}
    return [name for name in RECIPES if name in kept]


def judged_rounds(journal: Journal) -> list[int]:
    """Return the rounds of the loop whose students were judged by cross-fitting."""
    return [
        number
        for _, number, kind, info, _ in journal.stages()
        # Without written rows the only round is the first.
        if kind == StageKind.CROSSFIT and (info["recipe"] == _OF_ROUNDS or not number)
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
        writes: whether the run has written rows.
        pool: texts without labels.
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
        *,
        writes: bool = True,
        pool: Sequence[Example] = (),
    ) -> None:
        self._student_runner = student_runner
        self._journal = journal
        self._config = config
        self._family = family
        self._folds = folds
        self._progress = progress
        self._writes = writes
        self._of_rounds = _of_rounds(writes=writes)
        self._names = competing(config.method.final, writes=writes, pool=bool(pool))
        # No student has to label texts that none learns from.
        self._pool = pool if any(RECIPES[name].pool for name in self._names) else ()
        self._gold = [*journal.gold("harvest"), *journal.gold("select")]

    def scores(self, before: int) -> list[list[float]]:
        """Return the scores of each earlier round, one per gold row."""
        return self._student_runner.scores(before, SPLIT)

    def judge(self, number: int, name: str = "") -> None:
        """Predict every gold row with a student that had not seen it; the predictions are the round's evaluation.

        Each fold is its own stage, so that a stopped run loses at most one training.

        Args:
            number: the round; students learn from its rows and earlier ones.
            name: the recipe; by default that of the rounds.
        """
        stage, name = f"round-{number}/crossfit", name or self._of_rounds
        if self._journal.stage_done(stage):
            return
        every = [(row.example, self._folds.written(row.source, row.context)) for row in self._journal.dataset(number)]
        for fold in range(self._folds.count):
            if not self._journal.stage_done(f"round-{number}/fold-{fold}"):
                self._judge_fold(number, name, fold, [example for example, own in every if own != fold])
        graded = self._journal.graded(number, SPLIT)
        evaluation = self._student_runner.evaluate(self._gold, graded)
        written = [example for example, _ in every] * RECIPES[name].written
        texts = self._texts(written) * RECIPES[name].pool
        info = {
            "rows": len(written) + len(self._gold) * RECIPES[name].gold + len(texts),
            "recipe": name,
            "folds": self._folds.count,
        }
        self._journal.finish_training(stage, number, {SPLIT: (evaluation, [])}, info, 0.0, kind=StageKind.CROSSFIT)
        right = sum(g.score == 1.0 for g in graded)
        self._progress.note(f"{stage_title(stage, StageKind.CROSSFIT, info)}: {right:,} of {len(graded):,} gold rows right.")

    def _judge_fold(self, number: int, name: str, fold: int, others: Sequence[Example]) -> None:
        """Judge one fold; ``others`` are the written rows that do not belong to it."""
        started = time.monotonic()
        stage, recipe = f"round-{number}/fold-{fold}", RECIPES[name]
        rows = list(others) * recipe.written
        gold = [row for row in self._gold if self._folds.gold(row) != fold] if recipe.gold else []
        judged = {place: row for place, row in enumerate(self._gold) if self._folds.gold(row) == fold}
        info: dict[str, Any] = {"fold": fold, "folds": self._folds.count, "recipe": name}
        title = stage_title(stage, StageKind.FOLD, info)
        parts = self._parts(recipe, rows, gold, title)
        found = self._student_runner.judge_aside(parts, list(judged.values()), title, self._asked_later(name, others))
        graded = dict(zip(judged, found, strict=True))
        info["rows"] = sum(map(len, parts))
        self._journal.finish_fold(stage, number, SPLIT, graded, info, time.monotonic() - started)
        right = sum(g.score == 1.0 for g in graded.values())
        self._progress.finish(
            f"trained on {counted(info['rows'], 'row')}: {right:,} of {counted(len(graded), 'row')} of this fold right"
        )

    def _asked_later(self, name: str, others: Sequence[Example]) -> list[Sequence[Example]]:
        """Return what later recipes will ask a fold's student about: texts to label, written rows to weigh."""
        recipe = RECIPES[name]
        if recipe.pool or recipe.weighted:
            return []
        weighs = name == "labels" and any(RECIPES[other].weighted for other in self._names)
        return [self._texts(others if recipe.written else []), others if weighs else []]

    def _parts(self, recipe: Recipe, written: Sequence[Example], gold: Sequence[Example], title: str) -> list[Sequence[Example]]:
        """Return the rows to learn from, one part after the other.

        Texts of the pool get the labels of a student that learned from just these rows, and written rows the weights of one that
        learned from just these gold rows: neither has seen the fold that is judged.
        """
        if not recipe.staged:
            return [[*written, *gold]]
        if recipe.weighted and written:
            said = self._student_runner.predict_aside([gold], written, title)
            written = weighted(self._family, written, said, gold)
        if not recipe.pool:
            return [written, gold]
        texts = self._texts(written)
        labels = self._student_runner.predict_aside([written, gold], texts, title) if texts else []
        return [[*written, *pseudo_labelled(self._config.method.pool_labels, self._family, texts, labels, gold)], gold]

    def _texts(self, written: Sequence[Example]) -> list[Example]:
        """Return the pool's texts without those that the teacher has labelled."""
        known = {fingerprint(row) for row in written}
        return [row for row in self._pool if fingerprint(row) not in known]

    def settle(self, last: int) -> None:
        """Choose the final student's recipe, and train it and the students it is compared with.

        Args:
            last: the last round with rows.
        """
        names, writes = self._names, self._writes
        if writes and self._config.method.final == "auto" and not self._journal.dataset(last):
            # No row was kept: recipes with written rows would be those without.
            names, writes = tuple(name for name in names if not RECIPES[name].written), False
        for name in names:
            if name != self._of_rounds:
                self.judge(_number(last, name), name)
        chosen = self._choose(last, names)
        # The chosen one first: once a student is kept, a run that is stopped has its final student.
        for name in sorted(_kept(names, chosen, writes=writes), key=lambda name: name != chosen):
            self._keep(last, name, needed=name == chosen)
        self._student_runner.clear_aside()

    def _choose(self, last: int, names: Sequence[str]) -> str:
        """Choose a recipe by gold rows right out of fold, or by the score if a family gives partial scores.

        With few gold rows chance matters, so the recipe that is expected to be best, the first in `PREFERRED`, is taken unless
        another leads by more than one standard error of the paired difference (the one-standard-error rule: Breiman et al. 1984,
        section 3.4.3); of several that do, the best. Labels alone must lead the next best in the same way.
        """
        final = self._config.method.final
        if not self._journal.stage_done(StageKind.CHOICE):
            started = time.monotonic()
            # The rounds' recipe has been judged in any case.
            judged = dict.fromkeys((*names, self._of_rounds))
            numbers = {name: last if name == self._of_rounds else _number(last, name) for name in judged}
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
            why = "by gold rows right in cross-validation"
            if final != "auto":
                why = "as set in method.final"
            elif len(names) == 1:
                why = "since no row was kept"
            elif right.get(chosen, 0) < max(right.values()):
                why += ", where differences within one standard error do not count"
            found = ", ".join(f"{STUDENTS[n]} {count:,}" for n, count in right.items())
            self._progress.note(f"The final student learns from {STUDENTS[chosen]}, {why} ({found} of {len(self._gold):,}).")
        return str((find_choice(self._journal) or {})["chosen"])

    def _best(self, numbers: Mapping[str, int], names: Sequence[str]) -> str:
        scores = {name: [g.score for g in self._journal.graded(numbers[name], SPLIT)] for name in names}
        first, *others = sorted(names, key=PREFERRED.index)

        def leads(name: str, other: str) -> bool:
            # If rows are only right or wrong and share no context, this is the number that exactly one of them got right.
            differences = as_matrix([scores[name]]) - as_matrix([scores[other]])
            apart = float((cluster_sums(differences, clusters_of(self._gold)) ** 2).sum())
            return sum(scores[name]) - sum(scores[other]) > math.sqrt(apart)

        ahead = sorted((name for name in others if leads(name, first)), key=lambda name: -sum(scores[name]))
        # Labels alone discard everything else, so they must lead the next one, too.
        if ahead[:1] == ["labels"] and len(ahead) > 1 and not leads("labels", ahead[1]):
            return ahead[1]
        return ahead[0] if ahead else first

    def _keep(self, last: int, name: str, *, needed: bool) -> None:
        recipe, written = RECIPES[name], [row.example for row in self._journal.dataset(last)]
        hopeless = not written or (bool(self._config.task.labels) and len({row.label for row in written}) < 2)
        if name == "written" and hopeless and not needed:
            return
        written, gold = written * recipe.written, self._gold * recipe.gold
        number = _number(last, name)
        title = stage_title(f"round-{number}/train", StageKind.TRAIN, {"student": name})
        self._student_runner.keep(name, number, lambda: self._parts(recipe, written, gold, title))


def _number(last: int, name: str) -> int:
    return last + 1 + list(RECIPES).index(name)
