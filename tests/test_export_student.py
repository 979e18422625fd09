"""Exported students: ONNX and OpenVINO answer as PyTorch does, or there is no file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from command import stepsynth
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

ROOT = Path(__file__).parents[1]
FORMS = ("onnx", "openvino")
HEADS = ("fresh", "probe")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each family, and of each other head."""
    base = tmp_path_factory.mktemp("runs")
    student, made = lend_student(base / "student", spread=0.2), {}
    for name in (*FAMILIES, *HEADS):
        changes: dict[str, Any] = {"method.name": "s3", "method.rounds": 0} | ({"student.head": name} if name in HEADS else {})
        family = "classification" if name in HEADS else name
        world = build_family_world(base / name, family, student=student, **changes)
        made[name] = base / f"run-{name}"
        execute(world.config(), made[name])
    return made


def texts_of(family: str, count: int) -> list[Any]:
    """Texts that no run has seen, of different lengths, in the columns of the family."""
    columns = ("text",) if family in ("classification", "multi_label") else None
    rows = [
        {key: text for key, text in row.items() if isinstance(text, str) and key != "label"} for row in rows_of(family, count, 60)
    ]
    rows[0] = {key: " ".join([text] * 12) for key, text in rows[0].items()}
    return [row["text"] for row in rows] if columns else rows


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*FAMILIES, *HEADS])
def test_a_float32_export_answers_as_pytorch_does(runs: dict[str, Path], name: str, form: str, tmp_path: Path) -> None:
    directory = RunDirectory.read(runs[name])
    found = export_student(directory, tmp_path / "out", form)
    assert found.agreement.same == found.agreement.rows == sum(part.rows for part in found.splits.values())
    assert found.agreement.furthest <= agreement.TOLERANCE
    assert set(found.splits) == {"select", "test"}
    assert all(part.same == part.rows for part in found.splits.values())
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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["classification", "multi_label", "extractive_qa"])
def test_eight_bits_are_smaller_and_tell_what_they_cost(runs: dict[str, Path], name: str, form: str, tmp_path: Path) -> None:
    if form == "openvino":
        pytest.importorskip("nncf")
    directory = RunDirectory.read(runs[name])
    found = export_student(directory, tmp_path / "out", form, "int8", max_loss=100)
    low, high = found.agreement.difference.ci95
    assert low <= found.agreement.difference.difference <= high
    assert f"{found.agreement.same} of {found.agreement.rows}" in str(found)
    assert found.agreement.furthest > 0
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    # Test rows tell nothing that the file is made of.
    assert (found.calibrated_on > 0) == (form == "openvino")
    answers = TrainedStudent.load(tmp_path / "out").predict(texts_of(name, 3))
    assert len(answers) == 3


def test_an_export_in_eight_bits_says_what_it_costs_on_the_screen_and_its_card_has_its_own_score(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = runs["classification"], tmp_path / "out"
    options = ("export", run, folder, "--student", "onnx-int8", "--max-loss", 100)
    told = json.loads(stepsynth(capsys, *options, "--json").out)["proof"]
    assert (told["form"], told["precision"], set(told["rows"])) == ("onnx", "int8", {"select", "test"})
    assert told["exported"] - told["trained"] == pytest.approx(told["difference"])
    card = ModelCard.load(folder / "student" / "README.md")
    (result,) = card.data.eval_results or []
    splits = agreement.proof_rows(RunDirectory.read(run), 0).rows
    rows, everything = splits["test"], [row.text for split in splits.values() for row in split]
    assert list(splits)[-1] == "test"
    # Together with the select rows, as they were proved: in eight bits an answer depends on its batch.
    answers = TrainedStudent.load(folder / "student").predict(everything)[-len(rows) :]
    right = sum(answer == row.label for answer, row in zip(answers, rows, strict=True))
    assert result.metric_value == pytest.approx(right / len(rows), abs=1e-4)
    shutil.rmtree(folder)
    shown = stepsynth(capsys, *options).out
    assert f"{told['same_answers']} of {sum(told['rows'].values())} answers are PyTorch's; the score changes by" in shown
    shutil.rmtree(folder)

    # A test set of which not all rows were compared has no score of the files.
    monkeypatch.setattr(agreement, "MOST_ROWS", 5)
    stepsynth(capsys, *options)
    assert not ModelCard.load(folder / "student" / "README.md").data.eval_results
    refused = stepsynth(capsys, *options[:2], tmp_path / "more", *options[3:5], "--max-loss", "nan")
    assert (refused.code, (tmp_path / "more").exists()) == (2, False)
    assert "max_loss is nan" in refused.err


def test_calibration_sees_written_rows_only(runs: dict[str, Path]) -> None:
    directory = RunDirectory.read(runs["classification"])
    proof = agreement.proof_rows(directory, 0)
    seen = {row.text for row in proof.calibration}
    assert seen
    assert not seen & {row.text for row in proof.examples}
    assert all(row.id.startswith("round-") for row in proof.calibration)


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_weight_is_refused_and_leaves_nothing(
    runs: dict[str, Path], form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is written from a network that is not quite the trained one."""
    write = conversion._write_model

    def broken(engine: Any, model: Any, *rest: Any) -> None:
        weight = next(value for name, value in model.network.named_parameters() if "LayerNorm.weight" in name)
        before = weight.detach().clone()
        weight.data[0] += 0.5
        write(engine, model, *rest)
        weight.data.copy_(before)

    monkeypatch.setattr(conversion, "_write_model", broken)
    with pytest.raises(RunError, match="does not answer as the student does in PyTorch") as refused:
        export_student(RunDirectory.read(runs["classification"]), tmp_path / "out", form)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_over_the_limit_is_refused_and_leaves_nothing(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch is right everywhere, eight bits nowhere: a loss of 100 points."""
    directory = RunDirectory.read(runs["classification"])
    monkeypatch.setattr(
        agreement, "score_of", lambda family, row, found: float(found.example_id != "" and found is right.get(row.id))
    )
    right: dict[str, Any] = {}
    compare = agreement.compare

    def remembered(family: Any, examples: Any, before: Any, after: Any) -> Any:
        right.update({found.example_id: found for found in before})
        return compare(family, examples, before, after)

    monkeypatch.setattr(conversion, "compare", remembered)
    with pytest.raises(RunError, match=r"loses 100\.0 points: -100\.0 \[.*max_loss is 1\.") as refused:
        export_student(directory, tmp_path / "out", "onnx", "int8")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_gain_is_no_loss(runs: dict[str, Path]) -> None:
    directory = RunDirectory.read(runs["classification"])
    family, rows = create_family(directory.config.task), agreement.proof_rows(directory, 0).examples
    predictions = create_student(directory.config).load(directory.model_path(0)).predict(rows)
    found = agreement.compare(family, rows, predictions, predictions)
    assert (found.loss, found.furthest, found.same) == (0.0, 0.0, len(rows))
    agreement.check_same(found, "it")
    agreement.check_score(found, "it", 0.0)


def test_an_unknown_form_gets_the_nearest_one(runs: dict[str, Path], tmp_path: Path) -> None:
    directory = RunDirectory.read(runs["classification"])
    with pytest.raises(ConfigError, match=r"form of a student is 'onxx'\. .*onnx"):
        export_student(directory, tmp_path / "out", "onxx")
    with pytest.raises(ConfigError, match=r"precision of a student is 'int4'\. .*int8"):
        export_student(directory, tmp_path / "out", "onnx", "int4")
    for loss in (-1, 101, float("nan"), "1", True):
        with pytest.raises(ConfigError, match="max_loss is"):
            export_student(directory, tmp_path / "out", "onnx", "int8", max_loss=loss)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDirectory.read(runs["classification"])
    for package, form, command in (
        ("onnxruntime", "onnx", r"pip install 'stepsynth\[onnx\]'"),
        ("nncf", "openvino", r"pip install 'stepsynth\[int8\]'"),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ConfigError, match=f"needs the package {package}. Install it with: {command}"):
            export_student(directory, tmp_path / "out", form, "int8")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept", encoding="utf-8")
    with pytest.raises(ConfigError, match="exists already"):
        export_student(RunDirectory.read(runs["classification"]), tmp_path / "out", "onnx")
    assert (tmp_path / "out" / "mine").read_text(encoding="utf-8") == "kept"


def test_a_full_disk_is_one_line_and_leaves_nothing(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engines.choose("onnx", "fp32"), "convert", full)
    with pytest.raises(RunError, match="cannot be written: No space left on device"):
        export_student(RunDirectory.read(runs["classification"]), tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_students_own_class_and_a_teacher_alone_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    directory = RunDirectory.read(runs["classification"])
    student = directory.config.student.model_copy(update={"kind": "mine"})
    own = RunDirectory(directory.path, directory.config.model_copy(update={"student": student}))
    with pytest.raises(ConfigError, match=r"'mine' is your own class.*safetensors"):
        export_student(own, tmp_path / "out", "openvino")
    changes: dict[str, Any] = {"method.name": "teacher"}
    world = build_family_world(tmp_path / "world", "classification", **changes)
    execute(world.config(), tmp_path / "alone")
    with pytest.raises(RunError, match="has no student: the teacher answered itself"):
        export_student(RunDirectory.read(tmp_path / "alone"), tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_any_folder_of_a_student_is_loaded(runs: dict[str, Path], tmp_path: Path) -> None:
    directory = RunDirectory.read(runs["classification"])
    rows = agreement.proof_rows(directory, 0).examples
    trained = load_model(directory.config, directory.model_path(0)).predict(rows)
    (tmp_path / "out").mkdir()
    fill_folder(directory, 0, tmp_path / "out", "onnx")
    assert [found.label for found in load_model(directory.config, tmp_path / "out").predict(rows)] == [f.label for f in trained]
    assert (stored_form(directory.model_path(0)), stored_form(tmp_path / "out")) == ("", "onnx")
    with pytest.raises(ConfigError, match="this student is onnx"):
        TrainedStudent.load(tmp_path / "out").pipeline()
    # Damaged, it says so in one line.
    (tmp_path / "out" / "model.onnx").write_bytes(b"no model")
    with pytest.raises(RunError, match="cannot be loaded") as refused:
        TrainedStudent.load(tmp_path / "out").predict(["a text"])
    assert "\n" not in str(refused.value)
    shutil.rmtree(tmp_path / "out")


# without stepsynth ---------------------------------------------------------------------------------


def run_alone(name: str, folder: Path, question: str) -> Any:
    """Run an example of docs/serving.md beside an export in a process that has neither stepsynth nor torch."""
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"<!-- serving: {name} -->\n```python\n(.*?)```", page, re.DOTALL)
    hidden = (
        "import sys\nfor name in ('stepsynth', 'torch', 'transformers', 'openvino_telemetry'):\n    sys.modules[name] = None\n"
    )
    program = f"{hidden}{code}\nimport json\nprint('answers', json.dumps({question}))\n"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1].removeprefix("answers "))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["classification", "multi_label", "pair"])
def test_labels_come_out_the_same_without_stepsynth(runs: dict[str, Path], name: str, form: str, tmp_path: Path) -> None:
    export_student(RunDirectory.read(runs[name]), tmp_path / "small" / "student", form)
    texts = texts_of(name, 9)
    expected = TrainedStudent.load(tmp_path / "small" / "student").predict(texts)
    told = json.loads((tmp_path / "small" / "student" / "config.json").read_text(encoding="utf-8"))["stepsynth"]
    plain = texts if isinstance(texts[0], str) else [tuple(row[column] for column in told["texts"]) for row in texts]
    assert run_alone(form, tmp_path, f"predict({plain!r})") == expected


def test_a_question_is_answered_without_stepsynth(runs: dict[str, Path], tmp_path: Path) -> None:
    export_student(RunDirectory.read(runs["extractive_qa"]), tmp_path / "small" / "student", "onnx")
    rows = texts_of("extractive_qa", 6)
    # In the short version a question must leave room for its passage, which here takes several windows.
    rows[0]["question"] = rows[1]["question"]
    asked = ", ".join(f"answer({row['question']!r}, {row['context']!r})" for row in rows)
    found = run_alone("questions", tmp_path, f"[{asked}]")
    # The likeliest span is one of the candidates that stepsynth ranks.
    candidates = TrainedStudent.load(tmp_path / "small" / "student").predict_proba(rows)
    assert [answer in shares for answer, shares in zip(found, candidates, strict=True)] == [True] * 6
