"""What editors, type checkers and `help` show of a call's arguments is what it takes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import stepsynth as ss
from stepsynth.api.making import MoreArguments, PlanArguments
from stepsynth.config import BudgetConfig, MethodConfig, SourceConfig, StudentConfig, TaskConfig, TeacherConfig
from stepsynth.config.keywords import (
    AnyTask,
    AnyTeacher,
    BudgetKeys,
    MethodKeys,
    SourceKeys,
    StudentKeys,
    described,
    signature_of,
)

# The keys that no call takes by that name.
SECTIONS: list[tuple[Any, Any, set[str]]] = [
    (AnyTask, TaskConfig, {"name", "instruction", "family", "identity"}),
    (AnyTeacher, TeacherConfig, set()),
    (MethodKeys, MethodConfig, {"name", "match", "options"}),
    (StudentKeys, StudentConfig, {"model"}),
    (BudgetKeys, BudgetConfig, set()),
    (SourceKeys, SourceConfig, {"path", "hub"}),
]
NOUNS: list[Any] = [
    *(ss.Task, ss.Classification, ss.MultiLabel, ss.Pair, ss.ExtractiveQA),
    *(ss.Teacher, ss.EmbeddedTeacher, ss.OpenAITeacher, ss.AnthropicTeacher, ss.Student, ss.Budget),
    *(ss.S3, ss.S3WithGold, ss.SeedOnly, ss.CrossFit, ss.ZeroGen, ss.Gold, ss.GoldGen, ss.Annotate, ss.SelfTraining),
]


@pytest.mark.parametrize(("typed", "section", "others"), SECTIONS)
def test_typed_keys_are_the_fields_of_the_section(typed: Any, section: Any, others: set[str]) -> None:
    assert typed.__optional_keys__ == set(section.model_fields) - others


@pytest.mark.parametrize("noun", NOUNS)
def test_a_class_shows_the_keys_that_it_takes(noun: Any) -> None:
    shown = inspect.signature(noun).parameters
    assert "settings" not in shown
    assert set(shown) >= noun.known_keys() - {"family"}
    given = {"name": "t", "instruction": "Decide.", "labels": ["a", "b"], "model": "m"}
    needed = {"labels"} if noun is ss.Task else {key for key, found in shown.items() if found.default is found.empty}
    own = {key: given[key] for key in shown if key in needed | {"name", "instruction"}}
    defaults = {key: parameter.default for key, parameter in shown.items() if key not in own}
    assert noun(**own, **{key: value for key, value in defaults.items() if value}).known_keys() == noun.known_keys()
    with pytest.raises(ss.ConfigError, match="has no argument 'invented'"):
        noun(**own, invented=1)


@pytest.mark.parametrize("noun", NOUNS)
def test_its_docstring_says_what_each_key_means(noun: Any) -> None:
    for key in noun.known_keys():
        assert f"    {key}: " in noun.__doc__, key


def test_keys_are_described_with_all_their_lines() -> None:
    text = described(StudentConfig, {"stride", "epochs"})
    assert text.splitlines()[:2] == [
        "Settings:",
        "    epochs: passes over the data, but at least ``min_steps`` optimiser steps.",
    ]
    assert text.count("\n    ") == 2
    assert "regression on the frozen encoder" in described(StudentConfig, {"head"})
    assert described(StudentConfig, set()) == ""


def test_a_users_method_shows_its_own_arguments_first_and_keeps_its_docstring() -> None:
    class Twice(ss.S3):
        """Mine."""

        def __init__(self, times: int = 2, **settings: Any) -> None:
            super().__init__(**settings)
            self.times = times

    class Narrow(ss.S3):
        def __init__(self, times: int = 2) -> None:
            super().__init__()
            self.times = times

    assert list(inspect.signature(Twice).parameters) == ["times", *inspect.signature(ss.S3).parameters]
    assert list(inspect.signature(Narrow).parameters) == ["times"]
    assert Twice.__doc__ == "Mine."
    assert Twice(times=3, rounds=1).options == {"times": 3}
    assert Twice(times=3, rounds=1).values == {"name": "Twice", "rounds": 1, "options": {"times": 3}}


def test_without_docstrings_nothing_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python -OO."""
    monkeypatch.setattr(BudgetConfig, "__doc__", None)
    monkeypatch.setattr(BudgetConfig.__mro__[1], "__doc__", None)
    assert "usd" not in described(BudgetConfig, {"usd"})
    assert list(signature_of(ss.Budget.__init__, {"usd"}, BudgetConfig).parameters) == ["usd"]


@pytest.mark.parametrize(("call", "passed"), [(ss.plan, PlanArguments), (ss.compare, MoreArguments)])
def test_a_call_shows_what_it_passes_on(call: Any, passed: Any) -> None:
    shown, whole = inspect.signature(call).parameters, inspect.signature(ss.synthesize).parameters
    assert "settings" not in shown
    assert set(shown) >= passed.__optional_keys__
    assert {shown[name].default for name in ("seed", "cache")} == {whole[name].default for name in ("seed", "cache")}
    assert set(whole) - set(shown) == set() if call is ss.plan else {"method"}


def test_settings_are_read_by_name() -> None:
    assert (ss.CrossFit(rounds=3).rounds, ss.S3().rounds, ss.Gold().rounds) == (3, 2, 0)
    assert (ss.Student(epochs=7).epochs, ss.Student().head) == (7, "probe-start")
    assert ss.Classification("t", "Decide.", ["a", "b"]).labels == ["a", "b"]
    assert ss.EmbeddedTeacher().backend == "openvino"
    with pytest.raises(AttributeError, match="CrossFit has no attribute 'ruonds'"):
        _ = ss.CrossFit().ruonds
    assert not hasattr(ss.Budget(usd=3), "__deepcopy__")


@pytest.mark.parametrize(
    ("noun", "name", "said"),
    [
        (ss.Budget(requests=1000), "requests", "Budget.requests cannot be set: settings do not change. Make a new one: Budget("),
        (ss.Student(), "epohcs", "Student.epohcs cannot be set: settings do not change. Did you mean 'epochs'?"),
        (ss.CrossFit(), "seed_rows", "CrossFit.seed_rows cannot be set"),
        (ss.Classification("t", "Decide.", ["a", "b"]), "text_kind", "Classification.text_kind cannot be set"),
    ],
)
def test_settings_cannot_be_set(noun: Any, name: str, said: str) -> None:
    """It had no effect, and a budget that was lowered so was passed."""
    before = noun.values
    with pytest.raises(ss.ConfigError) as caught:
        setattr(noun, name, 5)
    assert said in str(caught.value)
    assert noun.values == before


def test_a_users_method_keeps_attributes_of_its_own() -> None:
    class Counting(ss.S3):
        def __init__(self, times: int = 2, **settings: Any) -> None:
            super().__init__(**settings)
            self.times, self.seen = times, 0

    method = Counting(rounds=1)
    method.seen += 1
    method.times = 5
    assert method.options == {"times": 5}
    with pytest.raises(ss.ConfigError, match=r"Counting\.seed_rows cannot be set"):
        method.seed_rows = 3
