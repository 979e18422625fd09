"""Students at work: trained, examined on both halves, and in the end tested on the sealed set."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stepsynth.errors import RunError
from stepsynth.evaluation.artefact import artefact_probe
from stepsynth.filters.leakage import ContaminationFilter
from stepsynth.filters.normalise import normalize_for_match
from stepsynth.journal.queries import count_rows, dataset_sample, each_training_row, repeated_answer
from stepsynth.journal.results import best_round, find_choice
from stepsynth.methods.seed import REPEATED_HINT
from stepsynth.run import disk_errors, write_atomic
from stepsynth.shutdown import check_stop
from stepsynth.tasks import stored_family
from stepsynth.tasks.guarding import guard_own
from stepsynth.tasks.scoring import score_of
from stepsynth.types import DropReason, Graded, Prediction, StageKind, digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stepsynth.config import RunConfig
    from stepsynth.journal import Journal
    from stepsynth.progress import Progress
    from stepsynth.run import RunDirectory
    from stepsynth.run_data import RunData
    from stepsynth.students import Model, Student
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Evaluation, Example

__all__ = ["StudentRunner", "artefacts", "with_half_the_steps"]

_OTHER_ADVICE = "See `stepsynth status` for why rows were dropped; describe the labels better, or use a stronger teacher."
_ADVICE: dict[str, str] = {
    DropReason.TRUNCATED: "Raise sampling.max_tokens; a model that thinks needs teacher.reasoning_tokens.",
    DropReason.FAILED: "The server gave no answer to {failed:,} of {total:,}: see what it says to `stepsynth plan`.",
    DropReason.REFUSAL: "The provider declines: reword task.instruction and task.labels, or take another teacher.",
}
# The probe's folds are the same whenever a page is made.
_SEED = 0


def artefacts(journal: Journal, config: RunConfig) -> list[str]:
    """Say which shallow cues give the labels of a run's written rows away, more than those of its gold rows.

    Args:
        journal: holds both; of many written rows a sample is looked at.
        config: of the run.
    """
    written = [row.example for row in dataset_sample(journal)]
    gold = [*journal.gold("harvest"), *journal.gold("select")]
    return [probe.message for probe in artefact_probe(written, gold, stored_family(config.task).texts, _SEED) if probe.flagged]


def with_half_the_steps(config: RunConfig) -> RunConfig:
    """Return the config of one of two trainings that together make as many optimiser steps as a single one."""
    steps = math.ceil(config.student.min_steps / 2)
    return config.model_copy(update={"student": config.student.model_copy(update={"min_steps": steps})})


class StudentRunner:
    """Trains, examines and finally tests students.

    Args:
        directory: where models are kept.
        journal: where rows come from and scores go.
        family: scores predictions.
        student: the recipe.
        progress: told about steps.
        shared: a folder of trained students by what they were trained on, or ``None``.
        staged: the recipe of each of two trainings that follow one another; ``student`` when absent.
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
    ) -> None:
        self._directory = directory
        self._journal = journal
        self._family = family
        self._student = student
        self._staged = staged or student
        self._progress = progress
        self._shared = shared
        self._stage = ""

    def scores(self, before: int, split: str = "select") -> list[list[float]]:
        """Return what the student of each round before one scored, row by row of a split.

        Later rounds are left out so that a run that is resumed decides as it did the first time.
        """
        return [[g.score for g in self._journal.graded(number, split)] for number in range(before)]

    def train(self, round_number: int, *, gold: bool = False) -> None:
        """Train a round's student from scratch and write what it predicts on both halves.

        Args:
            round_number: it learns from the rows of all rounds up to this one.
            gold: whether it learns from the validation rows as well; then they cannot judge it.
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
        model = self._fit(round_number, [rows], select, stage)
        if done:
            return
        results = {} if gold else {split: self._grade(model, self._journal.gold(split)) for split in ("harvest", "select")}
        if self._directory.config.method.mistakes_of and not gold:
            results["harvest-other"] = self._grade(self._other(rows, select), self._journal.gold("harvest"))
        # A student of another program may not tell.
        steps = getattr(model, "steps", None)
        info: dict[str, Any] = {"rows": len(rows)} if steps is None else {"rows": len(rows), "steps": steps}
        self._journal.finish_training(stage, round_number, results, info, time.monotonic() - started)
        self._tell(f"trained on {len(rows):,} rows", results)

    def keep(self, name: str, number: int, parts: Sequence[Sequence[Example]]) -> None:
        """Train a student that no gold row judges, and keep it.

        Args:
            name: what it is called.
            number: its round.
            parts: what it learns from, one part after the other; empty parts are passed over.
        """
        stage = f"round-{number}/train"
        done = self._journal.stage_done(stage)
        if done and self._directory.model_whole(number):
            return
        check_stop()
        started = time.monotonic()
        model = self._fit(number, parts, [], stage)
        if done:
            return
        rows = sum(map(len, parts))
        info = {"rows": rows, "student": name, **steps_of(model)}
        self._journal.finish_training(stage, number, {}, info, time.monotonic() - started)
        self._progress.finish(f"the student of {name}: trained on {rows:,} rows")

    def judge_aside(self, parts: Sequence[Sequence[Example]], judged: Sequence[Example], stage: str) -> list[Graded]:
        """Return what a student that is not kept says of some rows.

        Args:
            parts: rows to learn from, one part after the other; empty parts are passed over.
            judged: rows that it has not seen.
            stage: the name that is shown.
        """
        check_stop()
        parts = self._trainings(parts)
        known = self._shared and self._shared / f"{self._identity_aside(parts, judged)}.json"
        if known and known.is_file():
            found = json.loads(known.read_text(encoding="utf-8"))
            predictions = [Prediction(row.id, *said) for row, said in zip(judged, found, strict=True)]
        else:
            predictions = self._pass_through(parts, stage).predict(judged)
            if known:
                known.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_atomic(known, json.dumps([[p.label, dict(p.probabilities), p.start] for p in predictions]))
        return self._graded(judged, predictions)

    def _pass_through(self, parts: Sequence[Sequence[Example]], stage: str) -> Model:
        """Train a student on one part after the other and leave no file of it."""
        if not parts:
            self._refuse_hopeless([])
        self._stage = stage
        with self._scratch("fold") as folder:
            return self._follow(parts, [], None, folder)

    def _trainings(self, parts: Sequence[Sequence[Example]]) -> list[Sequence[Example]]:
        """Leave out empty parts; who cannot be trained on, such as a probe, learns from all rows at once."""
        found = [part for part in parts if part]
        ends = self._directory.config.student.head == "probe" or not getattr(self._student, "continues", True)
        return [[row for part in found for row in part]] if ends and len(found) > 1 else found

    def _follow(self, parts: Sequence[Sequence[Example]], select: Sequence[Example], out: Path | None, folder: Path) -> Model:
        """Train on one part after the other, the last time into ``out``, and else into new folders of ``folder``."""
        student, start, stage = self._staged if len(parts) > 1 else self._student, None, self._stage
        for place, rows in enumerate(parts, 1):
            # Each training counts its own steps.
            self._stage = stage
            into = out if out and place == len(parts) else folder / str(place)
            into.mkdir(mode=0o700, exist_ok=True)
            model = student.fit(rows, select, seed=self._directory.config.seed, out=into, start=start, progress=self._step)
            start = into
        return model

    def _identity_aside(self, parts: Sequence[Sequence[Example]], judged: Sequence[Example]) -> str:
        return digest([*(self._identity(rows, [], None) for rows in parts), "judged", self._identity(judged, [], None)])

    def evaluate_teacher(self, model: Model) -> None:
        """Write what a model that is not trained here predicts on the select half."""
        stage = "round-0/train"
        if self._journal.stage_done(stage):
            return
        started = time.monotonic()
        select = self._journal.gold("select")
        self._progress.start("round-0/answers", len(select), "answers")
        results = {"select": self._grade(model, select)}
        info: dict[str, Any] = {"rows": 0, "undecided": getattr(model, "undecided", 0)}
        self._journal.finish_training(stage, 0, results, info, time.monotonic() - started)
        self._tell(f"answered by the teacher{_guessed(info['undecided'], len(select))}", results)

    def evaluate_test(self, inputs: RunData, model: Model | None = None) -> None:
        """Open the sealed test set, once, and score the student of every round on it.

        Args:
            inputs: holds the sealed set.
            model: is tested in place of the rounds' students.
        """
        if inputs.test is None or inputs.sealed is None or self._journal.stage_done("test"):
            return
        check_stop()
        started = time.monotonic()
        rounds = self._journal.rounds()
        examples = inputs.test.open(inputs.sealed.sha256)
        self._progress.start("test", *((len(examples), "answers") if model else (len(rounds), "students")))
        scores, seconds, before = {}, {}, int(getattr(model, "undecided", 0))
        for number in rounds:
            check_stop()
            tested = model or self._student.load(self._directory.model_path(number))
            began = time.monotonic()
            scores[number] = self._grade(tested, examples)
            seconds[str(number)] = round(time.monotonic() - began, 3)
            if model is None:
                self._progress.advance(len(scores))
        # Only counted: what was written is fixed by now, and nothing may have looked at the test set before.
        test = ContaminationFilter.of(example.text for example in examples)
        near = sum(test.copied(normalize_for_match(row.text)) for row in each_training_row(self._journal))
        undecided = int(getattr(model, "undecided", 0))
        info = {"rows": len(examples), "seconds": seconds, "undecided": undecided, "near_test": near}
        if inputs.sealed.shared:
            info["in_validation"] = inputs.sealed.shared
        self._journal.finish_test("test", rounds[-1], scores, info, time.monotonic() - started)
        best = best_round(self._journal)
        how = "chosen by the select half" if self._journal.evaluation(best, "select") else "the last student"
        if choice := find_choice(self._journal):
            how = f"the student of {choice['chosen']}"
        guessed = _guessed(undecided - before, len(examples))
        self._progress.finish(f"round {best}, {how}: {100 * scores[best][0].value:.1f} on {len(examples):,} sealed rows{guessed}")

    def _grade(self, model: Model, examples: Sequence[Example]) -> tuple[Evaluation, list[Graded]]:
        graded = self._graded(examples, model.predict(examples))
        return self.evaluate(examples, graded), graded

    def _graded(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Graded]:
        pairs = zip(examples, predictions, strict=True)
        with guard_own(self._family, "what a student answered"):
            return [Graded(found, self._family.gold(example), score_of(self._family, example, found)) for example, found in pairs]

    def evaluate(self, examples: Sequence[Example], graded: Sequence[Graded]) -> Evaluation:
        """Score what was predicted of some rows, by one student or by several."""
        with guard_own(self._family, "what a student answered"):
            return self._family.evaluate(examples, [found.prediction for found in graded])

    def _tell(self, what: str, results: dict[str, tuple[Evaluation, list[Graded]]]) -> None:
        scores = [f"{split} {100 * results[split][0].value:.1f}" for split in ("select", "harvest") if split in results]
        self._progress.finish(f"{what}{': ' if scores else ''}{', '.join(scores)}")

    def _fit(self, round_number: int, parts: Sequence[Sequence[Example]], select: Sequence[Example], stage: str) -> Model:
        directory = self._directory
        if directory.model_whole(round_number):
            return self._student.load(directory.model_path(round_number))
        parts = self._trainings(parts)
        self._refuse_hopeless([row for part in parts for row in part])
        start = self._start(round_number)
        with disk_errors(directory.model_path(round_number)):
            part = directory.new_model_folder(round_number)
            identities = [self._identity(rows, select, start) for rows in parts]
            known = self._shared and self._shared / (identities[0] if len(parts) == 1 else digest(identities))
            try:
                if known and (known / "done.json").is_file():
                    for file in known.iterdir():
                        if file.name != "done.json":
                            shutil.copyfile(file, part / file.name)
                else:
                    self._stage = stage
                    self._train_into(part, parts, select, start)
                kept = directory.keep_model(part, round_number)
            except BaseException:
                # On a full disk its room may be what the next attempt needs.
                shutil.rmtree(part, ignore_errors=True)
                raise
            if known and not known.exists():
                _share(kept, known)
        # Predictions come from the files that are kept, not from the model that was in memory.
        return self._student.load(kept)

    def _train_into(self, out: Path, parts: Sequence[Sequence[Example]], select: Sequence[Example], start: Path | None) -> None:
        if len(parts) == 1:
            self._student.fit(parts[0], select, seed=self._directory.config.seed, out=out, start=start, progress=self._step)
            return
        with self._scratch("first") as folder:
            self._follow(parts, select, out, folder)

    def _start(self, round_number: int) -> Path | None:
        """Return the weights to go on from, in the ablation that does not train from scratch."""
        if not self._directory.config.student.continued or round_number == 0:
            return None
        return self._directory.model_path(round_number - 1)

    def _other(self, rows: Sequence[Example], select: Sequence[Example]) -> Model:
        """Train the student whose mistakes are extrapolated instead; only its predictions are kept."""
        from stepsynth.students import create_student

        config = self._directory.config
        settings = config.student.model_copy(
            update={"model": config.method.mistakes_of, "continued": False, "kind": None, "options": {}}
        )
        with self._scratch("other") as folder:
            other = create_student(config.model_copy(update={"student": settings}))
            return other.fit(rows, select, seed=config.seed, out=folder, progress=self._step)

    @contextmanager
    def _scratch(self, name: str) -> Iterator[Path]:
        """Give an empty folder for a student that is not kept; it is gone afterwards."""
        folder = self._directory.path / "models" / f".{name}.part"
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True, mode=0o700)
        folder.mkdir(mode=0o700)
        try:
            with disk_errors(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _identity(self, rows: Sequence[Example], select: Sequence[Example], start: Path | None) -> str:
        config = self._directory.config
        own = [config.task.options, config.task.identity] if config.task.identity else []
        return digest(
            {
                "rows": [[e.text, e.label, e.context, [[a.text, a.start] for a in e.answers]] for e in rows],
                "select": [[e.text, e.label, e.context, [[a.text, a.start] for a in e.answers]] for e in select],
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

    def _step(self, done: int, steps: int) -> None:
        check_stop()
        if self._stage:
            self._progress.start(self._stage, steps, "steps")
            self._stage = ""
        self._progress.advance(done)


def _guessed(undecided: int, of: int) -> str:
    return f" ({undecided:,} of {of:,} answers decided nothing and count as guesses)" if undecided else ""


def steps_of(model: Model) -> dict[str, int]:
    """Return how many optimiser steps a student has made, for the journal; nothing where it does not tell."""
    steps = getattr(model, "steps", None)
    return {} if steps is None else {"steps": int(steps)}


def _share(kept: Path, known: Path) -> None:
    """Offer a trained student to other runs; whoever comes second keeps what is there."""
    part = known.with_name(f".{known.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        shutil.copytree(kept, part)
        part.replace(known)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
