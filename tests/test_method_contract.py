"""Every built-in method keeps the contract that authors of methods are given, and a method that breaks it is found out."""

from __future__ import annotations

import doctest
import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from family_worlds import FAMILIES
from own_method import Between
from stepsynth import testing
from stepsynth.methods import MethodContext, Plan
from stepsynth.registry import METHODS
from stepsynth.types import Request

ROWS = 12


class _OfOurs(testing.MethodContract):
    families = FAMILIES

    def wanted(self) -> int | None:
        return ROWS


class TestS3(_OfOurs):
    def make(self) -> ss.Method:
        return ss.S3(seed_rows=ROWS)


class TestS3FromGold(_OfOurs):
    def make(self) -> ss.Method:
        return ss.S3(seed_rows=ROWS, seed_from="gold", demonstrations="fixed", rationales=0)


class TestCrossFit(_OfOurs):
    def make(self) -> ss.Method:
        return ss.CrossFit(seed_rows=ROWS)


class TestS3WithGold(_OfOurs):
    def make(self) -> ss.Method:
        return ss.S3WithGold(seed_rows=ROWS, balance="mistakes")


class TestSeedOnly(_OfOurs):
    def make(self) -> ss.Method:
        return ss.SeedOnly(seed_rows=ROWS)


class TestZeroGen(_OfOurs):
    def make(self) -> ss.Method:
        return ss.ZeroGen(seed_rows=ROWS)


class TestGoldGen(_OfOurs):
    def make(self) -> ss.Method:
        return ss.GoldGen(seed_rows=ROWS)


class TestGold(testing.MethodContract):
    families = FAMILIES

    def make(self) -> ss.Method:
        return ss.Gold()

    def wanted(self) -> int:
        return 0


class TestTeacherAlone(TestGold):
    def make(self) -> ss.Method:
        return ss.TeacherAlone(few_shot=2)


class TestSelfTraining(TestGold):
    def make(self) -> ss.Method:
        return ss.SelfTraining(pool_rows=20)


class TestAnnotate(_OfOurs):
    def make(self) -> ss.Method:
        return ss.Annotate(seed_rows=ROWS, rounds=1, rows_per_mistake=3)


class TestBetween(testing.MethodContract):
    """A method outside of the package, in one file."""

    families = ("classification", "pair")

    def make(self) -> ss.Method:
        return Between(per_label=5, again=True)

    def wanted(self) -> int:
        return 10


def test_every_method_of_ours_is_held_to_it() -> None:
    suites = [found for name, found in globals().items() if name.startswith("Test")]
    made = {suite().make().name for suite in suites}
    assert set(METHODS.built_in) <= made


class Wrong(Between):
    """Breaks one promise."""

    how = ""

    def plans(self, round_number: int, ctx: MethodContext) -> Iterator[Plan]:
        calls = count()
        for plan in super().plans(round_number, ctx):
            yield _Broken(plan, self.how, calls, ctx)


class _Broken:
    def __init__(self, plan: Plan, how: str, calls: Iterator[int], ctx: MethodContext) -> None:
        self.plan, self.how, self.calls, self.ctx = plan, how, calls, ctx
        self.stage, self.kind = plan.stage, plan.kind

    @property
    def targets(self) -> dict[str, int]:
        return {label: 0 if self.how == "no rows" else target for label, target in self.plan.targets.items()}

    def request(self, label: str, number: int, index: int) -> Request:
        found = self.plan.request(label, number, index)
        changes: dict[str, Any] = {
            "remembers": {"replicate": next(self.calls)},
            "same again": {"replicate": 0, "messages": found.messages[:0]},
            "one seed": {"replicate": number, "messages": (replace(found.messages[0], content=f"{self.stage} {label}"),)},
            "other source": {"source": "validation-30"},
            "hidden": {"messages": (replace(found.messages[0], content=hidden()),)},
        }
        return replace(found, **changes.get(self.how, {}))


def hidden() -> str:
    from stepsynth.config import TaskConfig
    from stepsynth.tasks import create_family
    from stepsynth.testing.methods import _rows

    task = TaskConfig(name="days", instruction="Decide.", labels={"calm": "", "storm": ""})
    return _rows(create_family(task), 1, 20)[0].text


@pytest.mark.parametrize(
    ("how", "test"),
    [
        ("remembers", "test_a_request_is_the_same_whatever_was_asked_before"),
        ("same again", "test_no_request_is_asked_twice"),
        ("one seed", "test_another_seed_asks_otherwise"),
        ("no rows", "test_targets_are_rows_of_labels"),
        ("other source", "test_a_request_says_what_its_row_is"),
        ("hidden", "test_no_prompt_shows_what_it_must_not"),
    ],
)
def test_a_method_that_breaks_it_is_found_out(how: str, test: str) -> None:
    class Suite(testing.MethodContract):
        def make(self) -> ss.Method:
            own: type[ss.Method] = type("Wrong", (Wrong,), {"how": how})
            return own()

    with pytest.raises(AssertionError):
        getattr(Suite(), test)()


def test_the_example_of_the_document_keeps_it() -> None:
    text = (Path(__file__).parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")
    scope: dict[str, Any] = {"__name__": "docs"}
    for snippet in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(snippet, scope)
    suite = scope["TestBetween"]()
    tests = [name for name in dir(suite) if name.startswith("test_")]
    assert len(tests) > 5
    for name in tests:
        getattr(suite, name)()
    assert scope["Between"](per_label=8).values == {"name": "between", "options": {"per_label": 8}}


@pytest.mark.parametrize("module", ["base", "baselines", "crossfit", "prompted", "s3"])
def test_the_examples_in_docstrings_are_right(module: str) -> None:
    found = importlib.import_module(f"stepsynth.methods.{module}")
    assert doctest.testmod(found).failed == 0
    assert ">>>" in Path(str(found.__file__)).read_text(encoding="utf-8")
