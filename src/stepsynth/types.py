"""The frozen values that flow through a run, in the order in which they appear.

``Request -> Response -> GeneratedRow -> Candidate -> Verdict -> Example -> Prediction -> Graded -> Mistake``, and
``Evaluation`` for a student's score. None of them knows where it is stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

__all__ = [
    "Candidate",
    "DropReason",
    "Evaluation",
    "Example",
    "GeneratedRow",
    "Graded",
    "Message",
    "Mistake",
    "Prediction",
    "Request",
    "Response",
    "Sampling",
    "Span",
    "StageKind",
    "Usage",
    "Verdict",
    "canonical_json",
    "digest",
]

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "refusal"]


class StageKind(StrEnum):
    """What a stage does. A method from another package may write rows under its own name.

    Attributes:
        RATIONALES: the teacher writes reasons why a text would have its label.
        IMPORT: the user's own written rows are taken over.
        SEED: the teacher writes rows from reasons.
        ZEROGEN: the teacher writes rows with a plain prompt.
        ANNOTATE: the teacher labels texts of the pool.
        EXTRAPOLATE: the teacher writes rows like gold rows, usually those that the student got wrong.
        FOLD: a temporary student judges one fold.
        CROSSFIT: all folds of a round are judged.
        CHOICE: the final student's training set is chosen.
        TRAIN: a student is trained and kept.
        TEST: the kept students are scored on the sealed test set.
        READING: the teacher reads the gold rows, after the last decision.
        UNLABELLED: a student judges the texts of the pool, after the last decision.
    """

    RATIONALES = "rationales"
    IMPORT = "import"
    SEED = "seed"
    ZEROGEN = "zerogen"
    ANNOTATE = "annotate"
    EXTRAPOLATE = "extrapolate"
    FOLD = "fold"
    CROSSFIT = "crossfit"
    CHOICE = "choice"
    TRAIN = "train"
    TEST = "test"
    READING = "reading"
    UNLABELLED = "unlabelled"


class DropReason(StrEnum):
    """Why a written row is not used; user filters add their own reasons. `stepsynth.filters.REASONS` explains them."""

    FAILED = "failed"
    REFUSAL = "refusal"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    TOO_SHORT = "too short"
    TOO_LONG = "too long"
    META = "meta"
    PLACEHOLDER = "placeholder"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near duplicate"
    COPY = "copy"
    NAMES_LABEL = "names the label"
    REPETITIVE = "repetitive"
    NAMES_ANSWER = "names the answer"
    NO_QUESTION = "no question"
    NO_ANSWER = "no answer"
    LABEL_IN_DOUBT = "label in doubt"
    READ_OTHERWISE = "read otherwise"
    SURPLUS = "surplus"


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_json(value: object) -> str:
    """JSON with one spelling per value: sorted keys, no spaces, non-ASCII text unescaped."""
    return _CANONICAL.encode(value)


def digest(value: object) -> str:
    """Return the sha256 (64 hex digits) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a context.

    Attributes:
        text: the piece, byte for byte as in the context.
        start: where it begins, in characters.
    """

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Example:
    """A row of any task family: gold, or written by the teacher.

    Attributes:
        id: unique within a run, for instance ``harvest-17`` or ``round-1/extrapolate-40``.
        text: the part that the teacher writes: the text, the second text of a pair, or the question.
        label: the gold or requested label; several are joined by ``|`` in the config's order;
            empty for question answering.
        context: the given part: the other text of a pair, or the passage of a question.
        answers: right answers to a question, each a span of the context; one for written rows.
        soft_label: where a student gave the label, each label with its probability. Students that cannot learn from it take
            ``label``.
        weight: how much the row counts in training, 1 for most.

    Examples:
        >>> Example("row-1", "Where is my invoice?", "billing").label
        'billing'
    """

    id: str
    text: str
    label: str = ""
    context: str = ""
    answers: tuple[Span, ...] = ()
    soft_label: tuple[tuple[str, float], ...] = ()
    weight: float = 1.0

    @property
    def plain(self) -> bool:
        """Whether the label is certain and the row counts as most do."""
        return not self.soft_label and self.weight == 1.0


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the teacher samples; everything here but ``max_tokens`` is part of a request's key.

    Attributes:
        temperature: softmax temperature, 0 is greedy.
        top_p: nucleus mass (Holtzman et al. 2020).
        min_p: smallest probability relative to the likeliest token, 0 turns it off.
        repetition_penalty: 1 turns it off.
        max_tokens: the most tokens of an answer.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 64


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the teacher, with the place in the plan that it answers.

    Attributes:
        messages: the chat, ending with a user turn.
        sampling: see `Sampling`.
        replicate: distinguishes equal prompts that need independent answers.
        stage: the stage that asks, for instance ``round-0/seed``; not part of the key.
        index: position in the stage's plan; not part of the key.
        label: the label requested of the answer; not part of the key.
        source: id of the mistake to extrapolate, if any; not part of the key.
        context: the row's given text, if any; not part of the key (the messages show it).
        answer: the answer that the question must have; not part of the key.
        parts: how many rows the answer should contain; not part of the key (the messages say it).
        logprobs: whether a server should send the tokens' log-probabilities; not part of the key.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    replicate: int
    stage: str
    index: int
    label: str
    source: str | None = None
    context: str = ""
    answer: Span | None = None
    parts: int = 1
    logprobs: bool = False
    _kept: tuple[Mapping[str, object], str] | None = field(default=None, init=False, repr=False, compare=False)

    def key(self, teacher: Mapping[str, object]) -> str:
        """Return the identity of the answer: sha256 of everything that can change it.

        Args:
            teacher: backend, model and base URL (and precision where it matters).
        """
        kept = self._kept
        if kept is None or kept[0] != teacher:
            # The key is needed some five times before an answer becomes a row.
            kept = dict(teacher), self._key(teacher)
            object.__setattr__(self, "_kept", kept)
        return kept[1]

    def _key(self, teacher: Mapping[str, object]) -> str:
        return digest(
            {
                "teacher": dict(teacher),
                "messages": [[m.role, m.content] for m in self.messages],
                "temperature": self.sampling.temperature,
                "top_p": self.sampling.top_p,
                "min_p": self.sampling.min_p,
                "repetition_penalty": self.sampling.repetition_penalty,
                "replicate": self.replicate,
            }
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of an answer.

    Attributes:
        prompt_tokens: tokens read.
        completion_tokens: tokens written.
        cost_usd: dollars; ``None``, never 0, if no price is known.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A teacher's answer as received.

    Attributes:
        text: the answer's text, unparsed.
        finish_reason: ``stop`` ended by itself, ``length`` was cut at ``max_tokens``,
            ``refusal`` was withheld by the provider.
        usage: tokens and cost.
        raw: the body as received (HTTP) or empty (in-process).
    """

    text: str
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    raw: str = ""


@dataclass(frozen=True, slots=True)
class GeneratedRow:
    """A row that the teacher wrote or the user brought, and what was asked for.

    Attributes:
        stage: stage that asked for it.
        position: place of its request in the stage's plan; for a row in the journal, its own place in the stage.
        key: key of the answer that it was read from; empty for rows that the user brought.
        label: the requested label.
        source: id of the gold row that it was modelled on, if any.
        text: the text; empty if cleaning left nothing.
        context: the given text, if any.
        answer: the answer that the question was written for, if any.
        part: its index in an answer of several rows.
    """

    stage: str
    position: int
    key: str
    label: str
    source: str | None
    text: str
    context: str = ""
    answer: Span | None = None
    part: int = 0

    @property
    def example(self) -> Example:
        """The row as training data."""
        place = f"{self.position}.{self.part}" if self.part else f"{self.position}"
        answers = (self.answer,) if self.answer else ()
        return Example(f"{self.stage}/{place}", self.text, self.label, self.context, answers)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A generated row that has not been judged yet, with facts about its answer that only the filters need.

    Attributes:
        row: the row; its text is the answer after `stepsynth.filters.normalise.clean`, or as the user gave it.
        finish_reason: as in `Response`.
        shown: the example answers in its prompt, which it may have copied.
        cut: sentences were cut off its end because it was longer than real texts.
    """

    row: GeneratedRow
    finish_reason: FinishReason = "stop"
    shown: tuple[str, ...] = ()
    cut: bool = False

    @classmethod
    def of(cls, request: Request, key: str, text: str, finish_reason: FinishReason = "stop", part: int = 0) -> Candidate:
        """Make a candidate from an answer to a request.

        Args:
            request: the request.
            key: its key.
            text: the row's text.
            finish_reason: as in `Response`.
            part: which of the answer's rows it is.
        """
        row = GeneratedRow(
            stage=request.stage,
            position=request.index,
            key=key,
            label=request.label,
            source=request.source,
            text=text,
            context=request.context,
            answer=request.answer,
            part=part,
        )
        return cls(row, finish_reason, shown=tuple(m.content for m in request.messages if m.role == "assistant"))

    @property
    def text(self) -> str:
        """The row's text."""
        return self.row.text

    @property
    def label(self) -> str:
        """The requested label."""
        return self.row.label

    def with_text(self, text: str, *, cut: bool) -> Candidate:
        """Return a copy with another text."""
        return replace(self, row=replace(self.row, text=text), cut=cut)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The filters' decision on a candidate.

    Attributes:
        candidate: the candidate; a filter may have shortened its text.
        reason: empty for accepted rows, else why it was dropped: a `DropReason`, or the words of a user's filter.
    """

    candidate: Candidate
    reason: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the row goes into the data set."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Prediction:
    """A student's answer for one example.

    Attributes:
        example_id: the example.
        label: the likeliest label; in multi-label tasks, the likely ones joined by ``|``; the
            answer's text for question answering.
        probabilities: label -> probability, in label order; they sum to 1 except in multi-label
            tasks; the answer's text -> probability for question answering.
        start: where the answer begins in the context, in characters; -1 for other families.
    """

    example_id: str
    label: str
    probabilities: Mapping[str, float]
    start: int = -1

    @property
    def confidence(self) -> float:
        """Probability of the prediction, in [0, 1].

        Of several labels the least certain one counts; if none was predicted, 1 minus the
        highest probability.
        """
        if self.label in self.probabilities:
            return self.probabilities[self.label]
        if self.label:
            return min(self.probabilities.get(label, 0.0) for label in self.label.split("|"))
        return 1.0 - max(self.probabilities.values(), default=1.0)


@dataclass(frozen=True, slots=True)
class Graded:
    """A prediction beside the right answer.

    Attributes:
        prediction: what the student said.
        gold: the right answer as shown in tables.
        score: 1.0 is right, anything less is wrong; 0.0 is the lowest.
    """

    prediction: Prediction
    gold: str
    score: float


@dataclass(frozen=True, slots=True)
class Mistake:
    """A gold example that the student got wrong (S3, section 3.2).

    Attributes:
        example: the gold example.
        predicted: the student's label.
        confidence: the student's probability for that wrong label.
    """

    example: Example
    predicted: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A student's score on one split.

    Attributes:
        metric: name of ``value``, for instance ``accuracy``.
        value: the score in [0, 1].
        ci95: 95 % interval of ``value``.
        n: number of examples.
        details: macro-F1, MCC, per-label table and confusion matrix.
    """

    metric: str
    value: float
    ci95: tuple[float, float]
    n: int
    details: Mapping[str, Any] = field(default_factory=dict)
