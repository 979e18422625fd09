"""Predictions by workers: the same bytes as in one process, whatever happens to the workers, and nothing half written."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from command import stepsynth
from family_worlds import FamilyWorld, build_family_world, lend_student, rows_of, write_lines
from stepsynth.api.student import TrainedStudent
from stepsynth.cli.running import run_config
from stepsynth.errors import ConfigError, DataError, Interrupted, RunError
from stepsynth.exporting import predicting
from stepsynth.exporting.finding import find_student
from stepsynth.runtime.shutdown import stoppable
from stepsynth.training.workers import Job, Outcome, in_order, processes
from stepsynth.training.workers.processes import Processes
from stepsynth.types import Example, Prediction

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = 40


@pytest.fixture(scope="module", params=["classification", pytest.param("extractive_qa", marks=pytest.mark.slow)])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[FamilyWorld, Path]:
    """A world and a run of it that has a student."""
    return _trained(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _trained("classification", tmp_path_factory)[1]


def _trained(family: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[FamilyWorld, Path]:
    student = lend_student(tmp_path_factory.mktemp("student") / "tiny")
    world = build_family_world(tmp_path_factory.mktemp("world"), family, validation=24, test=30, student=student)
    config = world.config("method.name=gold", "method.rounds=0")
    folder = world.folder / "run"
    run_config(config, folder, quiet=True)
    return world, folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several parts for few rows."""
    monkeypatch.setattr(predicting, "PART_ROWS", 7)


def new_file(family: str, folder: Path) -> Path:
    rows = [{key: value for key, value in row.items() if key not in ("label", "answers")} for row in rows_of(family, ROWS, 900)]
    return write_lines(folder / "new.jsonl", [{"id": number, **row} for number, row in enumerate(rows)])


def examples(count: int = ROWS) -> list[Example]:
    return [Example(str(place), row["text"], "") for place, row in enumerate(rows_of("classification", count, 900))]


def test_two_workers_write_the_bytes_of_one_process(
    trained: tuple[FamilyWorld, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, folder = trained
    file = new_file(world.family, tmp_path)
    for name, workers in (("one", []), ("two", ["--jobs", "2"]), ("apart", ["--jobs", "1", "--on", "processes"])):
        out = tmp_path / f"{name}.csv"
        outcome = stepsynth(capsys, "predict", folder, file, "--out", out, "--threshold", "0.6", *workers)
        assert outcome.code == 0, outcome.err
    expected = (tmp_path / "one.csv").read_bytes()
    assert expected.count(b"\r\n") == ROWS + 1
    assert (tmp_path / "two.csv").read_bytes() == expected
    assert (tmp_path / "apart.csv").read_bytes() == expected


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_every_format_keeps_its_order(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    file = new_file("classification", tmp_path)
    assert stepsynth(capsys, "predict", run, file, "--out", tmp_path / f"one{ending}").code == 0
    here = TrainedStudent(find_student(run).config, find_student(run).folder)
    monkeypatch.setattr(predicting, "open_workers", lambda *_: InThreads(here))
    assert stepsynth(capsys, "predict", run, file, "--out", tmp_path / f"two{ending}", "--jobs", "3").code == 0
    assert (tmp_path / f"two{ending}").read_bytes() == (tmp_path / f"one{ending}").read_bytes()


class InThreads:
    """Workers that are done in another order."""

    apart = False

    def __init__(self, student: TrainedStudent) -> None:
        self.model = student._model
        self.done = 0

    def at_once(self) -> int:
        return 3

    def takes(self, config: Any) -> bool:
        return True

    def train(self, job: Job, out: Path | None, scratch: Path, told: Any) -> Outcome:
        self.done += 1
        time.sleep(0.05 * (self.done % 3))
        return Outcome(None, [self.model.predict(rows) for rows in job.judged])

    def close(self) -> None:
        pass


def test_python_gives_what_the_command_writes(run: Path) -> None:
    student = TrainedStudent(find_student(run).config, find_student(run).folder)
    texts = [row.text for row in examples()]
    assert student.predict_proba(texts, jobs=2) == student.predict_proba(texts) == student.predict_proba(iter(texts))
    assert student.predict(iter(texts), threshold=0.6) == student.predict(texts, threshold=0.6)
    assert student.predict([], jobs=2) == []
    with pytest.raises(DataError, match="row 40 has '' for its text"):
        student.predict([*texts, ""], jobs=2)
    with pytest.raises(ConfigError, match="jobs is 0"):
        student.predict(texts, jobs=0)


def test_a_list_is_checked_before_anything_is_predicted(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = TrainedStudent(find_student(run).config, find_student(run).folder)
    monkeypatch.setattr(predicting, "predictor", None)
    with pytest.raises(DataError, match="row 1 has ' '"):
        student.predict(["a text", " "])


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("killed", "was killed by signal 9"),
        pytest.param("damaged", "returned a result that does not match its digest", marks=pytest.mark.slow),
        pytest.param("nonsense", "returned something that is no result", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_fails_in_the_middle_is_replaced(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str, said: str
) -> None:
    file = new_file("classification", tmp_path)
    assert stepsynth(capsys, "predict", run, file, "--out", tmp_path / "one.csv").code == 0
    asked: list[int] = []
    ask = processes._Child.ask

    def disturbed(self: Any, *arguments: Any) -> Any:
        asked.append(self.pid)
        place = len(asked)
        if place == 3 and fault == "killed":
            os.kill(self.pid, signal.SIGKILL)
        found = ask(self, *arguments)
        if place == 3 and fault == "damaged":
            found["done"]["predictions"][0][0][0] = "another label"
        return {"hello": 1} if place == 3 and fault == "nonsense" else found

    monkeypatch.setattr(processes._Child, "ask", disturbed)
    outcome = stepsynth(capsys, "predict", run, file, "--out", tmp_path / "two.csv", "--jobs", "2")
    assert outcome.code == 0, outcome.err
    assert f"{said}; its job is done again (attempt 2 of 3)." in outcome.err
    assert len(asked) == 7
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_workers_that_are_lost_again_and_again_leave_the_old_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = new_file("classification", tmp_path), tmp_path / "out.csv"
    out.write_text("old")
    monkeypatch.setattr(processes._Child, "ask", lambda *_: {"hello": 1})
    before = set(tmp_path.iterdir())
    outcome = stepsynth(capsys, "predict", run, file, "--out", out, "--jobs", "2")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("stepsynth: a job was given up after 3 attempts: a worker returned something")
    assert (out.read_text(), set(tmp_path.iterdir())) == ("old", before)


def test_a_student_that_cannot_be_loaded_is_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    config = find_student(run).config
    with (
        predicting.predictor(config, tmp_path / "student", lambda: None, jobs=2) as predict,  # type: ignore[arg-type, return-value]
        pytest.raises(RunError, match="cannot be loaded"),
    ):
        list(predict([examples(3)], lambda row: row))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_ends_the_command_and_its_workers(run: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Within seconds (under load, more), with the old file unchanged and nobody left."""
    file, out = tmp_path / "in.csv", tmp_path / "out.csv"
    file.write_text("text\n" + "a text that is not short at all and is read again and again\n" * 60_000)
    out.write_text("old")
    command = [sys.executable, "-m", "stepsynth", "predict", str(run), str(file), "--out", str(out), "--jobs", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        children = _when_workers_run(process.pid)
        time.sleep(0.5)
        process.send_signal(number)
        began = time.monotonic()
        _, said = process.communicate(timeout=90)
    finally:
        process.kill()
        process.communicate()
    assert time.monotonic() - began < 45
    assert process.returncode == 130
    assert said.splitlines()[-1] == "stepsynth: stopped."
    assert not list(tmp_path.glob(".*.part"))
    assert out.read_text() == "old"
    _until_gone(children)


def _when_workers_run(driver: int) -> list[int]:
    import psutil

    for _ in range(600):
        with contextlib.suppress(psutil.Error):
            found = [child.pid for child in psutil.Process(driver).children() if "workers.child" in " ".join(child.cmdline())]
            if len(found) == 2:
                return found
        time.sleep(0.05)
    raise AssertionError("no workers")


def _until_gone(pids: list[int]) -> None:
    import psutil

    for _ in range(200):
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return
        time.sleep(0.05)
    raise AssertionError("workers are left")


# what cannot be -----------------------------------------------------------------------------


def test_ray_that_is_missing_is_one_line_before_the_file_is_touched(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = new_file("classification", tmp_path), tmp_path / "out.csv"
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = stepsynth(capsys, "predict", run, file, "--out", out, "--on", "ray")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "stepsynth: Ray is not installed. Install it with: pip install 'stepsynth[ray]'\n"
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--jobs", "0"], "jobs is 0. Give the number of jobs to do at once, from 1 to 1,024."),
        (["--on", "rya"], "workers cannot run on 'rya'. Did you mean 'ray'?"),
    ],
)
def test_other_choices_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    out = tmp_path / "out.csv"
    outcome = stepsynth(capsys, "predict", run, new_file("classification", tmp_path), "--out", out, *options)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"stepsynth: {said}\n")
    assert not out.exists()


def test_a_class_of_the_own_program_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processes, "takes", lambda *_: False)
    student = find_student(run)
    with pytest.raises(ConfigError, match="belongs to your own program"):
        TrainedStudent(student.config, student.folder).predict(["a text"], jobs=2)


def test_an_exported_engine_is_refused_on_ray(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "stored_form", lambda folder: "onnx")
    student = find_student(run)
    with pytest.raises(ConfigError, match="a student as onnx cannot be predicted on Ray"):
        TrainedStudent(student.config, student.folder).predict(["a text"], on="ray")


@pytest.mark.slow
def test_an_exported_engine_is_predicted_by_processes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stepsynth(capsys, "export", run, tmp_path / "export", "--student", "onnx").code == 0
    file = new_file("classification", tmp_path)
    for name, workers in (("one", []), ("two", ["--jobs", "2"])):
        outcome = stepsynth(capsys, "predict", tmp_path / "export", file, "--out", tmp_path / f"{name}.csv", *workers)
        assert outcome.code == 0, outcome.err
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


# the order ----------------------------------------------------------------------------------


class Slow:
    """Workers that take longer for even numbers, and remember how many jobs were made."""

    apart = False

    def __init__(self, broken: int = -1) -> None:
        self.broken, self.running, self.most, self._guard = broken, 0, 0, threading.Semaphore(2)

    def at_once(self) -> int:
        return 2

    def takes(self, config: Any) -> bool:
        return True

    def train(self, job: Any, out: Path | None, scratch: Path, told: Any) -> Outcome:
        number = int(job.loader)
        if number == self.broken:
            raise RunError("broken")
        time.sleep(0.02 if number % 2 else 0.06)
        return Outcome(None, [[Prediction(job.loader, "a", {})]])

    def close(self) -> None:
        pass


def numbered(made: list[int], count: int) -> Iterator[tuple[int, Job]]:
    for number in range(count):
        made.append(number)
        yield number, Job(None, (), loader=str(number))  # type: ignore[arg-type]


def test_outcomes_keep_the_order_and_jobs_are_made_when_there_is_room() -> None:
    made: list[int] = []
    for place, (number, outcome) in enumerate(in_order(Slow(), numbered(made, 9))):
        assert (number, outcome.predictions[0][0].example_id) == (place, str(place))
        assert len(made) <= place + 3
    assert made == list(range(9))


def test_a_failure_is_raised_in_its_place() -> None:
    found = []
    with pytest.raises(RunError, match="broken"):  # noqa: PT012
        for number, _ in in_order(Slow(broken=3), numbered([], 9)):
            found.append(number)
    assert found == [0, 1, 2]


def test_a_stop_ends_it() -> None:
    with stoppable() as stop, closing(in_order(Slow(), numbered([], 9))) as found:
        next(found)
        stop.set()
        with pytest.raises(Interrupted):
            list(found)
