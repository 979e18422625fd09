"""Own filters that are not as they should be: one line, before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepsynth as ss
from stepsynth.filters.own import describe_filter, own_filters
from stepsynth.registry import FILTERS
from stepsynth.types import DropReason
from world import LABELS, World, build_world

pytestmark = pytest.mark.usefixtures("one_thread")

METHOD: dict[str, Any] = {"seed_rows": 12, "rounds": 0, "rationales": 2, "label_check": "none"}
STUDENT: dict[str, Any] = {"epochs": 1, "min_steps": 0, "batch_size": 16, "learning_rate": 3e-3, "max_length": 48}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def call(world: World, out: Path, *filters: Any) -> ss.Run:
    return ss.synthesize(
        ss.Classification("invented", "Decide what kind of text this is.", {label: f"about {label}" for label in LABELS}),
        validation=world.folder / "validation.csv",
        teacher=ss.Teacher(backend="fake", model="fake"),
        student=ss.Student(str(world.folder / "student"), **STUDENT),
        method=ss.S3(**METHOD),
        filters=filters,
        cache=None,
        out=out,
        progress=False,
    )


class Keeping(ss.RowFilter):
    def __init__(self, limit: Any = 3) -> None:
        self.limit = limit

    def keep(self, row: ss.Example) -> bool:
        return True


class Counting(Keeping):
    def __init__(self) -> None:
        self.seen = 0

    def keep(self, row: ss.Example) -> bool:
        self.seen += 1
        return True


def named(**attributes: Any) -> ss.RowFilter:
    made: ss.RowFilter = type("Spoilt", (Keeping,), attributes)()
    return made


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"reason": 5}, "the reason of the filter 'Spoilt' is 5, a int."),
        ({"name": 5}, "the name of the filter 'Spoilt' is 5"),
        *(
            ({"reason": str(reason)}, f"drops rows for the reason {str(reason)!r}, which a built-in rule already has")
            for reason in DropReason
        ),
        ({"name": "surplus"}, "the filter 'surplus' drops rows for the reason 'surplus'"),
        ({"reason": " Duplicate"}, "drops rows for the reason ' Duplicate'"),
    ],
)
def test_a_reason_is_a_text_of_its_own(attributes: dict[str, Any], said: str, world: World, tmp_path: Path) -> None:
    with pytest.raises(ss.ConfigError) as caught:
        call(world, tmp_path / "run", named(**attributes))
    assert said in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_one_that_is_registered_is_checked_as_well(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FILTERS, "_given", {"spoilt": type(named(reason="failed"))})
    config = ss.Config.of(call(world, tmp_path / "run", Keeping()).config)
    entry = config.filters[0].model_copy(update={"name": "spoilt", "options": {}})
    with pytest.raises(ss.ConfigError, match="for the reason 'failed'"):
        own_filters([entry])


def test_attributes_are_taken_as_those_of_methods() -> None:
    assert describe_filter(Keeping(np.int64(3))) == describe_filter(Keeping(3))
    assert describe_filter(Keeping(Path("a") / "b")) == {"name": "Keeping", "options": {"limit": "a/b"}}


def test_one_that_counts_in_public_is_told_how_not_to(world: World, tmp_path: Path) -> None:
    counting = Counting()
    call(world, tmp_path / "run", counting)
    with pytest.raises(ss.RunError, match="give attributes that a filter changes itself a leading underscore"):
        call(world, tmp_path / "run", counting)


class Answering(ss.RowFilter):
    """Answers gold rows with one value and written rows with another."""

    def __init__(self, gold: Any, written: Any = True) -> None:
        self._gold, self._written = gold, written

    def keep(self, row: ss.Example) -> Any:
        return self._written if row.id.startswith("round-") else self._gold


@pytest.mark.parametrize("answer", [None, 1, 0, "yes", [], np.array([True])])
def test_a_filter_answers_with_true_or_false(answer: Any, world: World, tmp_path: Path) -> None:
    with pytest.raises(ss.ConfigError, match=r"^the filter 'Answering' returned .* from keep\(\), not True or False\. Return"):
        call(world, tmp_path / "run", Answering(answer))
    assert not (tmp_path / "run").exists()


def test_the_first_written_row_without_a_verdict_ends_the_run(world: World, tmp_path: Path) -> None:
    with pytest.raises(ss.RunError, match=r"^the filter 'Answering' returned None from keep\(\), not True or False\. Fix it"):
        call(world, tmp_path / "run", Answering(True, None))
    run = call(world, tmp_path / "run", Answering(np.True_, np.True_))
    assert run.finished
