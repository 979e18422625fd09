"""What a simulated run asks for, what its teacher answers, and the rows that it has when nothing ever happens."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import cache, cached_property

from stepsynth.config import PriceConfig, TeacherConfig
from stepsynth.filters import FilterPipeline
from stepsynth.filters.duplicate import Duplicate
from stepsynth.filters.schema import Schema
from stepsynth.types import FinishReason, Message, Request, Response, Sampling, StageKind, Usage

__all__ = ["SHAPES", "WORST_TOKENS", "Plan", "Shape", "shape_of"]

SHAPES = 48
_LABELS = ("kalm", "warm", "kold")
_MOST_TOKENS = 24
_PRICE = PriceConfig(input=1000.0, output=2000.0)
_WORDS = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "islet", "juniper", "kelp", "lark")
# What the budget guard reserves for one request: bytes, tokens of the template, and the longest answer.
WORST_TOKENS = 70


@dataclass(frozen=True)
class Plan:
    """A stage of a simulated run; pure, as every plan is."""

    shape: Shape
    stage: str
    targets: dict[str, int]

    @property
    def kind(self) -> str:
        return StageKind.SEED

    def request(self, label: str, number: int, index: int) -> Request:
        """Return a request; those of one label differ in their replicate, or in their words if they are sent one by one."""
        words = f"{self.shape.number} {self.stage} {label}"
        if not self.shape.alike:
            words = f"{words} {number}"
        sampling = Sampling(max_tokens=_MOST_TOKENS)
        return Request((Message("user", words),), sampling, number, self.stage, index, label, parts=self.shape.parts)


@dataclass(frozen=True)
class Shape:
    """Everything that the rows of a run may depend on: stages, targets, the yield of answers.

    Attributes:
        number: which of the `SHAPES` it is; it is part of every prompt.
        labels: the labels.
        wanted: accepted rows per label and stage.
        stages: how many stages.
        alike: whether requests of a label share a prompt, so that several may be sent together.
        parts: rows per answer.
        poor: share of answers that are dropped.
        refuses: whether the teacher refuses a few requests for good.
        counts: whether the teacher reports tokens.
        feedback: whether the teacher is told what to avoid.
    """

    number: int
    labels: tuple[str, ...]
    wanted: int
    stages: int
    alike: bool
    parts: int
    poor: float
    refuses: bool
    counts: bool
    feedback: bool

    @cached_property
    def plans(self) -> tuple[Plan, ...]:
        """The stages in order."""
        return tuple(Plan(self, f"round-{n}/seed", dict.fromkeys(self.labels, self.wanted)) for n in range(self.stages))

    @staticmethod
    def pipeline(plan: Plan) -> FilterPipeline:
        """The rules: of a row alone, against others, and the number per label."""
        rules = FilterPipeline.for_rationales(plan.targets).filters
        return FilterPipeline((Schema(min_words=2, max_words=60), Duplicate(), rules[-1]))

    def teacher(self, **changes: object) -> TeacherConfig:
        """Return a teacher's config; only keys that cannot change an answer are changed."""
        return _teacher().model_copy(update=changes)

    def refused(self, key: str) -> bool:
        """Whether the teacher refuses a request whenever it is asked."""
        return self.refuses and int(key[:4], 16) % 37 == 0

    def answer(self, key: str) -> Response:
        """Return the answer to a request; it depends on the request alone."""
        return _answer(key, self.poor, self.parts, self.counts)


@cache
def _teacher() -> TeacherConfig:
    # Checked once: to know all teachers, it looks through the installed packages.
    return TeacherConfig(backend="openai", model="sim", base_url="http://sim.invalid/v1", price=_PRICE)


@cache
def shape_of(number: int) -> Shape:
    """Return one of the shapes; its number decides everything."""
    draw = random.Random(number)
    alike = number % 4 == 0
    return Shape(
        number=number,
        labels=_LABELS[: draw.choice((1, 2, 2, 3))],
        wanted=draw.choice((1, 2, 3, 5)),
        stages=draw.choice((1, 1, 2)),
        alike=alike,
        parts=3 if number % 6 == 5 else 1,
        poor=draw.choice((0.0, 0.2, 0.5)),
        # A group that shares a prompt is refused as a whole, so what is refused would depend on how it is grouped.
        refuses=not alike and draw.random() < 0.4,
        counts=draw.random() < 0.85,
        feedback=draw.random() < 0.3,
    )


@cache
def _answer(key: str, poor: float, parts: int, counts: bool) -> Response:
    draw = _Digits(key)
    texts = [_text(draw, poor) for _ in range(parts)]
    text = texts[0] if parts == 1 else "\n".join(f"{place}. {line}" for place, line in enumerate(texts, 1))
    usage = Usage(8 + draw.below(12), 1 + draw.below(_MOST_TOKENS)) if counts else Usage(0, 0)
    finish: FinishReason = "length" if draw.below(100) < 100 * poor / 4 else "stop"
    return Response(text, finish, usage, f'{{"id": "{key[:12]}"}}')


def _text(draw: _Digits, poor: float) -> str:
    chance = draw.below(100)
    if chance < 100 * poor / 2:
        # One of a few texts, so the second time it is a duplicate.
        return f"The {_WORDS[draw.below(4)]} again."
    if chance < 100 * poor:
        return ""
    return f"The {_WORDS[draw.below(12)]} meets {draw.below(2**20)} {_WORDS[draw.below(12)]}s."


class _Digits:
    """Numbers from a digest, so that an answer depends on its key and nothing else."""

    def __init__(self, key: str) -> None:
        self._bytes = hashlib.sha256(key.encode()).digest() * 4
        self._at = 0

    def below(self, most: int) -> int:
        self._at += 3
        return int.from_bytes(self._bytes[self._at - 3 : self._at], "big") % most
