"""Methods of a user: what they hand over is looked at, and where they fail they are named.

Methods of ours pass as they are: the contract `stepsynth.testing.MethodContract` is kept by them in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from stepsynth.errors import RunError, StepsynthError
from stepsynth.journal import LEARNING
from stepsynth.registry import METHODS
from stepsynth.types import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stepsynth.methods import Method, MethodContext, Plan

__all__ = ["plans_of"]

T = TypeVar("T")
_REASONS = "rationales"
_TAKEN = {*LEARNING, "import"}


def plans_of(method: Method, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
    """Yield a round's stages in order.

    Raises:
        RunError: a method of the user's failed, or yielded what is no plan.
    """
    if method.name in METHODS.built_in:
        yield from method.plans(round_number, ctx)
        return
    stages: set[str] = set()
    plans = _named(method.name, round_number, lambda: iter(method.plans(round_number, ctx)))
    while (plan := _named(method.name, round_number, lambda: next(plans, None))) is not None:
        checked = _Checked(method.name, round_number, plan, tuple(ctx.config.task.labels))
        checked.check()
        if checked.stage in stages:
            _refuse(method.name, f"yielded two stages {checked.stage!r}", "Give each stage a name of its own.")
        stages.add(checked.stage)
        yield checked


@dataclass(frozen=True)
class _Checked:
    """A plan of a user's method."""

    method: str
    round_number: int
    plan: Plan
    labels: tuple[str, ...]

    def check(self) -> None:
        stage, kind, targets = self.stage, self.kind, self.targets
        prefix = f"round-{self.round_number}/"
        if not isinstance(stage, str) or not stage.startswith(prefix) or not isinstance(kind, str) or not kind:
            _refuse(self.method, f"yielded the stage {stage!r} of kind {kind!r}", f"Let its name begin with {prefix!r}.")
        if kind in _TAKEN or (kind == _REASONS) != (stage == f"round-0/{_REASONS}") or stage.removeprefix(prefix) in _TAKEN:
            _refuse(self.method, f"yielded the stage {stage!r} of kind {kind!r}, which is taken", "Take another word.")
        several = "|" in "".join(targets) or not self.labels
        for label, target in targets.items():
            if not isinstance(target, int) or target < 0 or isinstance(target, bool):
                _refuse(self.method, f"wants {target!r} rows of {label!r}", "Give whole numbers.")
            if not several and label not in self.labels:
                _refuse(self.method, f"wants rows of {label!r}, which is no label", f"Labels: {', '.join(self.labels)}.")

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
            hint="Fix it and run the same again: no answer is lost.",
        ) from error


def _refuse(method: str, what: str, hint: str) -> NoReturn:
    raise RunError(f"the method {method!r} {what}.", hint=hint)
