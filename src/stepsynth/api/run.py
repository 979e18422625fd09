"""`Run`: a run directory in Python, finished or not, and its student.

run = Run.load("runs/tickets")
run.dataset().to_pandas(); run.scores; run.student.predict(["Where is my invoice?"])
"""

from __future__ import annotations

import os
import warnings
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.api.config import Config
from stepsynth.api.files import absolute_path
from stepsynth.api.student import TrainedStudent
from stepsynth.errors import ConfigError, RunError
from stepsynth.execution import rebuild
from stepsynth.journal.queries import each_row
from stepsynth.journal.results import find_mistakes
from stepsynth.report.derived import build_results, without_class
from stepsynth.report.review import labels_in_doubt, texts_to_label
from stepsynth.run import RunDirectory
from stepsynth.run.existing import open_journal, trained_round
from stepsynth.runtime.imports import importing
from stepsynth.tasks import split_labels, stored_family
from stepsynth.training import judged_rounds
from stepsynth.types import StageKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    import datasets
    import pandas

    from stepsynth.exporting import Exported
    from stepsynth.journal import Journal
    from stepsynth.report.verify import Finding
    from stepsynth.tasks import TaskFamily

__all__ = ["Run"]


class Run:
    """A run's results, read from its directory each time, so that they are up to date while the run works elsewhere.

    Args:
        path: the run directory.

    Attributes:
        path: the run directory.
        config: the run's config.

    Raises:
        RunError: there is no run.

    Examples:
        >>> run = Run.load("runs/tickets")  # doctest: +SKIP
        >>> run.score  # doctest: +SKIP
        0.714
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = absolute_path(path, "the path of the run", "Give the folder of a run.", RunError)
        self._directory = RunDirectory.read(self.path)
        self.config = Config.of(self._directory.config, self.path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Run:
        """Return the run in a directory; see the class."""
        return cls(path)

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        with closing(open_journal(self._directory)) as journal:
            yield journal

    @property
    def finished(self) -> bool:
        """Whether the run has finished; if not, repeat the call that began it to resume."""
        with self._journal() as journal:
            return journal.meta("finished") is not None

    @property
    def results(self) -> dict[str, Any]:
        """The content of ``results.json``; see docs/results_json.md."""
        with self._journal() as journal:
            return build_results(journal, self._directory)

    @property
    def _method(self) -> dict[str, Any]:
        (method,) = self.results["methods"].values()
        return dict(method)

    @property
    def scores(self) -> list[dict[str, Any]]:
        """A dict per trained student, in the order of training.

        ``round``, ``rows`` (number that it learned from), ``student`` (with cross-fitting: ``labels``, ``written``, ``both`` or
        ``stages``), ``folder`` (its weights, below the run directory; ``None`` if they were not kept), ``best`` (whether it is
        the final one), and the scores ``crossfit``, ``select`` and ``test``, each ``None`` or a dict with ``metric``, ``value``,
        ``ci95`` and ``n``.
        """
        method = self._method
        kept = {path.name for path in (self.path / "models").glob("round-*")}
        return [
            {
                "round": entry["round"],
                "rows": entry["rows"],
                "student": entry.get("student"),
                "folder": f"models/round-{entry['round']}" if f"round-{entry['round']}" in kept else None,
                "best": entry["round"] == method["best_round"],
                **{split: entry.get(split) for split in ("crossfit", "select", "test")},
            }
            for entry in method["rounds"]
        ]

    @property
    def score(self) -> float | None:
        """The final student's score, in [0, 1]: on the sealed test; without one in cross-validation or on the select half.

        ``None`` before a student is chosen. With its interval: ``scores``.
        """
        best = next((entry for entry in self.scores if entry["best"]), None)
        found = next((best[split] for split in ("test", "crossfit", "select") if best[split]), None) if best else None
        return None if found is None else float(found["value"])

    @property
    def verdict(self) -> str:
        """What labels and written rows are worth, and what would help, in sentences; empty without cross-fitting."""
        return " ".join((self._method.get("worth") or {}).get("words", ()))

    @property
    def warnings(self) -> list[str]:
        """What to know before you believe the score, a sentence each; the report begins with the same.

        Test rows that are also labelled rows, for instance, or a test set that is too small.
        """
        from stepsynth.report.page import warnings_of

        with self._journal() as journal:
            return warnings_of(journal, build_results(journal, self._directory), self._directory.config)

    def rows(self, *, accepted: bool | None = True, round: int | None = None) -> list[dict[str, Any]]:
        """Return the written rows in the order of the plan.

        Args:
            accepted: ``True`` for rows in the data set, ``False`` for dropped ones, ``None`` for all.
            round: only the rows of this round.

        Returns:
            Dicts with the task's columns (``text`` and ``label``, ...), ``round``, ``kind``, ``stage``, ``source`` (the gold row
            that it was modelled on) and ``dropped`` (the reason, empty for accepted rows).
        """
        family = stored_family(self.config.task)
        with self._journal() as journal:
            return [
                {
                    **family.record(row.example),
                    "round": row.round,
                    "kind": row.kind,
                    "stage": row.stage,
                    "source": row.source,
                    "dropped": row.reason,
                }
                for row in each_row(journal, accepted=accepted)
                if row.kind != StageKind.RATIONALES and round in (None, row.round)
            ]

    def dataset(self) -> datasets.Dataset:
        """Return the accepted rows as a ``datasets.Dataset``, with the columns of `rows`."""
        with importing():
            import datasets

        rows = [{name: value for name, value in row.items() if name != "dropped"} for row in self.rows()]
        return datasets.Dataset.from_list(rows)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the accepted rows as a pandas frame, with the columns of `rows`."""
        return self.dataset().to_pandas()

    def mistakes(self, round: int = 0) -> list[dict[str, Any]]:
        """Return the labelled rows that a round's student got wrong: the task's columns, ``predicted`` and ``confidence``."""
        family = stored_family(self.config.task)
        with self._journal() as journal:
            judged = sorted({*journal.rounds(), *judged_rounds(journal)})
            if round not in judged:
                raise RunError(f"round {round!r} of the run at {str(self.path)!r} has no student.", hint=f"Rounds: {judged}.")
            return [
                {**family.record(mistake.example), "predicted": mistake.predicted, "confidence": mistake.confidence}
                for mistake in find_mistakes(journal, round)
            ]

    def review(self, *, pool: bool = False) -> list[dict[str, Any]]:
        """Return the labelled rows to look at first: those that a student which had not seen them, or the teacher, doubts.

        Dicts with ``row`` (its number in your file or data, from 0), the task's columns, ``student`` and ``confidence`` (its
        answer, a list where a row has several labels, ``None`` if it agrees with yours) and
        ``teacher`` (its answer; ``None`` if it agrees, or was not asked: ``method.second_reading``) and ``teacher_confidence``
        (the probability that it is right, calibrated on the other rows; ``None`` unless ``method.readings`` is above 1 or the
        server sends log-probabilities: ``teacher.logprobs``). Rows where student and teacher give the same other answer come
        first, then the surest. A doubt is no proof: look at the row.

        Args:
            pool: return the first texts of ``data.pool`` to label next instead, at most 500: ``row`` (its number in the pool),
                the texts, an empty ``label`` (of questions: none), ``student`` and ``confidence`` (the answer of a student of
                your labels alone) and ``teacher`` (its answer, ``None`` if it was not asked). They alternate: one where student
                and teacher differ, the one of which the student is least sure, a random one; last those where both agree.

        Raises:
            RunError: neither a student that had not learned from the labelled rows nor the teacher has judged them; or no student
                has judged a pool.
        """
        family = stored_family(self.config.task)
        if pool:
            return self._next_texts()
        with self._journal() as journal:
            found = labels_in_doubt(journal, self._directory.config, family)
        if found is None:
            raise RunError(
                f"nobody has judged the labelled rows of the run at {str(self.path)!r}: its students learned from them, or none "
                "has been trained yet, and the teacher was not asked.",
                hint="Finish the run, or run another with method.name: crossfit.",
            )

        return [
            {
                "row": int(d.row.id.rpartition("-")[2]),
                **family.record(d.row),
                "student": _answer(d.student, family),
                "confidence": d.confidence,
                "teacher": _answer(d.teacher, family),
                "teacher_confidence": d.teacher_confidence,
            }
            for d in found
        ]

    def _next_texts(self) -> list[dict[str, Any]]:
        family = stored_family(self.config.task)
        with self._journal() as journal:
            found = texts_to_label(journal)
        if found is None:
            raise RunError(
                f"no student of the run at {str(self.path)!r} has judged texts without labels.",
                hint="Finish the run, or run another with data.pool and method.name: crossfit, pool or annotate.",
            )
        empty = {} if family.spans else {"labels" if family.several_labels else "label": ""}
        return [
            {
                "row": int(t.row.id.rpartition("-")[2]),
                **{name: value for name, value in family.record(t.row).items() if name in family.text_columns},
                **empty,
                "student": _answer(t.student, family),
                "confidence": t.confidence,
                "teacher": _answer(t.teacher, family),
            }
            for t in found
        ]

    @cached_property
    def student(self) -> TrainedStudent:
        """The final student.

        Raises:
            RunError: none was trained yet, or its files are damaged.
        """
        return self.student_of(None)

    def student_of(self, round: int | None) -> TrainedStudent:
        """Return the student of a round, or for ``None`` of the best round.

        Raises:
            RunError: there is none.
        """
        number = trained_round(self._directory, round)
        return TrainedStudent(self.config, self._directory.model_path(number))

    def report(self) -> Path:
        """Rewrite the page, data set and numbers, and return the path of the page.

        If the class of your own task family is missing, the data set is left unchanged, with a warning.

        Raises:
            RunError: no student was trained yet.
        """
        rebuild(self.path)
        if said := without_class(self.config, "written"):
            warnings.warn(said, stacklevel=2)
        return self.path / "report.html"

    def export(
        self,
        folder: str | os.PathLike[str],
        *,
        data: str | None = None,
        student: str | None = None,
        lineage: bool = True,
        validation_texts: bool = False,
        test_texts: bool = False,
        dropped: bool = False,
        max_loss: float = 1.0,
        push: str | None = None,
        public: bool = False,
        dry_run: bool = False,
    ) -> Exported:
        """Write the data set and the student for others, each with a card, and push them to the hub if asked.

        Args:
            folder: a new folder; it gets ``data`` and ``student``. If neither is wanted: an export to push.
            data: format of the rows: ``csv``, ``jsonl``, ``parquet``, ``datasets``, or ``squad`` for questions.
            student: format of the final student: ``safetensors``, ``onnx``, ``onnx-int8``, ``openvino`` or ``openvino-int8``.
            lineage: columns that say where a row comes from.
            validation_texts: validation rows with their texts, not as references.
            test_texts: test rows with their texts, not as references.
            dropped: also the rows that were dropped, with the reasons.
            max_loss: points of the score that a student in eight bits may lose, from 0 to 100.
            push: ``owner/name`` on the Hugging Face hub; log in with ``hf auth login`` before.
            public: whether everybody may see a repository that is made.
            dry_run: with ``push``: send nothing; ``uploads`` of the result says what would be sent.

        Returns:
            The paths ``folder``, ``data`` and ``student`` (``None`` if not written), ``uploads``, and ``proof``: what a
            converted student's answers are beside those of the trained one.

        Raises:
            ConfigError: a format is unknown or does not fit the task, ``max_loss`` is no such number, the folder exists, or
                nothing is wanted.
            RunError: there are no written rows or no student, a converted student does not answer as the trained one, the
                folder cannot be written, or the hub refused.

        Examples:
            >>> run.export("tickets", data="parquet", student="safetensors").data  # doctest: +SKIP
            PosixPath('/data/tickets/data')
        """
        from stepsynth.exporting import Content, Push, Wanted, export_and_push

        if push is None and (public or dry_run):
            raise ConfigError(f"{'public' if public else 'dry_run'} belongs to push.", hint="Give push='owner/name'.")
        place = absolute_path(folder, "the folder of the export", "Give a path.")
        wanted = Wanted(data, student, Content(lineage, validation_texts, test_texts, dropped), max_loss=max_loss)
        written = export_and_push(self._directory, place, wanted, None if push is None else Push(push, public, dry_run))
        for note in written.notes:
            warnings.warn(note, stacklevel=2)
        return written

    def verify(self) -> list[Finding]:
        """Return the problems of the run's files; empty if it is intact.

        A warning says what cannot be compared: a page that another version rendered, or the texts of the data set if the
        class of your own task family is missing.
        """
        from stepsynth.report.verify import check_run

        check = check_run(self.path)
        for note in check.notes:
            warnings.warn(note, stacklevel=2)
        return check.findings

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Return a table of the students for a notebook."""
        from stepsynth.api.html import run_as_html

        try:
            return run_as_html(self)
        except RunError as error:
            return run_as_html(self, problem=str(error))


def _answer(answer: str | None, family: TaskFamily) -> str | list[str] | None:
    """Return an answer as a plain value: a list where a row has several labels."""
    return list(split_labels(answer)) if answer is not None and family.several_labels else answer
