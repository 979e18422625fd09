"""Whatever standard output is (narrow, closed, full, without some letters): no traceback, and no result that was changed."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from command import stepsynth
from stand_in_student import stand_in
from stepsynth.cli.predicting import Output, predict_file
from stepsynth.config import SOURCES, SourceConfig, TaskConfig
from stepsynth.data import load_source
from stepsynth.errors import ConfigError, RunError
from stepsynth.types import Example, Prediction

SIGNED = {"-1": "unhappy", "0": "neither", "1": "happy"}
TEXTS = ["- not good", "+ all well", "=1+1", "@home", "-5", "+1.5e3", "'quoted", "plain"]


class Rote:
    """A student that gives every text the first label."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)

    def load(self, folder: Path) -> Rote:
        return self

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        spread = {label: 1.0 * (number == 0) for number, label in enumerate(self.labels)}
        return [Prediction(example.id, self.labels[0], spread) for example in examples]


@pytest.fixture
def student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let `predict_file` find a finished run of a task with some labels."""

    def make(labels: dict[str, str], family: str = "classification") -> TaskConfig:
        task = TaskConfig.model_validate({"name": "t", "instruction": "Decide.", "labels": labels, "family": family})
        sources = {**dict.fromkeys(SOURCES), "validation": SourceConfig(path=tmp_path / "unused.csv")}
        config = SimpleNamespace(task=task, data=SimpleNamespace(**sources))
        stand_in(monkeypatch, config, Rote(list(labels)))
        return task

    return make


def predict(folder: Path, texts: Sequence[str], output: Output) -> None:
    (folder / "new.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    predict_file(folder, folder / "new.jsonl", columns={}, output=output, round_number=None)


@pytest.mark.parametrize("labels", [["-1", "0", "1"], ["-low", "+high"], ["=x", "@y"], ["'-a", "b"]])
def test_case_20_predict_changes_labels_and_texts_labels_come_back(
    tmp_path: Path, student: Any, labels: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    task = student(dict.fromkeys(labels, ""))
    predict(tmp_path, ["one", "two"], Output(tmp_path / "out.csv"))
    read = load_source(SourceConfig(path=tmp_path / "out.csv"), task, role="seed", seed=0)
    assert [row.label for row in read] == [labels[0]] * 2
    if labels[0] == "-1":
        assert "\r\none,-1,1.000000" in (tmp_path / "out.csv").read_bytes().decode()
        assert "apostrophe" not in capsys.readouterr().err


def test_case_20_predict_changes_labels_and_texts_several_labels_come_back(tmp_path: Path, student: Any) -> None:
    task = student({"-a": "", "b": ""}, "multi_label")
    predict(tmp_path, ["one"], Output(tmp_path / "out.csv"))
    assert "'-a" in (tmp_path / "out.csv").read_text()
    (row,) = load_source(SourceConfig(path=tmp_path / "out.csv"), task, role="seed", seed=0)
    assert row.label == "-a"


def test_case_20_predict_changes_labels_and_texts_what_is_changed_is_said(
    tmp_path: Path, student: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    student(SIGNED)
    predict(tmp_path, TEXTS, Output(tmp_path / "out.csv"))
    said = capsys.readouterr().err
    assert (
        "4 cells got a leading apostrophe, so that no spreadsheet runs them as formulas; use --exact to write cells unchanged."
        in said
    )
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        cells = [row["text"] for row in csv.DictReader(file)]
    assert cells == ["'- not good", "'+ all well", "'=1+1", "'@home", "-5", "+1.5e3", "'quoted", "plain"]


@pytest.mark.parametrize(
    "output", [Output(Path("out.csv"), exact=True), Output(Path("out.txt"), "jsonl"), Output(Path("out.ndjson"))]
)
def test_case_20_predict_changes_labels_and_texts_exact_ones_come_back(
    tmp_path: Path, student: Any, output: Output, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    task = student(SIGNED)
    predict(tmp_path, TEXTS, output)
    assert "apostrophe" not in capsys.readouterr().err
    assert output.path is not None
    path = output.path.rename("back.csv" if output.exact else "back.jsonl")
    read = load_source(SourceConfig(path=tmp_path / path), task, role="seed", seed=0)
    assert [(row.text, row.label) for row in read] == [(text, "-1") for text in TEXTS]


@pytest.mark.parametrize(
    ("output", "message"), [(Output(None, "xml"), "--format is 'xml'"), (Output(None, "jsonl", True), "--exact is for csv")]
)
def test_forms_that_do_not_go_together_are_refused(tmp_path: Path, student: Any, output: Output, message: str) -> None:
    student(SIGNED)
    with pytest.raises(ConfigError, match=message):
        predict(tmp_path, ["a"], output)


# streams


class Narrow(io.StringIO):
    """Standard output with another encoding."""

    encoding = "ascii"


def test_a_result_is_refused_or_escaped_where_it_does_not_fit_never_changed(
    tmp_path: Path, student: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    student(SIGNED)
    narrow = Narrow()
    monkeypatch.setattr(sys, "stdout", narrow)
    with pytest.raises(RunError, match="standard output has the encoding 'ascii'"):
        predict(tmp_path, ["caf\u00e9"], Output())
    assert narrow.getvalue() == ""
    predict(tmp_path, ["caf\u00e9"], Output(None, "json"))
    assert json.loads(narrow.getvalue())["predictions"][0]["text"] == "caf\u00e9"
    assert narrow.getvalue().isascii()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config whose task and labels hold letters that few encodings have; `plan` needs nothing but its rows."""
    folder = tmp_path_factory.mktemp("caf\u00e9")
    (folder / "rows.csv").write_text(
        "text,label\n" + "".join(f"{label} {i},{label}\n" for i in range(4) for label in ("\u6676", "b")),
        encoding="utf-8",
    )
    (folder / "config.yaml").write_text(
        "task: {name: \u6676, instruction: Decide., labels: [\u6676, b]}\ndata: {validation: {path: rows.csv}}\n"
        "teacher: {backend: fake, model: fake}\nmethod: {name: gold}\ncache: null\n",
        encoding="utf-8",
    )
    return folder


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    words = {**os.environ, "PYTHONWARNINGS": "default", "STEPSYNTH": f"{sys.executable} -m stepsynth", **environment}
    return subprocess.run(["bash", "-c", command], cwd=folder, env=words, capture_output=True, timeout=120, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("command", ["plan config.yaml", "plan config.yaml --json", "status \u6676", "verify \u6676"])
def test_letters_that_do_not_fit_end_no_command(project: Path, encoding: str, command: str) -> None:
    done = shell(f"$STEPSYNTH {command}", project, PYTHONIOENCODING=encoding)
    assert b"Traceback" not in done.stderr
    assert done.returncode == (0 if command.startswith("plan") else 2)
    if "--json" in command:
        assert json.loads(done.stdout)["task"] == "\u6676"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("$STEPSYNTH plan config.yaml | true; exit ${PIPESTATUS[0]}", 141),
        ("$STEPSYNTH plan config.yaml --json | true; exit ${PIPESTATUS[0]}", 141),
        ("$STEPSYNTH --version | true; exit ${PIPESTATUS[0]}", 141),
        ("$STEPSYNTH plan nothing.yaml 2>&1 | true; exit ${PIPESTATUS[0]}", 2),
        ("$STEPSYNTH plan config.yaml >&-", 0),
        ("$STEPSYNTH plan config.yaml >&- 2>&- <&-", 0),
        ("$STEPSYNTH plan nothing.yaml 2>&-", 2),
        ("$STEPSYNTH plan config.yaml > /dev/full", 2),
        ("COLUMNS=20 NO_COLOR=1 $STEPSYNTH plan config.yaml", 0),
        ("COLUMNS=1 TERM=dumb $STEPSYNTH plan config.yaml", 0),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $STEPSYNTH plan config.yaml", 0),
    ],
)
def test_streams_as_they_are_end_no_command_with_a_traceback(project: Path, command: str, code: int) -> None:
    if "full" in command and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    # Whether `true` has gone before the first byte is written is chance: a sleep makes it sure.
    done = shell(command.replace("| true", "| sleep 0"), project)
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert done.returncode == code, done.stderr


def test_a_closed_stream_s_number_is_not_given_to_the_next_file(project: Path) -> None:
    code = (
        "import os, sys\nfrom stepsynth.cli.screens import prepare_streams\nprepare_streams()\n"
        "file = open('rows.csv')\nassert file.fileno() > 2\nos.write(1, b'x')\n"
    )
    done = shell(f'{sys.executable} -c "{code}" >&-', project)
    assert done.returncode == 0, done.stderr


def test_a_path_that_is_no_path_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    outcome = stepsynth(capsys, "status", tmp_path / "file" / "below")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
