"""Own families that are not as they should be, and runs whose family is not here: one line, before anything is spent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import stepsynth as ss
from command import stepsynth
from stepsynth.registry import FAMILIES
from stepsynth.tasks import Classification
from world import LABELS, World, build_world

pytestmark = pytest.mark.usefixtures("one_thread")

METHOD = {"seed_rows": 12, "rounds": 0, "rationales": 2, "label_check": "none"}
STUDENT = {"epochs": 1, "min_steps": 0, "batch_size": 16, "learning_rate": 3e-3, "max_length": 48}


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
    assert "dataset.jsonl is not what the journal gives" in damaged.out
