"""The base class of task families, with defaults for everything but the score."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stepsynth.config.labels import refuse_alike
from stepsynth.errors import did_you_mean
from stepsynth.evaluation.clusters import clusters_of, in_details
from stepsynth.evaluation.metrics import check_rows
from stepsynth.evaluation.seeds import hierarchical_interval
from stepsynth.evaluation.statistics import plain, share_interval
from stepsynth.tasks.answers import read_label, read_labels, read_span
from stepsynth.tasks.capable import CAPABLE_TEMPLATES
from stepsynth.tasks.labels import combination_targets, even_targets, rarest_labels, split_labels
from stepsynth.tasks.scoring import score_of
from stepsynth.tasks.templates import ANY_OF, DEFAULT_TEMPLATES, ONE_OF
from stepsynth.types import Evaluation, Prediction, Span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import RunConfig, TaskConfig
    from stepsynth.types import Example

__all__ = ["SEPARATOR", "AnswerKind", "SplitRule", "TaskFamily"]

AnswerKind = Literal["label", "labels", "span"]
SplitRule = Literal["by_label", "by_labels", "by_label_and_context", "by_context"]
# Joins the labels of a row.
SEPARATOR = "|"
_ANSWER_COLUMNS: dict[AnswerKind, tuple[str, ...]] = {"label": ("label",), "labels": ("labels",), "span": ("answers", "answer")}


class TaskFamily(ABC):
    """One kind of task: the columns of its rows, and how they are requested, read, split and scored.

    A subclass defines at least when an answer is right (`score`). Everything else follows from the kind of answer
    (`answer_kind`) and from whether a row keeps a given text (`kept`), and can be overridden.

    Args:
        task: the task, with its labels, options and templates.

    Attributes:
        name: its name in configs; by default the class's name.
        summary: a few words for pages on what a row is.
        metric: name of the score that compares rounds.
        answer_kind: the answer to a row: one ``label`` of the task, any number of ``labels``, or a ``span`` of the text
            that the row keeps.
        written: the column of the text that the teacher writes.
        kept: the column of the text that a row keeps; empty if there is none.
        student: name of the student that learns it, as in `stepsynth.registry.STUDENTS`; by default by the kind of answer.
        prompts: templates by name (``rationale``, ``seed``, ``zerogen``, ``extrapolate``, ``answer``) that replace the
            defaults; a task's own templates take precedence.
        options: the keys that ``task.options`` may have, with their defaults; on an instance, the values.
        labels: the task's labels.

    Examples:
        >>> from stepsynth.tasks import Classification
        >>> class Rating(Classification):
        ...     metric = "within_one"
        ...
        ...     def score(self, example, prediction):
        ...         return float(abs(self.labels.index(example.label) - self.labels.index(prediction.label)) <= 1)
    """

    name: ClassVar[str] = ""
    summary: str = "one answer per text"
    metric: str = "score"
    answer_kind: AnswerKind = "label"
    written: str = "text"
    kept: str = ""
    student: str = ""
    prompts: Mapping[str, str] = {}
    options: Mapping[str, Any] = {}

    def __init__(self, task: TaskConfig) -> None:
        self.task = task
        self.labels = list(task.labels)
        self.options = {**self.options, **task.options}
        self.student = self.student or ("extractive_qa" if self.spans else "classifier")

    # what an answer is ------------------------------------------------------------------------

    @property
    def one_label(self) -> bool:
        """Whether a row has exactly one of the task's labels."""
        return self.answer_kind == "label"

    @property
    def several_labels(self) -> bool:
        """Whether a row may have any number of labels, joined by ``|`` internally."""
        return self.answer_kind == "labels"

    @property
    def spans(self) -> bool:
        """Whether the answer is a span of the text that the row keeps."""
        return self.answer_kind == "span"

    @property
    def has_context(self) -> bool:
        """Whether a row keeps a given text in addition to the written one."""
        return bool(self.kept)

    # columns ----------------------------------------------------------------------------------

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of a row's texts, in the order of files."""
        return (self.kept, self.written) if self.kept else (self.written,)

    @property
    def answer_columns(self) -> tuple[str, ...]:
        """The columns that may hold the answer; one of them is enough."""
        return _ANSWER_COLUMNS[self.answer_kind]

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """Columns of labelled rows that may be missing."""
        return ("answer_start",) if self.spans else ()

    def record(self, example: Example) -> dict[str, object]:
        """Return the row for writing to a file, in columns from which it can be read again."""
        texts = {self.kept: example.context, self.written: example.text}
        row: dict[str, object] = {column: texts[column] for column in self.text_columns}
        if self.spans:
            answers = {"text": [a.text for a in example.answers], "answer_start": [a.start for a in example.answers]}
            return {**row, "answers": answers}
        if self.several_labels:
            return {**row, "labels": list(split_labels(example.label))}
        return {**row, "label": example.label}

    # data -------------------------------------------------------------------------------------

    def labels_of(self, example: Example) -> tuple[str, ...]:
        """Return the labels that a row carries; empty if answers are spans."""
        if self.several_labels:
            return split_labels(example.label)
        return (example.label,) if self.one_label else ()

    @property
    def split_rule(self) -> SplitRule:
        """How the validation rows are split in two, see `stepsynth.data.load_validation`.

        ``by_label``: each label in both halves; ``by_labels``: dealt out starting with the rarest label;
        ``by_label_and_context``: as ``by_label``, with each context in one half if possible; ``by_context``: always so.
        """
        if self.spans:
            return "by_context"
        if self.several_labels:
            return "by_labels"
        return "by_label_and_context" if self.has_context else "by_label"

    def strata(self, present: Mapping[str, int]) -> dict[str, str]:
        """Return the sampling group of each label (or joined labels) of a source.

        Args:
            present: label -> number of rows.
        """
        return rarest_labels(present) if self.several_labels else {label: label for label in present}

    def groups(self, gold: Sequence[Example], rows: int) -> dict[str, int]:
        """Divide ``rows`` over the labels, for a stage that covers the whole task.

        Evenly over labels; over the label combinations of real rows by their frequency; one group if answers
        are spans.

        Args:
            gold: the harvest rows, whose distribution a family may follow.
            rows: the total.
        """
        if self.spans:
            return {"": rows}
        return combination_targets(rows, [row.label for row in gold]) if self.several_labels else even_targets(rows, self.labels)

    # prompts ----------------------------------------------------------------------------------

    def templates(self, *, capable: bool) -> dict[str, str]:
        """Return the default templates by name.

        Args:
            capable: whether to return those for models of a billion parameters and more.
        """
        like = "extractive_qa" if self.spans else "pair" if self.has_context else "classification"
        defaults = dict((CAPABLE_TEMPLATES if capable else DEFAULT_TEMPLATES)[like])
        if self.several_labels:
            defaults["answer"] = defaults["answer"].replace(ONE_OF, ANY_OF)
        return {name: self.prompts.get(name, default) for name, default in defaults.items()}

    @property
    def prompt_names(self) -> dict[str, str]:
        """The names of the kept text (``context``) and the written one (``text``) in templates, if they have any."""
        return self.page_names

    def variables(self, label: str, row: Example) -> Mapping[str, object]:
        """Return further template variables; docs/config.md lists those that every family has.

        Args:
            label: the label asked for.
            row: the row that is shown; empty if there is none.
        """
        del label, row
        return {}

    def read_answer(self, text: str, row: Example) -> tuple[str, int] | None:
        """Return the decision of a teacher that answers itself, or ``None`` if it decided nothing.

        Args:
            text: the teacher's words.
            row: the row that it was asked about.

        Returns:
            The label (several joined by ``|``) and -1, or a span's text and its position in the row's context.
        """
        if self.spans:
            return read_span(text, row.context)
        found = (read_labels if self.several_labels else read_label)(text, self.labels)
        return None if found is None else (found, -1)

    @property
    def guesses(self) -> list[str]:
        """The possible guesses for an answer without a decision; one is chosen at random."""
        return [""] if self.spans else self.labels

    # predictions --------------------------------------------------------------------------------

    def texts(self, example: Example) -> tuple[str, ...]:
        """Return the texts that the student reads, one or two, in order."""
        return (example.text, example.context) if self.has_context else (example.text,)

    def decided(self, example: Example, answer: str, start: int = -1) -> Prediction:
        """Return a decision as a prediction with full confidence.

        Args:
            example: the row.
            answer: from `read_answer`.
            start: the position of a span, from `read_answer`.
        """
        if self.spans:
            return Prediction(example.id, answer, {answer: 1.0}, start)
        chosen = set(split_labels(answer)) if self.several_labels else {answer}
        return Prediction(example.id, answer, {label: float(label in chosen) for label in self.labels})

    def labelled(self, example: Example, prediction: Prediction) -> Example | None:
        """Return a row with a prediction as its answer; ``None`` if the prediction answers nothing.

        Args:
            example: a row without an answer.
            prediction: a student's or the teacher's, see `decided`.
        """
        if not self.spans:
            return replace(example, label=prediction.label) if prediction.label or self.several_labels else None
        span = Span(prediction.label, prediction.start)
        return replace(example, answers=(span,)) if span.text and example.context.startswith(span.text, span.start) else None

    def gold(self, example: Example) -> str:
        """Return the right answer in the form that tables show."""
        return example.answers[0].text if self.spans else example.label

    def plain_answer(self, prediction: Prediction) -> str | list[str]:
        """Return a prediction as a plain value: a label, a list of labels, or a text."""
        return list(split_labels(prediction.label)) if self.several_labels else prediction.label

    def predicted(self, prediction: Prediction) -> dict[str, object]:
        """Return a prediction in the columns that ``stepsynth predict`` writes."""
        if self.spans:
            return {"answer": prediction.label, "answer_start": prediction.start, "probability": prediction.confidence}
        column = "labels" if self.several_labels else "label"
        return {column: self.plain_answer(prediction), "probabilities": dict(prediction.probabilities)}

    # scores -----------------------------------------------------------------------------------

    @abstractmethod
    def score(self, example: Example, prediction: Prediction) -> float:
        """Return 1.0 for a right answer and less, down to 0.0, for a wrong one; anything below 1.0 is a mistake."""

    def evaluate(self, gold: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
        """Return the mean of `score` with its interval, for predictions in the order of the gold rows.

        Raises:
            ValueError: there are no rows, or the predictions are of other rows.
        """
        check_rows(gold, predictions)
        scores = [score_of(self, example, prediction) for example, prediction in zip(gold, predictions, strict=True)]
        clusters = clusters_of(gold)
        if set(scores) <= {0.0, 1.0}:
            interval = share_interval([score == 1.0 for score in scores], clusters)
        else:
            interval = hierarchical_interval([scores], 0, clusters)
        return Evaluation(self.metric, plain(sum(scores) / len(scores)), interval, len(scores), in_details(clusters))

    def scored_beside(self, found: Evaluation, gold: Sequence[Example], predictions: Sequence[Prediction]) -> Evaluation:
        """Return the mean of `score`, with another metric's value and tables as details.

        Args:
            found: the other metric's evaluation of the same rows.
            gold: as for `evaluate`.
            predictions: as for `evaluate`.
        """
        return replace(TaskFamily.evaluate(self, gold, predictions), details={found.metric: found.value, **found.details})

    # pages ------------------------------------------------------------------------------------

    @property
    def page_names(self) -> dict[str, str]:
        """The names of the kept text (``context``) and the written one (``text``) on pages; empty if none is kept."""
        return {"context": self.kept, "text": self.written} if self.has_context else {}

    # configs ----------------------------------------------------------------------------------

    @classmethod
    def check_task(cls, task: TaskConfig) -> None:
        """Refuse a task that does not fit this family; called when a config is read.

        Raises:
            ValueError: the task does not fit; the message is one line.
        """
        if cls.answer_kind == "span":
            if not cls.kept:
                raise ValueError(f"family {task.family!r} answers with spans of a text that its rows do not keep; set kept")
            if task.labels:
                raise ValueError("a question answering task has no labels; remove task.labels")
        elif len(task.labels) < 2:
            have = f"holds only one label ({next(iter(task.labels))!r})" if task.labels else "has no labels"
            raise ValueError(f"task.labels {have}; a classifier needs at least two")
        refuse_alike(task.labels)
        bad = [label for label in task.labels if SEPARATOR in label or not label] if cls.answer_kind == "labels" else []
        if bad:
            raise ValueError(f"label {bad[0]!r} is empty or holds {SEPARATOR!r}, which joins the labels of a row")
        cls.check_fields(task)
        if unknown := next((key for key in task.options if key not in cls.options), None):
            raise ValueError(f"family {task.family!r} has no option {unknown!r}. {did_you_mean(unknown, cls.options)}".strip())

    @classmethod
    def check_fields(cls, task: TaskConfig) -> None:
        """Refuse ``task.fields`` that this family does not use.

        Raises:
            ValueError: the fields do not fit; the message is one line.
        """
        if task.fields:
            raise ValueError(f"family {task.family!r} has no fields; only pairs have")

    @classmethod
    def check_config(cls, config: RunConfig) -> None:
        """Refuse a config whose other sections do not fit this family; called when a config is read.

        Raises:
            ValueError: a section does not fit; the message is one line.
        """
        student, method = config.student, config.method
        if cls.answer_kind == "span" and student.stride >= student.max_length:
            raise ValueError(f"student.stride={student.stride} must be smaller than student.max_length={student.max_length}")
        if cls.answer_kind != "labels" and method.seed_rows < len(config.task.labels):
            raise ValueError(
                f"method.seed_rows={method.seed_rows} is less than one row for each of {len(config.task.labels)} labels"
            )

    def identity(self) -> Mapping[str, Any]:
        """Return everything that can change a result, as JSON values: a run can be resumed only while it is the same.

        Empty for built-in families. Otherwise the kind of answer, the metric, and every public attribute of the classes
        outside the package. If a class's methods change, change such an attribute, for instance ``version = 2``.
        """
        if _is_ours(type(self)):
            return {}
        own: dict[str, Any] = {}
        for cls in reversed(type(self).__mro__):
            if not _is_ours(cls):
                own.update({key: value for key, value in vars(cls).items() if key != "name" and _is_plain(key, value)})
        return {**own, **{key: getattr(self, key) for key in _DECLARED}}


# The attributes that can show a finished run without its class.
_DECLARED = ("metric", "answer_kind", "written", "kept", "student", "summary", "page_names")


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith("stepsynth.")


def _is_plain(key: str, value: object) -> bool:
    """Whether an attribute of a class is public and a JSON value."""
    if key.startswith("_") or not isinstance(value, str | int | float | list | tuple | dict | None):
        return False
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
