"""Comparisons on Ray: several nodes, nodes and workers that are lost, a driver that is killed, clusters that do not fit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from family_worlds import FamilyWorld, build_family_world, lend_student
from ray_marks import MARKS
from stepsynth.cli.comparing import compare_methods
from stepsynth.cli.running import run_config
from stepsynth.errors import ConfigError, RunError
from stepsynth.exporting import predicting
from stepsynth.exporting.finding import find_student
from stepsynth.training.workers import Job, Outcome
from stepsynth.training.workers import ray as ray_workers
from stepsynth.training.workers.ray import RayWorkers
from stepsynth.training.workers.wire import versions
from stepsynth.types import Example
from test_workers import Heard, content, folders, rows_of

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'stepsynth[ray]'")

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    *MARKS,
]
METHODS = "gold,zerogen,s3"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> FamilyWorld:
    student = lend_student(tmp_path_factory.mktemp("student") / "tiny")
    return build_family_world(tmp_path_factory.mktemp("world"), "classification", validation=24, test=30, student=student)


@pytest.fixture(scope="module")
def sequential(world: FamilyWorld) -> dict[str, Any]:
    folder = world.folder / "sequential"
    compare_methods(world.config(), METHODS, seeds=1, match="rows", folder=folder, quiet=True)
    return content(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that trains nothing and one node with a core."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # By default Ray's workers give way to everything else on a machine.
        patch.setenv("RAY_worker_niceness", "0")
        # Without the guard of the tests: Ray's processes speak with one another by this machine's outer address.
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "src"))
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        found.add_node(num_cpus=1)
        found.at = f"127.0.0.1:{found.address.rpartition(':')[2]}"
        yield found
        found.shutdown()


@pytest.fixture
def workers(cluster: Any) -> Iterator[RayWorkers]:
    with closing(RayWorkers(cluster.at, None, print, beat_s=15.0)) as found:
        yield found


def command(world: FamilyWorld, cluster: Any, out: Path) -> list[str]:
    start = [sys.executable, "-m", "stepsynth", "compare", str(world.config_path), "--methods", METHODS, "--seeds", "1"]
    return [*start, "--on", f"ray:{cluster.at}", "--out", str(out)]


def tasks() -> list[psutil.Process]:
    """Return the processes that train now."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "ray::work" in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


class AtFirstStep(Heard):
    """Does something when a training has begun."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act: Callable[[], object] | None = act

    def step(self, done: int, steps: int) -> None:
        super().step(done, steps)
        act, self.act = self.act, None
        if act is not None:
            act()


def long_job(world: FamilyWorld) -> Job:
    rows = rows_of(world)
    return Job(world.config("student.epochs=100"), [rows], judged=[rows])


def predicted(outcome: Outcome) -> list[tuple[str, dict[str, float]]]:
    return [(p.label, dict(p.probabilities)) for p in outcome.predictions[0]]


# a cluster that does not fit ---------------------------------------------------------------


def test_nobody_at_the_address_is_one_line() -> None:
    with pytest.raises(RunError, match=r"there is no Ray cluster at '127.0.0.1:9': Connection refused"):
        RayWorkers("127.0.0.1:9", None, print)


def test_an_address_of_the_client_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'ray://head:10001' is an address of Ray's client"):
        RayWorkers("ray://head:10001", None, print)


@pytest.mark.slow
def test_other_versions_are_refused_with_both_named(
    world: FamilyWorld, workers: RayWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = versions()
    monkeypatch.setattr(ray_workers, "versions", lambda: {**own, "transformers": "4.0"})
    with pytest.raises(RunError, match=rf"has other versions: transformers {own['transformers']} \(here 4.0\)"):
        workers.train(long_job(world), *folders(tmp_path), Heard())


@pytest.mark.slow
def test_a_node_without_our_package_is_refused(world: FamilyWorld, cluster: Any, tmp_path: Path) -> None:
    other = tmp_path / "path" / "stepsynth"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("__version__ = '0.1'\n")
    node = cluster.add_node(num_cpus=4, env_vars={"PYTHONPATH": str(other.parent)})
    try:
        with closing(RayWorkers(cluster.at, None, print)) as workers:
            # Two jobs: one for each node.
            workers._threads = 4
            with pytest.raises(RunError, match=r"cannot do stepsynth's jobs: No module named 'stepsynth.training'"):
                workers.train(long_job(world), *folders(tmp_path), Heard())
    finally:
        cluster.remove_node(node)


# what is lost ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_killed_or_hangs_is_replaced(
    world: FamilyWorld, cluster: Any, tmp_path: Path, number: signal.Signals
) -> None:
    notes: list[str] = []
    with closing(RayWorkers(cluster.at, None, notes.append, beat_s=10.0)) as workers:
        (tmp_path / "calm").mkdir()
        (tmp_path / "lost").mkdir()
        calm = workers.train(long_job(world), *folders(tmp_path / "calm"), Heard())
        notes.clear()

        def signal_all() -> None:
            for process in tasks():
                process.send_signal(number)

        told = AtFirstStep(signal_all)
        outcome = workers.train(long_job(world), *folders(tmp_path / "lost"), told)
    assert len(notes) == 1, notes
    assert "its job is done again (attempt 2 of 3)" in notes[0]
    assert predicted(outcome) == predicted(calm)
    for process in tasks():
        process.kill()


@pytest.mark.slow
def test_files_that_changed_on_the_way_are_found_out(
    world: FamilyWorld, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    hear = RayWorkers._hear

    def damaged(self: Any, running: Any, out: Any, told: Any) -> Any:
        found = hear(self, running, out, told)
        if not any("sha256" in line for line in notes):
            (out / "model.safetensors").write_bytes(b"other")
        return found

    monkeypatch.setattr(RayWorkers, "_hear", damaged)
    rows = rows_of(world)
    with closing(RayWorkers(cluster.at, 1, notes.append)) as workers:
        workers.train(Job(world.config(), [rows]), *folders(tmp_path), Heard())
    assert sum("files that do not match their sha256" in line for line in notes) == 1


@pytest.mark.slow
def test_a_base_model_that_the_worker_lacks_is_sent(
    world: FamilyWorld, workers: RayWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "sent").mkdir()
    rows = rows_of(world)
    job = Job(world.config(), [rows], judged=[rows])
    here = workers.train(job, *folders(tmp_path / "here"), Heard())
    about, weights = workers._base(job.config)
    workers._bases[job.config.student.model] = {**about, "path": str(tmp_path / "nowhere"), "name": "no/model"}, weights
    sent = workers.train(job, *folders(tmp_path / "sent"), Heard())
    assert predicted(here) == predicted(sent)


# whole comparisons -------------------------------------------------------------------------


@pytest.mark.slow
def test_nodes_may_join_and_leave(world: FamilyWorld, cluster: Any, sequential: dict[str, Any], tmp_path: Path) -> None:
    """A node that has just begun to train is removed, and another one joins."""
    added = cluster.add_node(num_cpus=2)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(world, cluster, tmp_path / "out"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    )
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if added is not None and "rows accepted" in line:
            time.sleep(1.0)
            cluster.remove_node(added, allow_graceful=False)
            added = None
            cluster.add_node(num_cpus=1)
    assert process.wait(timeout=60) == 0, "".join(lines)
    process.stderr.close()
    assert added is None
    assert content(tmp_path / "out") == sequential


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on(world: FamilyWorld, cluster: Any, sequential: dict[str, Any], tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = 0
    for place in (20, 9, 0):
        environment["STEPSYNTH_FAILPOINT"] = str(place)
        if not place:
            del environment["STEPSYNTH_FAILPOINT"]
        done = subprocess.run(
            command(world, cluster, tmp_path / "out"), env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        killed += done.returncode == -signal.SIGKILL
    assert (killed, done.returncode) == (2, 0), done.stderr
    found = content(tmp_path / "out")
    # A send that was in flight when the driver was killed counts as sent.
    assert {key: value for key, value in found.items() if not key.endswith("/spent")} == {
        key: value for key, value in sequential.items() if not key.endswith("/spent")
    }


# predictions -------------------------------------------------------------------------------


@pytest.mark.slow
def test_predictions_are_those_of_one_process(
    world: FamilyWorld, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a worker was killed in the middle, and by workers to which the student's files must be sent."""
    run_config(world.config("method.name=gold", "method.rounds=0"), tmp_path / "run", quiet=True)
    student = find_student(tmp_path / "run")
    monkeypatch.setattr(predicting, "PART_ROWS", 5)
    rows = [Example(str(number), f"text number {number}", "") for number in range(43)]

    notes: list[str] = []

    def predicted(on: str | None) -> list[Any]:
        answers: list[Any] = []
        with predicting.predictor(student.config, student.folder, student.load, on=on, note=notes.append) as predict:
            for part, predictions in predict(predicting.in_parts(rows, lambda row: row), lambda row: row):
                assert [row.id for row in part] == [prediction.example_id for prediction in predictions]
                answers += [(found.label, dict(found.probabilities)) for found in predictions]
        return answers

    def kill() -> None:
        # One that has just handed in its result is missed by nobody.
        while not any("done again" in line for line in notes) and not over.wait(0.02):
            for process in tasks()[:1]:
                process.kill()

    here, over = predicted(None), threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert predicted(f"ray:{cluster.at}") == here
    finally:
        over.set()
        killer.join()
    assert any("its job is done again" in line for line in notes)
    own = RayWorkers._student

    def far(self: Any, folder: Path) -> Any:
        about, files = own(self, folder)
        return {**about, "path": str(tmp_path / "nowhere")}, files

    monkeypatch.setattr(RayWorkers, "_student", far)
    assert predicted(f"ray:{cluster.at}") == here
