"""Checks the plans of a user's method, and names the method in its errors.

Built-in methods are not checked here: tests hold them to `stepsynth.testing.MethodContract`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from stepsynth.errors import RunError, StepsynthError
from stepsynth.journal import LEARNING
from stepsynth.methods.annotate import AnnotatePlan
from stepsynth.registry import METHODS
from stepsynth.tasks.labels import split_labels
from stepsynth.types import Request, StageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stepsynth.methods import Method, MethodContext, Plan

__all__ = ["check_first_round", "plans_of"]

T = TypeVar("T")
_REASONS = "rationales"
_TAKEN = {*LEARNING, "import"}


def plans_of(method: Method, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
    """Yield a round's stages in order.

    Raises:
        RunError: a user's method failed, or yielded something other than a plan.
    """
    if method.name in METHODS.built_in:
        yield from method.plans(round_number, ctx)
        return
    stages: set[str] = set()
    plans = _named(method.name, round_number, lambda: iter(method.plans(round_number, ctx)))
    end: Any = object()
    while (plan := _named(method.name, round_number, lambda: next(plans, end))) is not end:
        if plan is None:
            _refuse(method.name, f"yielded None in round {round_number}, which is not a plan", "Leave it out, or yield a plan.")
        checked = _Checked(method.name, round_number, plan, tuple(ctx.config.task.labels), ctx.family.several_labels)
        checked.check()
        if checked.stage in stages:
            _refuse(
                method.name,
                f"yielded two stages {checked.stage!r}",
                "Give each stage its own name (of a PromptPlan: its own kind).",
            )
        stages.add(checked.stage)
        yield checked


def check_first_round(method: Method, ctx: MethodContext, given: int) -> None:
    """Check all stages of a user's method in round 0 before anything is paid for, with invented reasons.

    Args:
        method: the run's method.
        ctx: its data.
        given: rows that replace its first round.

    Raises:
        RunError: a plan is wrong, or a student would have no row to learn from.
    """
    if method.name in METHODS.built_in:
        return
    looked: list[bool] = []
    numbers = range(max(ctx.config.method.rationales, 1))
    reasons = {label: [f"{label or 'reason'} {number}" for number in numbers] for label in ctx.config.task.labels or [""]}

    def made_up() -> Mapping[str, Sequence[str]]:
        looked.append(True)
        return reasons

    try:
        wanted = sum(map(_rows_of, plans_of(method, 0, replace(ctx, rationales=made_up))))
    except RunError as error:
        # Code that fails on invented reasons may work with real ones.
        if looked and error.__cause__ is not None:
            return
        raise
    if not wanted and not given and method.student in ("written", "both"):
        hint = "Let plans(0, ctx) yield a plan that asks for rows, or write student = 'gold' in its class."
        _refuse(method.name, "asks for no rows in round 0, so its student has nothing to learn from", hint)


def _rows_of(plan: Plan) -> int:
    """Return the number of rows a plan asks for, after checking the first request of each label."""
    targets = {label: target for label, target in plan.targets.items() if target}
    for label in targets:
        plan.request(label, 0, 0)
    return 0 if plan.kind == _REASONS else sum(targets.values())


@dataclass(frozen=True)
class _Checked:
    """A plan of a user's method."""

    method: str
    round_number: int
    plan: Plan
    labels: tuple[str, ...]
    several_labels: bool = False

    def check(self) -> None:
        stage, kind, targets = self.stage, self.kind, self.targets
        prefix = f"round-{self.round_number}/"
        if not isinstance(stage, str) or not stage.startswith(prefix) or not isinstance(kind, str) or not kind:
            _refuse(
                self.method,
                f"yielded the stage {stage!r} of kind {kind!r}",
                f"Its name must begin with {prefix!r} (give a PromptPlan round_number={self.round_number}).",
            )
        # Texts that the teacher labels are of no label yet.
        labels_texts = isinstance(self.plan, AnnotatePlan)
        taken = kind in _TAKEN or stage.removeprefix(prefix) in _TAKEN or (kind == StageKind.ANNOTATE) != labels_texts
        if taken or (kind == _REASONS) != (stage == f"round-0/{_REASONS}"):
            _refuse(self.method, f"yielded the stage {stage!r} of kind {kind!r}, which is reserved", "Use another word.")
        for label, target in targets.items():
            if not isinstance(target, int) or target < 0 or isinstance(target, bool):
                _refuse(self.method, f"wants {target!r} rows of {label!r}", "Give whole numbers.")
            if not isinstance(label, str) or (self.labels and not labels_texts and not self._is_label(label)):
                _refuse(self.method, f"wants rows of {label!r}, which is not a label", f"Labels: {', '.join(self.labels)}.")

    def _is_label(self, label: str) -> bool:
        parts = split_labels(label) if self.several_labels else (label,)
        return all(part in self.labels for part in parts)

    @property
    def stage(self) -> str:
        return self._asked(lambda: self.plan.stage)

    @property
    def kind(self) -> str:
        return self._asked(lambda: self.plan.kind)

    @property
    def targets(self) -> Mapping[str, int]:
        return self._asked(lambda: dict(self.plan.targets))

    def request(self, label: str, number: int, index: int) -> Request:
        found: Any = self._asked(lambda: self.plan.request(label, number, index))
        if not isinstance(found, Request) or (found.label, found.stage, found.index) != (label, self.stage, index):
            _refuse(
                self.method,
                f"gave {type(found).__name__} for row {number} of {label!r} in {self.stage}",
                "Return a Request with that label, stage and index.",
            )
        if odd := next((m for m in found.messages if not isinstance(getattr(m, "content", None), str)), None):
            said = getattr(odd, "content", odd)
            _refuse(
                self.method, f"asks for row {number} of {label!r} in {self.stage} with {said!r:.80}, not text", "Return a string."
            )
        return found

    def _asked(self, work: Callable[[], T]) -> T:
        return _named(self.method, self.round_number, work)


def _named(method: str, round_number: int, work: Callable[[], T]) -> T:
    try:
        return work()
    except StepsynthError:
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise RunError(
            f"the method {method!r} failed in round {round_number}: {said}.",
            hint="Fix it and run it again: no answer is lost.",
        ) from error


def _refuse(method: str, what: str, hint: str) -> NoReturn:
    raise RunError(f"the method {method!r} {what}.", hint=hint)
