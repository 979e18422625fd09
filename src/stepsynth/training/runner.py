"""Trains students, scores them on gold rows, and finally tests them on the sealed set."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from stepsynth.errors import RunError
from stepsynth.evaluation.artefact import artefact_probe
from stepsynth.evaluation.clusters import clusters_of
from stepsynth.filters.leakage import ContaminationFilter
from stepsynth.filters.normalise import normalize_for_match
from stepsynth.journal.queries import count_rows, dataset_sample, each_training_row, repeated_answer
from stepsynth.journal.results import best_round, find_choice
from stepsynth.methods.seed import REPEATED_HINT
from stepsynth.run.stage_titles import stage_title
from stepsynth.runtime.counting import counted
from stepsynth.runtime.files import disk_errors
from stepsynth.runtime.shutdown import check_stop
from stepsynth.tasks import stored_family
from stepsynth.tasks.guarding import guard_own
from stepsynth.tasks.scoring import score_of
from stepsynth.training.asides import Asides
from stepsynth.training.fitting import Fitter, taken
from stepsynth.training.together import Together
from stepsynth.training.workers.wire import recipes
from stepsynth.types import DropReason, Graded, Prediction, StageKind, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal
    from stepsynth.run import RunDirectory
    from stepsynth.run.data import RunData
    from stepsynth.runtime.progress import Progress
    from stepsynth.students import Model, Student
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Evaluation, Example

__all__ = ["StudentRunner", "artefacts"]

_OTHER_ADVICE = "`stepsynth status` says why rows were dropped; describe the labels better, or use a stronger teacher."
_ADVICE: dict[str, str] = {
    DropReason.TRUNCATED: "Raise sampling.max_tokens, or teacher.reasoning_tokens for a reasoning model.",
    DropReason.FAILED: "The server did not answer {failed:,} of {total:,} requests: check with `stepsynth plan`.",
    DropReason.TOO_LONG: "Answers are longer than the gold texts allow: ask for shorter ones, or give longer gold rows.",
    DropReason.REFUSAL: "The provider refuses: reword task.instruction and task.labels, or use another teacher.",
}
# Fixed, so that a page always has the same folds of the probe.
_SEED = 0


def artefacts(journal: Journal, config: RunConfig) -> list[str]:
    """Report shallow cues that give away the labels of written rows more than those of gold rows.

    Args:
        journal: has both; large data sets are sampled.
        config: the run's config.
    """
    written = [row.example for row in dataset_sample(journal)]
    gold = [*journal.gold("harvest"), *journal.gold("select")]
    return [probe.message for probe in artefact_probe(written, gold, stored_family(config.task).texts, _SEED) if probe.flagged]


class StudentRunner:
    """Trains, scores and finally tests students.

    Args:
        directory: where models are kept.
        journal: the source of rows and store of scores.
        family: scores predictions.
        student: the recipe.
        progress: told about steps.
        shared: a folder of trained students, named by a digest of their training data, or ``None``.
        staged: the recipe for each of two consecutive trainings; ``student`` by default.
        asks_again: whether temporary students are asked about more rows later, as with a pool.
        together: what it shares with other runs that go on at the same time.
    """

    def __init__(
        self,
        directory: RunDirectory,
        journal: Journal,
        family: TaskFamily,
        student: Student,
        progress: Progress,
        shared: Path | None = None,
        staged: Student | None = None,
        *,
        asks_again: bool = False,
        together: Together | None = None,
    ) -> None:
        self._directory = directory
        self._journal = journal
        self._family = family
        self._student = student
        self._progress = progress
        self._shared = shared
        self._asides = Asides(shared or (directory.path / "models" / ".aside" if asks_again else None))
        self._once = (together or Together()).once
        self._fitter = Fitter(directory, self._recipes, progress, together.workers if together else None)
        self._given = student, staged or student

    def _recipes(self, config: RunConfig) -> tuple[Student, Student]:
        """Return the run's student and that of each of several trainings, or those of another config."""
        return self._given if config is self._directory.config else recipes(config)

    def scores(self, before: int, split: str = "select") -> list[list[float]]:
        """Return the scores of each earlier round's student, one per row of a split.

        Later rounds are left out, so that a resumed run decides as it did the first time.
        """
        return [[g.score for g in self._journal.graded(number, split)] for number in range(before)]

    def train(self, round_number: int, *, gold: bool = False) -> None:
        """Train a round's student from scratch and store its predictions on both halves.

        Args:
            round_number: it learns from the rows of all rounds up to this one.
            gold: whether it also learns from the validation rows; then they cannot judge it.
        """
        stage = f"round-{round_number}/train"
        done = self._journal.stage_done(stage)
        if done and self._directory.model_whole(round_number):
            return
        check_stop()
        started = time.monotonic()
        rows = [row.example for row in self._journal.dataset(round_number)]
        select = self._journal.gold("select")
        if gold:
            rows, select = [*rows, *self._journal.gold("harvest"), *select], []
        halves = {} if gold else {split: self._journal.gold(split) for split in ("harvest", "select")}
        model = self._fit(
            round_number, [rows], select, stage_title(stage, StageKind.TRAIN), [] if done else list(halves.values())
        )
        if done:
            return
        results = {split: self._grade(model, rows) for split, rows in halves.items()}
        if self._directory.config.method.mistakes_of and not gold:
            results["harvest-other"] = self._graded_by_other(rows, select, halves["harvest"])
        # A user's own student may not count steps.
        steps = getattr(model, "steps", None)
        info: dict[str, Any] = {"rows": len(rows)} if steps is None else {"rows": len(rows), "steps": steps}
        self._journal.finish_training(stage, round_number, results, info, time.monotonic() - started)
        self._tell(f"trained on {counted(len(rows), 'row')}", results)

    def keep(self, name: str, number: int, learned_from: Callable[[], Sequence[Sequence[Example]]]) -> None:
        """Train and keep a student that gold rows do not judge.

        Args:
            name: its name.
            number: its round.
            learned_from: returns its training data, one part after the other; empty parts are skipped.
        """
        stage = f"round-{number}/train"
        done = self._journal.stage_done(stage)
        if done and self._directory.model_whole(number):
            return
        check_stop()
        started = time.monotonic()
        parts = learned_from()
        model = self._fit(number, parts, [], stage_title(stage, StageKind.TRAIN, {"student": name}))
        if done:
            return
        rows = sum(map(len, parts))
        info = {"rows": rows, "student": name, **steps_of(model)}
        self._journal.finish_training(stage, number, {}, info, time.monotonic() - started)
        self._progress.finish(f"trained on {counted(rows, 'row')}")

    def ask(self, number: int, rows: Sequence[Example]) -> list[Prediction]:
        """Return a kept student's predictions; ``number`` is its round."""
        return list(self._fitter.saved(self._directory.model_path(number), [rows]).predict(rows))

    def judge_aside(
        self, parts: Sequence[Sequence[Example]], judged: Sequence[Example], title: str, also: Sequence[Sequence[Example]] = ()
    ) -> list[Graded]:
        """Train a temporary student and return its graded predictions; the arguments are those of `predict_aside`."""
        return self._graded(judged, self.predict_aside(parts, judged, title, also))

    def predict_aside(
        self, parts: Sequence[Sequence[Example]], rows: Sequence[Example], title: str, also: Sequence[Sequence[Example]] = ()
    ) -> Sequence[Prediction]:
        """Train a temporary student and return its predictions.

        Args:
            parts: rows to learn from, one part after the other; empty parts are skipped.
            rows: rows that it has not seen.
            title: what is shown meanwhile.
            also: lists of rows about which the same student will be asked later; then it is not trained again.
        """
        check_stop()
        parts = self._trainings(parts)
        identity = self._identity_aside(parts, rows)
        # Another cell may be training this very student.
        with self._once.alone(identity):
            if (known := self._asides.find(identity, rows)) is not None:
                self._known(title)
                return known
            if not parts:
                self._refuse_hopeless([])
            asked = [each for each in (*also, rows) if each]
            found = self._fitter.aside(parts, [], asked, title, name="fold")
            for each, predictions in zip(asked, found, strict=True):
                self._asides.keep(self._identity_aside(parts, each), predictions)
        return found[-1]

    def _known(self, title: str) -> None:
        """Show that a student is not trained, since it is there: the line at its end would have another one's title."""
        self._progress.start(title, 1, "students")
        self._progress.advance(1)

    def clear_aside(self) -> None:
        """Forget what temporary students of this run said; what runs share stays."""
        if not self._shared:
            self._asides.clear()

    def _trainings(self, parts: Sequence[Sequence[Example]]) -> list[Sequence[Example]]:
        """Leave out empty parts; merge them for students that cannot continue training, such as a probe."""
        found = [part for part in parts if part]
        ends = self._directory.config.student.head == "probe" or not getattr(self._given[0], "continues", True)
        return [[row for part in found for row in part]] if ends and len(found) > 1 else found

    def _identity_aside(self, parts: Sequence[Sequence[Example]], judged: Sequence[Example]) -> str:
        return digest([*(self._identity(rows, [], None) for rows in parts), "judged", self._identity(judged, [], None)])

    def evaluate_teacher(self, model: Model) -> None:
        """Store the predictions of a model that is not trained here, such as the teacher, on the select half."""
        stage = "round-0/train"
        if self._journal.stage_done(stage):
            return
        started = time.monotonic()
        select = self._journal.gold("select")
        self._progress.start("the teacher's answers", len(select), "answers")
        results = {"select": self._grade(model, select)}
        info: dict[str, Any] = {"rows": 0, "undecided": getattr(model, "undecided", 0)}
        self._journal.finish_training(stage, 0, results, info, time.monotonic() - started)
        self._tell(f"answered by the teacher{_guessed(info['undecided'], len(select))}", results)

    def evaluate_test(self, inputs: RunData, model: Model | None = None) -> None:
        """Open the sealed test set once and score every round's student on it.

        Args:
            inputs: has the sealed set.
            model: tested instead of the rounds' students.
        """
        if inputs.test is None or inputs.sealed is None or self._journal.stage_done("test"):
            return
        check_stop()
        started = time.monotonic()
        rounds = self._journal.rounds()
        examples = inputs.test.open(inputs.sealed.sha256)
        self._progress.start(
            stage_title("test", StageKind.TEST), *((len(examples), "answers") if model else (len(rounds), "students"))
        )
        scores, seconds, before = {}, {}, int(getattr(model, "undecided", 0))
        for number in rounds:
            check_stop()
            tested = model or self._fitter.saved(self._directory.model_path(number))
            began = time.monotonic()
            scores[number] = self._grade(tested, examples)
            seconds[str(number)] = round(taken(tested, began), 3)
            if model is None:
                self._progress.advance(len(scores))
        # Only counted: the written rows are final by now, and nothing may read the test set earlier.
        test = ContaminationFilter.of(example.text for example in examples)
        near = sum(test.copied(normalize_for_match(row.text)) for row in each_training_row(self._journal))
        undecided = int(getattr(model, "undecided", 0))
        info: dict[str, Any] = {"rows": len(examples), "seconds": seconds, "undecided": undecided, "near_test": near}
        if inputs.sealed.shared:
            info["in_validation"] = inputs.sealed.shared
        if clusters := clusters_of(examples):
            # The texts themselves are not kept.
            info["clusters"] = clusters
        self._journal.finish_test("test", rounds[-1], scores, info, time.monotonic() - started)
        best = best_round(self._journal)
        how = f"round {best}, {'chosen by the select half' if self._journal.evaluation(best, 'select') else 'the last student'}"
        if choice := find_choice(self._journal):
            how = stage_title("", StageKind.TRAIN, {"student": choice["chosen"]})
        guessed = _guessed(undecided - before, len(examples))
        self._progress.finish(f"{how}: {100 * scores[best][0].value:.1f} on {len(examples):,} sealed rows{guessed}")

    def _grade(self, model: Model, examples: Sequence[Example]) -> tuple[Evaluation, list[Graded]]:
        graded = self._graded(examples, model.predict(examples))
        return self.evaluate(examples, graded), graded

    def _graded(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Graded]:
        pairs = zip(examples, predictions, strict=True)
        with guard_own(self._family, "what a student answered"):
            return [Graded(found, self._family.gold(example), score_of(self._family, example, found)) for example, found in pairs]

    def evaluate(self, examples: Sequence[Example], graded: Sequence[Graded]) -> Evaluation:
        """Score predictions of one student or several."""
        with guard_own(self._family, "what a student answered"):
            return self._family.evaluate(examples, [found.prediction for found in graded])

    def _tell(self, what: str, results: dict[str, tuple[Evaluation, list[Graded]]]) -> None:
        scores = [f"{split} {100 * results[split][0].value:.1f}" for split in ("select", "harvest") if split in results]
        self._progress.finish(f"{what}{': ' if scores else ''}{', '.join(scores)}")

    def _fit(
        self,
        round_number: int,
        parts: Sequence[Sequence[Example]],
        select: Sequence[Example],
        title: str,
        judged: Sequence[Sequence[Example]] = (),
    ) -> Model:
        directory = self._directory
        if directory.model_whole(round_number):
            self._known(title)
            return self._fitter.saved(directory.model_path(round_number), judged)
        parts = self._trainings(parts)
        self._refuse_hopeless([row for part in parts for row in part])
        start, outcome = self._start(round_number), None
        with disk_errors(directory.model_path(round_number)):
            part = directory.new_model_folder(round_number)
            identities = [self._identity(rows, select, start) for rows in parts]
            identity = identities[0] if len(parts) == 1 else digest(identities)
            known = self._shared and self._shared / identity
            # Another cell may be training this very student.
            with self._once.alone(identity):
                try:
                    if known and (known / "done.json").is_file():
                        self._known(title)
                        for file in known.iterdir():
                            if file.name != "done.json":
                                shutil.copyfile(file, part / file.name)
                    else:
                        outcome = self._fitter.keep(parts, select, start, part, title, judged)
                    kept = directory.keep_model(part, round_number)
                except BaseException:
                    # On a full disk the next attempt may need its space.
                    shutil.rmtree(part, ignore_errors=True)
                    raise
                if known and not known.exists():
                    _share(kept, known)
        # Predict with the saved files, not with the model in memory.
        return self._fitter.saved(kept, judged, outcome)

    def _start(self, round_number: int) -> Path | None:
        """Return the weights to continue from, in the ablation that does not train from scratch."""
        if not self._directory.config.student.continued or round_number == 0:
            return None
        return self._directory.model_path(round_number - 1)

    def _graded_by_other(
        self, rows: Sequence[Example], select: Sequence[Example], harvest: Sequence[Example]
    ) -> tuple[Evaluation, list[Graded]]:
        """Train the other student whose mistakes are extrapolated (``mistakes_of``); only its predictions are kept."""
        config = self._directory.config
        settings = config.student.model_copy(
            update={"model": config.method.mistakes_of, "continued": False, "kind": None, "options": {}}
        )
        config = config.model_copy(update={"student": settings})
        (found,) = self._fitter.aside([rows], select, [harvest], "", name="other", config=config)
        graded = self._graded(harvest, found)
        return self.evaluate(harvest, graded), graded

    def _identity(self, rows: Sequence[Example], select: Sequence[Example], start: Path | None) -> str:
        config = self._directory.config
        own = [config.task.options, config.task.identity] if config.task.identity else []
        return digest(
            {
                "rows": [_learned(row) for row in rows],
                "select": [_learned(row) for row in select],
                "student": config.resolved()["student"],
                "task": [config.task.family, list(config.task.labels), list(config.task.order), sorted(config.task.fields), *own],
                "seed": config.seed,
                "start": (start / "done.json").read_text(encoding="utf-8") if start else None,
            }
        )

    def _refuse_hopeless(self, rows: Sequence[Example]) -> None:
        labels = {row.label for row in rows}
        if not rows or (self._directory.config.task.labels and len(labels) < 2):
            reasons: Counter[str] = Counter()
            total = 0
            for count in count_rows(self._journal):
                planned = count.rows if count.kind != StageKind.RATIONALES else 0
                reasons[count.reason] += planned if count.reason else 0
                total += planned
            dropped = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(4) if count)
            said = repeated_answer(self._journal, reasons=False)
            advice = _ADVICE.get(next(iter(dict(reasons.most_common(1))), ""), _OTHER_ADVICE)
            raise RunError(
                f"{len(rows)} usable rows with fewer than two labels: there is nothing to train on"
                f"{f' (dropped: {dropped})' if dropped else ''}{f'; {said}' if said else ''}.",
                hint=REPEATED_HINT if said else advice.format(failed=reasons[DropReason.FAILED], total=total),
            )


def _guessed(undecided: int, of: int) -> str:
    return f" ({undecided:,} of {of:,} answers gave no label and count as guesses)" if undecided else ""


def _learned(row: Example) -> list[object]:
    """Return what a student learns from a row."""
    found: list[object] = [row.text, row.label, row.context, [[a.text, a.start] for a in row.answers]]
    # Absent where it says nothing, so that identities of earlier versions stay.
    return found if row.plain else [*found, row.soft_label, row.weight]


def steps_of(model: Model) -> dict[str, int]:
    """Return a student's number of optimiser steps for the journal; empty if it does not count them."""
    steps = getattr(model, "steps", None)
    return {} if steps is None else {"steps": int(steps)}


def _share(kept: Path, known: Path) -> None:
    """Share a trained student with other runs; an existing one is kept."""
    part = known.with_name(f".{known.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        shutil.copytree(kept, part)
        part.replace(known)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
