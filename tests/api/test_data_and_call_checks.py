"""Wrong values of calls and rows are one line; test rows that are validation rows are told in the terminal and on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest

import stepsynth as ss
from stepsynth.api.making import make_config
from stepsynth.config import parse_config
from world import LABELS, World, build_world

pytestmark = pytest.mark.usefixtures("one_thread")

STUDENT: dict[str, Any] = {"epochs": 1, "min_steps": 0, "batch_size": 16, "learning_rate": 3e-3, "max_length": 48}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def call(world: World, out: Path, **changes: Any) -> ss.Run:
    settings: dict[str, Any] = {
        "validation": world.folder / "validation.csv",
        "teacher": ss.Teacher(backend="fake", model="fake"),
        "student": ss.Student(str(world.folder / "student"), **STUDENT),
        "method": ss.Gold(),
        "cache": None,
        "progress": False,
        "out": out,
    }
    task = ss.Classification("invented", "Decide what kind of text this is.", list(LABELS))
    return ss.synthesize(task, **{**settings, **changes})


@pytest.mark.parametrize("labels", [[True, False], {True: "it is", False: "it is not"}, ["a", True], (False, "b")])
def test_labels_of_a_program_that_are_no_texts(labels: Any) -> None:
    with pytest.raises(ss.ConfigError, match=r"labels holds (True|False), which is not a text\. Write it as the text") as caught:
        ss.Classification("t", "Decide.", labels)
    assert "YAML" not in str(caught.value)


@pytest.mark.parametrize("cache", [5, 1.5, ["a"], True])
def test_a_cache_is_a_path(cache: Any, world: World, tmp_path: Path) -> None:
    with pytest.raises(ss.ConfigError, match="Give the path of a file, 'user' for your own, or None"):
        call(world, tmp_path / "run", cache=cache)


def test_a_row_that_holds_itself(world: World, tmp_path: Path) -> None:
    row: dict[str, Any] = {"text": "a text", "label": LABELS[0]}
    row["more"] = [row]
    with pytest.raises(ss.DataError, match="row 1 of validation contains itself, or is nested too deeply"):
        call(world, tmp_path / "run", validation=[{"text": "a text", "label": LABELS[0]}, row])


@pytest.mark.parametrize("filters", ["no-urls", {"name": "no-urls"}, 5])
def test_filters_are_a_list(filters: Any) -> None:
    values = {
        "task": {"name": "t", "instruction": "Decide.", "labels": ["a", "b"]},
        "data": {"validation": {"path": "rows.csv"}},
        "filters": filters,
    }
    with pytest.raises(ss.ConfigError, match="filters must be a list, not"):
        parse_config(json.loads(json.dumps(values)))


def test_test_rows_of_the_validation_data_are_told_on_the_page_too(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = call(world, tmp_path / "run", test=world.folder / "validation.csv", progress=True)
    assert "test rows are also in the validation data, so the test score is too high" in " ".join(capsys.readouterr().err.split())
    assert "Test rows that are also in the validation data" in run.report().read_text(encoding="utf-8")
    other = call(world, tmp_path / "other", test=world.folder / "test.csv")
    assert "Test rows that are also" not in other.report().read_text(encoding="utf-8")
    assert run.verify() == []


FRAME = pandas.DataFrame([[f"a text of {n} words", LABELS[n % 3]] for n in range(60)])


def config_of(columns: Any, folder: Path) -> Any:
    task = ss.Classification("invented", "Decide what kind of text this is.", list(LABELS))
    return make_config(task, folder, validation=ss.Source(FRAME, columns=columns))


@pytest.mark.parametrize("numbers", [(0, 1), tuple(FRAME.columns), (numpy.int64(0), "1")])
def test_the_columns_of_a_frame_without_a_header_are_numbers(numbers: Any, tmp_path: Path) -> None:
    source = config_of(dict(zip(("text", "label"), numbers, strict=True)), tmp_path).data.validation
    assert source.columns == {"text": "0", "label": "1"}
    assert source.rows[1] == {"0": "a text of 1 words", "1": LABELS[1]}


@pytest.mark.parametrize("name", [None, 1.5, True, ("a", "b"), ["a"]])
def test_what_is_no_name_of_a_column(name: object, tmp_path: Path) -> None:
    with pytest.raises(ss.ConfigError, match=r"data\.validation\.columns\.text (is empty|must be)"):
        config_of({"text": name}, tmp_path)


@pytest.mark.parametrize("ours", [0, None, ("a", "b")])
def test_what_is_no_column_of_ours(ours: object, tmp_path: Path) -> None:
    with pytest.raises(ss.ConfigError, match=r"data\.validation"):
        config_of({ours: "text"}, tmp_path)
