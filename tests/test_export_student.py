"""Exported students: ONNX and OpenVINO answer as PyTorch does, or there is no file."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from family_worlds import FAMILIES, build_family_world, lend_student, rows_of
from stepsynth.api.student import TrainedStudent
from stepsynth.errors import ConfigError, RunError
from stepsynth.execution import execute
from stepsynth.exporting import agreement, conversion, engines
from stepsynth.exporting.conversion import export_student, fill_folder
from stepsynth.exporting.loading import load_model, stored_form
from stepsynth.run import RunDirectory
from stepsynth.students import create_student
from stepsynth.tasks import create_family

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytestmark = pytest.mark.usefixtures("one_thread")

FORMS = ("onnx", "openvino")
HEADS = ("fresh", "probe")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each family, and of each other head."""
    base = tmp_path_factory.mktemp("runs")
    student, made = lend_student(base / "student", spread=0.2), {}
    for name in (*FAMILIES, *HEADS):
        changes = {"method.name": "s3", "method.rounds": 0} | ({"student.head": name} if name in HEADS else {})
        family = "classification" if name in HEADS else name
        world = build_family_world(base / name, family, student=student, **changes)
        made[name] = base / f"run-{name}"
        execute(world.config(), made[name])
    return made


def texts_of(family: str, count: int) -> list[Any]:
    """Texts that no run has seen, of different lengths, in the columns of the family."""
    columns = ("text",) if family in ("classification", "multi_label") else None
    rows = [{key: text for key, text in row.items() if isinstance(text, str) and key != "label"} for row in rows_of(family, count, 60)]
    rows[0] = {key: " ".join([text] * 12) for key, text in rows[0].items()}
    return [row["text"] for row in rows] if columns else rows


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*FAMILIES, *HEADS])
def test_a_float32_export_answers_as_pytorch_does(runs: dict[str, Path], name: str, form: str, tmp_path: Path) -> None:
    directory = RunDirectory.read(runs[name])
    found = export_student(directory, tmp_path / "out", form)
    assert found.agreement.same == found.agreement.rows == sum(found.rows.values())
    assert found.agreement.furthest <= agreement.TOLERANCE
    assert set(found.rows) == {"select", "test"}
    exported = TrainedStudent.load(tmp_path / "out")
    trained = TrainedStudent(directory.config, directory.model_path(0))
    texts = texts_of("classification" if name in HEADS else name, 9)
    assert exported.predict(texts) == trained.predict(texts)
    for ours, theirs in zip(exported.predict_proba(texts), trained.predict_proba(texts), strict=True):
        assert ours == pytest.approx(theirs, abs=agreement.TOLERANCE)
    assert exported.predict(texts[:1]) == trained.predict(texts[:1])
    told = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))["stepsynth"]
    assert told["labels"] == list(directory.config.task.labels)
    assert told["settings"]["max_length"] == 48
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
