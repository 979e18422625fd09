"""Own families that are not as they should be, and runs whose family is not here: one line, before anything is spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepsynth as ss
from command import stepsynth
from stepsynth.registry import FAMILIES
from stepsynth.tasks import Classification
from stepsynth.types import Prediction
from world import LABELS, World, build_world

pytestmark = pytest.mark.usefixtures("one_thread")

METHOD: dict[str, Any] = {"seed_rows": 12, "rounds": 0, "rationales": 2, "label_check": "none"}
STUDENT: dict[str, Any] = {"epochs": 1, "min_steps": 0, "batch_size": 16, "learning_rate": 3e-3, "max_length": 48}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FAMILIES, "_given", {})


def call(world: World, out: Path, family: type[ss.TaskFamily]) -> ss.Run:
    return ss.synthesize(
        ss.Task("invented", "Decide what kind of text this is.", family=family, labels=list(LABELS)),
        validation=world.folder / "validation.csv",
        teacher=ss.Teacher(backend="fake", model="fake"),
        student=ss.Student(str(world.folder / "student"), **STUDENT),
        method=ss.S3(**METHOD),
        cache=None,
        progress=False,
        out=out,
    )


class Marked(Classification):
    """Writes a column of its own."""

    def record(self, example: ss.Example) -> dict[str, object]:
        return {"body": example.text, "label": example.label}


def test_a_data_set_is_left_as_it_is_without_the_class(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = call(world, tmp_path / "run", Marked)
    file = run.path / "dataset.jsonl"
    before = file.read_bytes()
    assert "body" in json.loads(before.splitlines()[0])
    assert run.verify() == []
    monkeypatch.setattr(FAMILIES, "_given", {})
    checked = stepsynth(capsys, "verify", run.path)
    assert (checked.code, len(checked.err.splitlines())) == (0, 1)
    assert "dataset.jsonl cannot be compared without the class of the task family 'Marked'" in checked.err
    written = stepsynth(capsys, "report", run.path)
    assert written.code == 0
    assert "dataset.jsonl cannot be written without the class of the task family 'Marked'" in written.err
    assert file.read_bytes() == before
    # A row that is missing is seen all the same.
    file.write_bytes(b"".join(before.splitlines(keepends=True)[1:]))
    damaged = stepsynth(capsys, "verify", run.path)
    assert damaged.code == 1
    assert "dataset.jsonl does not match the journal" in damaged.out


class Numpy(Classification):
    """Scores as numpy does."""

    def score(self, example: ss.Example, prediction: Prediction) -> Any:
        return np.float32(example.label == prediction.label)


def test_numbers_of_numpy_are_scores(world: World, tmp_path: Path) -> None:
    run = call(world, tmp_path / "run", Numpy)
    assert run.finished
    assert isinstance(run.scores[0]["select"]["value"], float)


def spoilt(**attributes: Any) -> type[ss.TaskFamily]:
    return type("Spoilt", (Classification,), attributes)


def failing(self: Any, task: Any) -> None:
    raise KeyError("nothing")


def wrong_is(value: object) -> Any:
    return lambda self, example, prediction: 1.0 if example.label == prediction.label else value


@pytest.mark.parametrize(
    ("family", "said"),
    [
        (
            {"score": wrong_is(float("nan"))},
            "failed on wrong answers to the validation rows: ValueError: score() gave nan",
        ),
        ({"score": wrong_is(-1)}, "score() gave -1 for row"),
        ({"score": wrong_is(None)}, "score() gave None for row"),
        ({"score": wrong_is("0.5")}, "score() gave '0.5' for row"),
        ({"score": lambda self, e, p: {e.label: 1.0}[p.label]}, "failed on wrong answers to the validation rows: KeyError"),
        ({"score": lambda self, e, p: 1.5}, "failed on the validation rows: ValueError: score() gave 1.5"),
        (
            {"groups": lambda self, gold, rows: {"klam": rows}},
            "asks for rows of 'klam' in groups(), which is not a label of the task.",
        ),
        ({"groups": lambda self, gold, rows: {"kalm": rows / 2}}, "returns {'kalm': 6.0} from groups()"),
        ({"groups": lambda self, gold, rows: None}, "returns None from groups()"),
        ({"evaluate": lambda self, gold, predictions: None}, "returns None from evaluate()"),
        ({"evaluate": lambda self, gold, predictions: {"score": 1.0}}, "returns {'score': 1.0} from evaluate()"),
        ({"record": lambda self, example: None}, "returns None from record()"),
        ({"record": lambda self, example: {"source": "x"}}, "has a column 'source', which a data set uses for a row's origin"),
        ({"texts": lambda self, example: example.text}, "from texts(). Return a tuple of one or two texts"),
        ({"variables": lambda self, label, row: None}, "returns None from variables(). Return a dict"),
        ({"variables": lambda self, label, row: 1 / 0}, "failed on the variables of a prompt: ZeroDivisionError"),
        ({"prompts": {"zerogn": "--- user\nWrite."}}, "has a prompt 'zerogn', which is not a template. Did you mean 'zerogen'?"),
        ({"written": 5}, "has written = 5. Write written as a text in the class."),
        ({"written": ""}, "has written = ''. Name written in the class."),
        ({"kept": "text"}, "has 'text' as both kept and written."),
        ({"written": "label"}, "keeps a text in the column 'label', which holds answers."),
        ({"metric": 5}, "has metric = 5."),
        ({"__init__": failing}, "the task family plug-in 'Spoilt' failed: KeyError: 'nothing'. Correct it."),
        (
            {"check_config": lambda self, config: None},
            "check_config of the task family 'Spoilt' is an ordinary method; write @classmethod above it.",
        ),
        ({"check_task": lambda self, task: None}, "check_task of the task family 'Spoilt' is an ordinary method"),
    ],
)
def test_what_a_class_gets_wrong_is_one_line_before_anything_is_spent(
    family: dict[str, Any], said: str, world: World, tmp_path: Path
) -> None:
    with pytest.raises(ss.ConfigError) as caught:
        call(world, tmp_path / "run", spoilt(**family))
    assert said in str(caught.value)
    assert "'Spoilt'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
