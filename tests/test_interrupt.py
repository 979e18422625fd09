"""Ctrl-C and SIGTERM: the run stops cleanly, loses nothing, and the same command goes on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from command import stepsynth
from loopback import LoopbackServer
from stepsynth.cli import comparing, running
from stepsynth.cli.progress_view import _Terminal
from stepsynth.cli.signals import handle_signals
from stepsynth.config import BudgetConfig, TeacherConfig
from stepsynth.errors import Interrupted, TransientError
from stepsynth.generation import TeacherClient
from stepsynth.journal import Journal
from stepsynth.runtime.shutdown import check_stop, stop_requested
from stepsynth.teachers.fake import FakeTeacher
from stepsynth.types import Message, Request, Response, Sampling
from world import LABELS, World, build_world

CONCURRENCY = 4


@dataclass(frozen=True)
class Scene:
    """A world whose teacher is a server that takes its time."""

    world: World
    server: LoopbackServer

    def command(self, folder: Path) -> list[str]:
        settings = ["method.rounds=0", "method.seed_rows=45", "method.label_check=none", "cache=null"]
        options = [part for setting in settings for part in ("--set", setting)]
        return [sys.executable, "-m", "stepsynth", "run", str(self.world.config_path), "--out", str(folder), *options]

    def start(self, folder: Path) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            self.command(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def finish(self, folder: Path) -> int:
        """Run to the end; return how many requests that took."""
        before = len(self.server.completions)
        process = self.start(folder)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-2000:]
        return len(self.server.completions) - before


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    world = build_world(tmp_path_factory.mktemp("interrupt") / "world")
    with LoopbackServer(labels=LABELS, latency=0.03) as server:
        teacher = {"backend": "openai", "model": "loopback", "base_url": server.base_url, "concurrency": CONCURRENCY}
        world.write_config({"teacher": teacher})
        yield Scene(world, server)


@pytest.fixture(scope="module")
def calm(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """The data set of an undisturbed run, and how many requests it took."""
    folder = tmp_path_factory.mktemp("calm") / "run"
    sent = scene.finish(folder)
    return (folder / "dataset.jsonl").read_bytes(), sent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_stopped_run_goes_on_to_the_same_data_set_and_asks_nothing_twice(
    scene: Scene, calm: tuple[bytes, int], tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R2: what is in flight is waited for, so that nothing is paid for in vain."""
    folder = tmp_path / "run"
    before = len(scene.server.completions)
    process = scene.start(folder)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("seed rows: 0 /"):
            break
    # Slow enough that the stage cannot end before the signal arrives.
    monkeypatch.setattr(scene.server, "latency", 0.2)
    started = len(scene.server.completions)
    while len(scene.server.completions) < started + 2 * CONCURRENCY:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    sent = len(scene.server.completions) - before
    assert process.returncode == 130
    told = [line for line in errors.splitlines() if not line.startswith("seed rows: ")]
    assert told == ["stepsynth: stopped; nothing is lost. Run it again to resume."]
    assert out == ""
    dataset, needed = calm
    assert 0 < sent < needed, "the signal came too late to interrupt anything"
    assert not (folder / "dataset.jsonl").exists()
    journal = Journal(folder / "journal.db")
    assert journal.totals().requests == sent
    assert journal.stage_done("round-0/rationales")
    assert not journal.stage_done("round-0/seed")
    journal.close()
    monkeypatch.undo()
    if number == signal.SIGTERM:
        return  # The same journal as after Ctrl-C.
    assert sent + scene.finish(folder) == needed
    assert (folder / "dataset.jsonl").read_bytes() == dataset


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_second_signal_says_that_it_stops_at_once_and_that_nothing_is_lost(
    scene: Scene, tmp_path: Path, second: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = scene.start(tmp_path / "run")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("seed rows: 0 /"):
            break
    monkeypatch.setattr(scene.server, "latency", 30)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    started = time.monotonic()
    process.send_signal(second)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, time.monotonic() - started < 15) == (130, True)
    (said,) = [line for line in errors.splitlines() if not line.startswith("seed rows: ")]
    assert said.startswith("stepsynth: stopped at once; no answer that was received is lost.")


def test_a_command_that_is_not_a_run_says_that_it_was_stopped(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.server, "latency", 30)
    before = len(scene.server.completions)
    command = [sys.executable, "-m", "stepsynth", "plan", str(scene.world.config_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # Tests that a shell started in the background were told to ignore Ctrl-C, and so would this command.
    before_signal = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    finally:
        signal.signal(signal.SIGINT, before_signal)
    while len(scene.server.completions) == before:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, errors) == (130, "stepsynth: stopped.\n")


# in this process --------------------------------------------------------------------------------


def requests(count: int) -> list[Request]:
    return [Request((Message("user", "Write."),), Sampling(), i, "round-0/seed", i, "kalm") for i in range(count)]


def executor(teacher: FakeTeacher, journal: Journal, concurrency: int = CONCURRENCY) -> TeacherClient:
    return TeacherClient(TeacherConfig(backend="fake", concurrency=concurrency), journal, BudgetConfig(), teacher=teacher)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_is_in_flight_is_committed_and_nothing_new_is_sent(tmp_path: Path, number: signal.Signals) -> None:
    def answer(request: Request) -> Response:
        if request.replicate == 17:
            os.kill(os.getpid(), number)
        return Response(f"text {request.replicate}")

    teacher, journal = FakeTeacher(answer, latency=0.005), Journal(tmp_path / "journal.db")
    # Under nohup it is ignored, and stays so.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with handle_signals(), pytest.raises(Interrupted):
            executor(teacher, journal).run(requests(100))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert 17 < len(teacher.calls) <= 17 + 2 * CONCURRENCY
    assert journal.totals().requests == len(teacher.calls)
    journal.close()


def test_a_long_pause_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    def answer(request: Request) -> Exception:
        os.kill(os.getpid(), signal.SIGINT)
        return TransientError("busy", retry_after=50)

    teacher, journal = FakeTeacher(answer), Journal(tmp_path / "journal.db")
    started = time.monotonic()
    with handle_signals(), pytest.raises(Interrupted):
        executor(teacher, journal, concurrency=1).run(requests(3))
    assert time.monotonic() - started < 10
    assert len(teacher.calls) == 1
    journal.close()


def test_the_first_signal_asks_and_the_second_ends_at_once() -> None:
    with handle_signals():
        check_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_requested()
        with pytest.raises(Interrupted, match="nothing is lost"):
            check_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_second_signal_is_told_by_the_block_that_it_ends() -> None:
    def twice() -> None:
        with handle_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="at once; no answer that was received is lost"):
        twice()


def test_the_panel_says_that_a_stop_waits_for_answers() -> None:
    console = Console(width=120, file=io.StringIO())
    with handle_signals():
        panel = _Terminal()
        panel.start("round-0/seed", 10, "rows")
        console.print(panel)
        os.kill(os.getpid(), signal.SIGINT)
        assert "stopping" not in console.file.getvalue()  # type: ignore[attr-defined]
        console.print(panel)
    assert "press Ctrl-C again to stop at once" in console.file.getvalue()  # type: ignore[attr-defined]


def test_handlers_are_given_back_and_a_stop_does_not_outlive_its_run() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with handle_signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop_requested()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert not stop_requested()
    check_stop()


def test_a_stop_reaches_the_enclosing_block_if_the_inner_one_is_complete_before_it_looks() -> None:
    with handle_signals():
        with handle_signals():
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted, match="nothing is lost"):
            check_stop()


def test_after_a_stop_in_the_last_step_of_a_cell_no_other_cell_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = running.run_config

    def stopped_late(*given: Any, **more: Any) -> None:
        with handle_signals():
            whole(*given, **more)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(comparing, "run_config", stopped_late)
    world = build_world(tmp_path)
    outcome = stepsynth(
        capsys, "compare", world.config_path, "--methods", "gold,zerogen", "--seeds", 1, "--out", tmp_path / "both", "-q"
    )
    assert (outcome.code, outcome.out) == (130, "")
    assert "nothing is lost" in outcome.err
    assert sorted(path.name for path in (tmp_path / "both").glob("*-0")) == ["gold-0"]


def test_a_stop_between_stages_sends_nothing(tmp_path: Path) -> None:
    teacher, journal = FakeTeacher(), Journal(tmp_path / "journal.db")
    with handle_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted):
            executor(teacher, journal).run(requests(3))
    assert teacher.calls == []
    journal.close()
