"""Comparisons that train on several workers: the same bytes as one after the other, whatever happens to the workers."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from command import stepsynth
from family_worlds import FamilyWorld, build_family_world, lend_student
from stepsynth.cli.comparing import compare_methods
from stepsynth.comparison.together import run_together
from stepsynth.errors import ConfigError, Interrupted, RunError
from stepsynth.journal import Journal
from stepsynth.runtime.shutdown import check_stop, stoppable
from stepsynth.runtime.turns import Once, Turns
from stepsynth.training.workers import Job, Outcome, check_workers, open_workers, processes
from stepsynth.training.workers.base import WorkerLostError, insist
from stepsynth.training.workers.processes import Processes
from stepsynth.training.workers.wire import job_document, read_job, read_outcome
from stepsynth.types import Example

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = "gold,zerogen,s3"
CLOCKS = ("minutes", "seconds", "latency_s")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> FamilyWorld:
    student = lend_student(tmp_path_factory.mktemp("student") / "tiny")
    return build_family_world(tmp_path_factory.mktemp("world"), "classification", validation=24, test=30, student=student)


@pytest.fixture(scope="module")
def sequential(world: FamilyWorld) -> Path:
    """The comparison, one student after the other."""
    folder = world.folder / "sequential"
    compare_methods(world.config(), METHODS, seeds=1, match="rows", folder=folder, quiet=True)
    return folder


def timeless(value: Any) -> Any:
    """Return results without what a clock measured."""
    if isinstance(value, dict):
        return {key: timeless(entry) for key, entry in value.items() if key not in CLOCKS}
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


def content(folder: Path) -> dict[str, Any]:
    """Return everything that must be the same: numbers, rows, scores, and the sha256 of all files of all students."""
    found: dict[str, Any] = {"results": timeless(json.loads((folder / "results.json").read_text()))}
    for cell in sorted(path.parent for path in folder.glob("*/journal.db")):
        with closing(Journal(cell / "journal.db")) as journal:
            found[f"{cell.name}/rows"] = [(row.key, row.text, row.label, row.reason) for row in journal.rows()]
            found[f"{cell.name}/scores"] = [
                (number, split, [(g.prediction, g.score) for g in journal.graded(number, split)])
                for number in journal.rounds()
                for split in ("harvest", "select", "test")
            ]
            found[f"{cell.name}/spent"] = journal.totals()
        for done in sorted(cell.glob("models/*/done.json")):
            found[f"{cell.name}/{done.parent.name}"] = done.read_text()
    found["students"] = sorted(path.name for path in (folder / "students").iterdir())
    return found


def test_two_jobs_give_the_bytes_of_one(world: FamilyWorld, sequential: Path, tmp_path: Path) -> None:
    compare_methods(world.config(), METHODS, seeds=1, match="rows", folder=tmp_path / "two", jobs=2, quiet=True)
    assert content(tmp_path / "two") == content(sequential)
    assert not list((tmp_path / "two").glob("*/models/.*"))


def test_a_killed_worker_is_replaced(
    world: FamilyWorld, sequential: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: list[int] = []
    step = processes._Child.ask

    def kill_first(self: Any, message: Any, told: Any, *limits: float) -> Any:
        if not killed:
            killed.append(self.pid)
            os.kill(self.pid, signal.SIGKILL)
        return step(self, message, told, *limits)

    monkeypatch.setattr(processes._Child, "ask", kill_first)
    outcome = stepsynth(
        capsys, "compare", world.config_path, "--methods", METHODS, "--seeds", "1", "--jobs", "2", "--out", tmp_path / "killed"
    )
    assert outcome.code == 0, outcome.err
    assert f"A worker (process {killed[0]}) was killed by signal 9; its job is done again (attempt 2 of 3)." in outcome.err
    assert "\ns3, seed 0: round 0, student: trained on" in outcome.err
    assert content(tmp_path / "killed") == content(sequential)


# one worker ----------------------------------------------------------------------------------


class Heard:
    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.parts = 0
        self.asked = False

    def step(self, done: int, steps: int) -> None:
        self.steps.append((done, steps))

    def fitted(self) -> None:
        self.parts += 1

    def predicts(self) -> None:
        self.asked = True


def rows_of(world: FamilyWorld) -> list[Example]:
    labels = list(world.config().task.labels)
    return [Example(f"row-{number}", f"text number {number}", labels[number % len(labels)]) for number in range(12)]


def folders(place: Path) -> tuple[Path, Path]:
    out, scratch = place / "out", place / "scratch"
    out.mkdir()
    scratch.mkdir()
    return out, scratch


@pytest.fixture
def notes() -> list[str]:
    return []


def test_a_worker_that_is_silent_or_makes_no_step_is_given_up(world: FamilyWorld, tmp_path: Path, notes: list[str]) -> None:
    rows = rows_of(world)
    job = Job(world.config(), [rows], judged=[rows])
    out, scratch = folders(tmp_path)
    with closing(Processes("", 1, notes.append, beat_s=0.5)) as workers:
        stop = threading.Event()

        def freeze() -> None:
            while not stop.wait(0.02):
                for pid in workers.pids:
                    # It may have been given up since.
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)

        thread = threading.Thread(target=freeze)
        thread.start()
        with pytest.raises(RunError, match="was silent for"):
            workers.train(job, out, scratch, Heard())
        stop.set()
        thread.join()
    assert len(notes) == 2
    with closing(Processes("", 1, notes.append, step_s=0.0)) as workers, pytest.raises(RunError, match="made no step"):
        workers.train(job, out, scratch, Heard())


def test_predictions_may_take_longer_than_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """They report none; a worker that hangs meanwhile is silent."""
    child = processes._Child.__new__(processes._Child)
    child._heard = queue.SimpleQueue()
    monkeypatch.setattr(child, "_say", lambda line: None, raising=False)
    monkeypatch.setattr(processes, "_TICK_S", 0.01)

    def works() -> None:
        child._heard.put({"predicts": True})
        for _ in range(8):
            time.sleep(0.05)
            child._heard.put({"beat": True})
        child._heard.put({"done": 1})

    thread, heard = threading.Thread(target=works), Heard()
    thread.start()
    assert child.ask({}, heard, 0.3, 0.1) == {"done": 1}
    thread.join()
    assert heard.asked


@pytest.mark.slow
def test_a_worker_that_returns_something_else_is_found_out(
    world: FamilyWorld, tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(world)
    out, scratch = folders(tmp_path)
    ask = processes._Child.ask

    def damaged(self: Any, *arguments: Any) -> Any:
        found = ask(self, *arguments)
        if not notes:
            (out / "model.safetensors").write_bytes(b"other")
        elif len(notes) == 1:
            found["done"]["steps"] = 7
        return found

    monkeypatch.setattr(processes._Child, "ask", damaged)
    with closing(Processes("", 1, notes.append)) as workers:
        outcome = workers.train(Job(world.config(), [rows], judged=[rows[:3], rows]), out, scratch, Heard())
    assert ["files that do not match their sha256" in notes[0], "does not match its digest" in notes[1]] == [True, True]
    assert [len(found) for found in outcome.predictions] == [3, 12]


@pytest.mark.parametrize(
    "answer", [None, {"hello": 1}, {"done": 3}, {"done": {"digest": ""}}, {"failed": "no"}, {"failed": {"lost": "has no disk"}}]
)
def test_what_is_no_result_is_found_out(world: FamilyWorld, answer: Any) -> None:
    with pytest.raises(WorkerLostError):
        read_outcome(answer, Job(world.config(), []), None)


def test_workers_are_told_nothing_of_the_teacher(world: FamilyWorld) -> None:
    """Its plug-in may be installed for the driver alone, and its headers are nobody else's."""
    config = world.config()
    teacher = config.teacher.model_copy(update={"backend": "only-here", "headers": {"x-user": "somebody"}})
    document = job_document(Job(config.model_copy(update={"teacher": teacher}), [rows_of(world)]))
    assert "somebody" not in json.dumps(document["config"])
    assert read_job(document).parts == [rows_of(world)]


@pytest.mark.slow
def test_an_error_of_the_job_is_raised_once_and_its_worker_goes_on(world: FamilyWorld, tmp_path: Path, notes: list[str]) -> None:
    rows = rows_of(world)
    out, scratch = folders(tmp_path)
    with closing(Processes("", 1, notes.append)) as workers:
        config = world.config()
        student = config.student.model_copy(update={"model": str(tmp_path / "missing")})
        lost = config.model_copy(update={"student": student})
        with pytest.raises(ConfigError, match="neither an embedded model"):
            workers.train(Job(lost, [rows]), out, scratch, Heard())
        before = workers.pids
        heard = Heard()
        # Two trainings, one after the other, whose files are not kept.
        outcome = workers.train(Job(world.config(), [rows, rows], judged=[rows]), None, scratch, heard)
        assert workers.pids == before
    assert (notes, heard.parts, len(outcome.predictions[0])) == ([], 2, 12)
    assert len(heard.steps) >= 2


def test_a_stop_drops_the_job_and_the_worker(world: FamilyWorld, tmp_path: Path, notes: list[str]) -> None:
    rows = rows_of(world)
    out, scratch = folders(tmp_path)

    class Stopping(Heard):
        def step(self, done: int, steps: int) -> None:
            stop.set()

    with closing(Processes("", 1, notes.append)) as workers, stoppable() as stop:
        with pytest.raises(Interrupted):
            workers.train(Job(world.config(), [rows]), out, scratch, Stopping())
        assert workers.pids == []


@pytest.mark.parametrize("said", ["1h", "0", "-3", "nan"])
def test_a_wrong_limit_of_a_step_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPSYNTH_WORKER_STEP_S", said)
    with pytest.raises(ConfigError, match=f"STEPSYNTH_WORKER_STEP_S is '{said}'"):
        check_workers("processes", 2)


def test_a_worker_ends_when_its_input_does() -> None:
    """As when its driver is killed."""
    child = processes._Child()
    try:
        assert child._process.stdin is not None
        child._process.stdin.close()
        assert child._process.wait(timeout=60) == 0
    finally:
        child.kill()


# the choice of workers -----------------------------------------------------------------------


def test_one_job_needs_no_workers() -> None:
    assert open_workers(None, None, print) is None
    assert open_workers(None, 1, print) is None


@pytest.mark.parametrize(
    ("on", "jobs", "said"),
    [
        ("rya", None, "workers cannot run on 'rya'. Did you mean 'ray'?"),
        ("ray:", None, "workers cannot run on 'ray:': it has no address. Give ray, or ray:HOST:PORT."),
        ("ray: ", None, "workers cannot run on 'ray: ': it has no address."),
        ("processes:4", None, "workers cannot run on 'processes:4'. Give processes, and their number as jobs."),
        ("processes:", 2, "workers cannot run on 'processes:'."),
        (None, 0, "jobs is 0."),
        (None, True, "jobs is True."),
    ],
)
def test_another_choice_is_refused(on: str | None, jobs: Any, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        open_workers(on, jobs, print)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize("jobs", ["0", "-1", "1025"])
def test_a_number_of_jobs_that_cannot_be_is_one_line(
    jobs: str, world: FamilyWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    outcome = stepsynth(capsys, "compare", world.config_path, "--methods", "gold", "--jobs", jobs, "--out", out)
    said = f"stepsynth: jobs is {jobs}. Give the number of jobs to do at once, from 1 to 1,024.\n"
    assert (outcome.code, outcome.out, outcome.err, out.exists()) == (2, "", said, False)


def test_without_ray_the_command_says_how_to_install_it(
    world: FamilyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = stepsynth(capsys, "compare", world.config_path, "--methods", "gold", "--on", "ray", "-q", "--out", tmp_path / "out")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "stepsynth: Ray is not installed. Install it with: pip install 'stepsynth[ray]'\n"


def test_more_threads_than_cores_are_said_once(monkeypatch: pytest.MonkeyPatch, notes: list[str]) -> None:
    monkeypatch.setattr(processes, "own_threads", lambda: 4)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    Processes("", 2, notes.append).close()
    assert len(notes) == 1
    assert "OMP_NUM_THREADS=2" in notes[0]


# what cells share ----------------------------------------------------------------------------


def begin(calls: Sequence[Callable[[], object]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    return threads


def test_the_lowest_number_is_next() -> None:
    turns, story = Turns(), list[int]()

    def write(number: int) -> None:
        with turns.taken(number):
            story.append(number)

    with turns.taken(9):
        threads = begin([lambda number=number: write(number) for number in (3, 1, 2)])  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert story == [1, 2, 3]


def test_a_stop_ends_waiting() -> None:
    turns, once = Turns(), Once()
    with turns.taken(0), once.alone("a"), stoppable() as stop:
        stop.set()
        with pytest.raises(Interrupted), turns.taken(1):
            pass
        with pytest.raises(Interrupted), once.alone("a"):
            pass
        with once.alone("b"):
            pass


def test_cells_wait_for_what_they_need_and_results_keep_their_order() -> None:
    story: list[str] = []

    def work(place: int) -> int:
        story.append(f"+{place}")
        time.sleep(0.05 if place else 0.2)
        story.append(f"-{place}")
        return 10 * place

    assert run_together(4, work, needs=lambda place: 0 if place == 1 else None, at_once=lambda: 2) == [0, 10, 20, 30]
    assert story.index("-0") < story.index("+1")
    assert story.index("+2") < story.index("-0")


def test_the_first_failure_in_order_is_raised_after_the_others_have_stopped() -> None:
    stopped: list[int] = []

    def work(place: int) -> int:
        if place == 2:
            raise RunError("the third failed")
        try:
            while True:
                check_stop()
                time.sleep(0.01)
        except Interrupted:
            stopped.append(place)
            raise

    with pytest.raises(RunError, match="the third failed"):
        run_together(5, work, needs=lambda _: None, at_once=lambda: 3)
    assert sorted(stopped) == [0, 1]


def test_a_stop_is_passed_on_to_all_cells() -> None:
    with stoppable() as stop:

        def work(place: int) -> None:
            stop.set()
            while True:
                check_stop()
                time.sleep(0.01)

        with pytest.raises(Interrupted):
            run_together(3, work, needs=lambda _: None, at_once=lambda: 2)


def test_lost_workers_are_replaced_a_few_times(tmp_path: Path, notes: list[str]) -> None:
    (tmp_path / "left").write_text("half")

    def lost() -> Outcome:
        assert not notes or not list(tmp_path.iterdir())
        raise WorkerLostError("was killed")

    with pytest.raises(RunError, match="given up after 3 attempts: a worker was killed"):
        insist(lost, [tmp_path, None], notes.append)
    assert len(notes) == 2
