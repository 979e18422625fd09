"""Engines on Ray: the rows are those of one engine, whatever happens to engines, nodes and the driver."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from ray_marks import MARKS
from scripted_engine import FOLDER, asked, install
from stepsynth.config import TeacherConfig
from stepsynth.errors import RunError
from stepsynth.teachers import answer_of, create_teacher, probe_teacher, replica_cluster
from stepsynth.teachers.replicas import ReplicasTeacher
from stepsynth.testing import make_request
from stepsynth.types import Request, Response
from tiny_gguf import build_tiny_gguf
from tiny_teacher import build_tiny_teacher
from world import World, build_world

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'stepsynth[ray]'")

pytestmark = MARKS
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the engines of the cluster read their commands."""
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("plugin"))


@contextmanager
def started(commands: Path, plugin: Path, *, head: int, nodes: int) -> Iterator[Any]:
    """Start a cluster whose head has ``head`` cores, with further nodes of one core each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(plugin)
        patch.setenv(FOLDER, str(commands))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # By default Ray's workers give way to everything else on a machine.
        patch.setenv("RAY_worker_niceness", "0")
        # Without the guard of the tests: Ray's processes speak with one another by this machine's outer address.
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (TESTS.parent / "src", TESTS, plugin))))
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": head, "include_dashboard": False})
        found.nodes_of_tests = [found.add_node(num_cpus=1) for _ in range(nodes)]
        found.at = f"127.0.0.1:{found.address.rpartition(':')[2]}"
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def cluster(commands: Path, plugin: Path) -> Iterator[Any]:
    """A head without a core, so that no engine runs there, and two nodes."""
    with started(commands, plugin, head=0, nodes=2) as found:
        yield found


@pytest.fixture(autouse=True)
def quiet(commands: Path) -> None:
    """Forget commands and answers of other tests."""
    for path in commands.iterdir():
        path.unlink()


def settings(cluster: Any, **changes: Any) -> TeacherConfig:
    values = {"backend": "scripted", "model": "m", "replicas": 2, "concurrency": 4, "timeout_s": 4.0, "longest_pause_s": 60.0}
    return TeacherConfig(**{**values, "cluster": f"ray:{cluster.at}", **changes})


class Asked:
    """A teacher with its engines, and what it says."""

    def __init__(self, config: TeacherConfig) -> None:
        self.teacher: Any = create_teacher(config)
        assert isinstance(self.teacher, ReplicasTeacher)
        self.teacher.start(print)

    def all(self, count: int, meanwhile: Callable[[], object] = lambda: None) -> list[Response]:
        async def ask() -> list[Response]:
            waiting = asyncio.gather(*(answer_of(self.teacher, make_request(replicate=n)) for n in range(count)))
            await asyncio.sleep(0.5)
            meanwhile()
            return list(await waiting)

        return asyncio.run(ask())

    def both(self) -> None:
        """Wait until both engines are there."""
        until(lambda: self.teacher._fleet.ready_engines == 2)

    @property
    def said(self) -> str:
        return " ".join(self.teacher.notes)


def until(done: Callable[[], object], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def ask(cluster: Any) -> Iterator[Callable[..., Asked]]:
    made: list[Asked] = []

    def make(**changes: Any) -> Asked:
        made.append(Asked(settings(cluster, **changes)))
        return made[-1]

    yield make
    for found in made:
        found.teacher.release()
    until(lambda: not actors())


def actors() -> list[psutil.Process]:
    """Return the processes with an engine."""
    return [process for process in psutil.process_iter(["cmdline"]) if "ray::Engine" in " ".join(process.info["cmdline"] or [])]


def expected(count: int, config: TeacherConfig) -> list[Response]:
    from stepsynth.teachers.fake import FakeTeacher

    fake = FakeTeacher(identity=config.identity())
    return [fake.answer(make_request(replicate=number)) for number in range(count)]


# one engine after the other is lost --------------------------------------------------------------


def test_two_engines_on_one_node_answer_as_one(commands: Path, plugin: Path) -> None:
    """The quick one."""
    with started(commands, plugin, head=2, nodes=0) as small:
        found = Asked(settings(small, resources={"num_cpus": 1}))
        try:
            found.both()
            (commands / "seconds").write_text("0.01")
            assert found.all(30) == expected(30, settings(small))
            assert min(found.teacher.answered) > 0
        finally:
            found.teacher.release()


@pytest.mark.slow
def test_an_engine_that_is_killed_is_started_again(cluster: Any, commands: Path, ask: Callable[..., Asked]) -> None:
    found = ask()
    found.both()
    (commands / "seconds").write_text("0.02")
    (commands / "die").touch()
    assert found.all(60) == expected(60, settings(cluster))
    assert "was lost (ActorDiedError" in found.said
    # Asked again is only what an engine had not answered.
    assert max(Counter(key for key, _ in asked(commands)).values()) == 1
    found.both()
    found.all(20)
    assert min(found.teacher.answered) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("garbage", "returned something that is no answer; it is started again."),
        ("fail", "failed (RuntimeError: out of memory); it is started again."),
        ("hang", "answered nothing for 4 s; it is started again."),
    ],
)
def test_an_engine_that_is_of_no_use_is_replaced(
    cluster: Any, commands: Path, ask: Callable[..., Asked], command: str, said: str
) -> None:
    found = ask()
    found.both()
    (commands / "seconds").write_text("0.02")
    # Once answered, an engine is given less time.
    found.all(10)
    before = {process.pid for process in actors()}
    (commands / command).touch()
    assert found.all(60) == expected(60, settings(cluster))
    assert said in found.said
    until(lambda: len(actors()) == 2 and {process.pid for process in actors()} != before)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_engines_process_is_killed_or_stopped_from_outside(
    cluster: Any, commands: Path, ask: Callable[..., Asked], number: signal.Signals
) -> None:
    found = ask()
    found.both()
    found.all(10)
    (commands / "seconds").write_text("0.05")
    victim = actors()[0]
    assert found.all(60, lambda: victim.send_signal(number)) == expected(60, settings(cluster))
    assert "it is started again." in found.said
    until(lambda: not psutil.pid_exists(victim.pid) or victim.status() == psutil.STATUS_ZOMBIE)
    found.both()


@pytest.mark.slow
def test_a_node_is_removed_and_another_one_joins(cluster: Any, commands: Path, ask: Callable[..., Asked]) -> None:
    found = ask()
    found.both()
    (commands / "seconds").write_text("0.05")
    gone = cluster.nodes_of_tests.pop()
    assert found.all(60, lambda: cluster.remove_node(gone, allow_graceful=False)) == expected(60, settings(cluster))
    assert "was lost" in found.said
    assert found.teacher._fleet.ready_engines == 1
    cluster.nodes_of_tests.append(cluster.add_node(num_cpus=1))
    found.both()
    assert "is there again." in found.said
    before = found.teacher.answered
    found.all(60)
    assert all(now > then for now, then in zip(found.teacher.answered, before, strict=True))


@pytest.mark.slow
def test_an_engine_that_waited_for_a_place_gets_that_of_a_late_node(
    cluster: Any, commands: Path, ask: Callable[..., Asked], capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask(replicas=3)
    assert "3 nodes, room for 2 of 3 engines at once" in capsys.readouterr().out
    found.both()
    (commands / "seconds").write_text("0.02")
    found.all(40)
    assert sorted(found.teacher.answered)[0] == 0
    late = cluster.add_node(num_cpus=1)
    try:
        until(lambda: found.teacher._fleet.ready_engines == 3)
        found.all(40)
        assert min(found.teacher.answered) > 0
    finally:
        found.teacher.release()
        cluster.remove_node(late)


@pytest.mark.slow
def test_what_the_cluster_does_not_have_is_refused(cluster: Any) -> None:
    with pytest.raises(RunError, match=r"what an engine needs \(CPU 1, GPU 1\); they have: .*CPU 1"):
        probe_teacher(settings(cluster, resources={"num_cpus": 1, "num_gpus": 1}))
    assert "2 engines on Ray (scripted, 3 nodes)" in probe_teacher(settings(cluster))


@pytest.mark.slow
def test_other_versions_are_refused_with_both_named(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_cluster, "versions_of", lambda packages: {"stepsynth": "0.0", "python": "3.0"})
    teacher: Any = create_teacher(settings(cluster))
    try:
        with pytest.raises(RunError, match=r"an engine \(on .*\) has other versions: stepsynth .* \(here 0\.0\)"):
            teacher.start(print)
    finally:
        teacher.release()


@pytest.mark.slow
def test_a_plug_in_that_asks_a_server_is_refused(cluster: Any) -> None:
    teacher: Any = create_teacher(settings(cluster, backend="scripted-server"))
    try:
        with pytest.raises(Exception, match=r"teacher.replicas is for engines, and backend 'scripted-server' asks a server"):
            teacher.start(print)
    finally:
        teacher.release()


def all_answers(found: Asked, requests: list[Request]) -> list[Response]:
    async def answers() -> list[Response]:
        return list(await asyncio.gather(*(answer_of(found.teacher, request) for request in requests)))

    return asyncio.run(answers())


@pytest.mark.slow
def test_a_model_goes_to_the_engines_and_answers_as_here(cluster: Any, ask: Callable[..., Asked], tmp_path: Path) -> None:
    """Transformers with batches of one: the answer depends on the request alone, so it is the same bytes."""
    folder = build_tiny_teacher(tmp_path / "model")
    one = TeacherConfig(backend="transformers", model=str(folder), concurrency=1)
    requests = [make_request(f"Write about a film {number}.", number) for number in range(12)]
    here: Any = create_teacher(one)
    seeds = [int(request.key(one.identity())[:7], 16) for request in requests]
    single = [dict(here.generate_batch([request], [seed]))[0] for request, seed in zip(requests, seeds, strict=True)]
    found = ask(backend="transformers", model=str(folder), concurrency=1, timeout_s=60.0)
    assert all_answers(found, requests) == single
    found.teacher.rest()
    # The next engines do not find the model at its path, so it is sent.
    engines = found.teacher._engines
    engines._message["model"]["path"] = str(tmp_path / "nowhere")
    engines._message["model"]["name"] = "no/model"
    assert all_answers(found, requests) == single
    assert engines._pieces


@pytest.mark.slow
def test_the_embedded_engine_runs_there_and_its_one_file_is_sent(cluster: Any, ask: Callable[..., Asked], tmp_path: Path) -> None:
    """With batches of one and without draws, its answers are those that it gives here."""
    path = build_tiny_gguf(tmp_path / "model.gguf")
    requests = [make_request(f"Film {number}", number, temperature=0.0) for number in range(6)]
    here: Any = create_teacher(TeacherConfig(model=str(path), concurrency=1))
    single = [dict(here.generate_batch([request], [1]))[0] for request in requests]
    found = ask(backend="openvino", model=str(path), concurrency=1, timeout_s=60.0)
    assert all_answers(found, requests) == single
    found.teacher.rest()
    engines = found.teacher._engines
    engines._message["model"]["path"] = str(tmp_path / "nowhere")
    engines._message["model"]["name"] = "nowhere.gguf"
    assert all_answers(found, requests) == single
    assert engines._pieces


# whole runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def run(world: World, out: Path, *changes: str, meanwhile: Callable[[subprocess.Popen[str]], object] | None = None) -> Any:
    """Run in another process, with a scripted engine in it or on a cluster."""
    all_changes = (
        "teacher.backend=scripted",
        "teacher.model=m",
        "teacher.concurrency=4",
        "cache=null",
        "method.rounds=1",
        *changes,
    )
    words = [word for change in all_changes for word in ("--set", change)]
    command = [sys.executable, "-m", "stepsynth", "run", str(world.config_path), "--out", str(out), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if meanwhile is not None:
            meanwhile(process)
        found, said = process.communicate(timeout=300)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return process.returncode, found, said


def rows(out: Path) -> str:
    return (out / "dataset.jsonl").read_text()


@pytest.fixture(scope="module")
def alone(world: World, commands: Path, cluster: Any) -> Path:
    """A run with one engine in its own process."""
    code, _, said = run(world, world.folder / "alone")
    assert code == 0, said
    return world.folder / "alone"


def on_ray(cluster: Any, *more: str) -> tuple[str, ...]:
    return ("teacher.replicas=2", f"teacher.cluster=ray:{cluster.at}", *more)


@pytest.mark.slow
def test_a_run_with_two_engines_has_the_rows_of_one(
    world: World, alone: Path, cluster: Any, commands: Path, tmp_path: Path
) -> None:
    (commands / "die").touch()
    code, shown, said = run(world, tmp_path / "run", *on_ray(cluster))
    assert code == 0, said
    assert "Answers by engine: " in said
    assert "it is started again." in said
    assert "raylet" not in f"{shown}{said}"
    assert rows(tmp_path / "run") == rows(alone)
    assert (
        json.loads((tmp_path / "run" / "config.json").read_text())["digest"]
        == json.loads((alone / "config.json").read_text())["digest"]
    )
    assert not actors()
    # It goes on with one engine of its own, and asks nothing again.
    count = len(asked(commands))
    assert run(world, tmp_path / "run")[0] == 0
    assert len(asked(commands)) == count


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_and_asks_nothing_committed_again(
    world: World, alone: Path, cluster: Any, commands: Path, tmp_path: Path
) -> None:
    (commands / "seconds").write_text("0.05")
    out = tmp_path / "run"

    def kill(process: subprocess.Popen[str]) -> None:
        until(lambda: len(asked(commands)) > 40 or process.poll() is not None)
        process.kill()

    code, _, _ = run(world, out, *on_ray(cluster), meanwhile=kill)
    assert code == -signal.SIGKILL
    # Ray ends the engines of a driver that is gone.
    until(lambda: not actors())
    first = Counter(key for key, _ in asked(commands))
    committed = known_keys(out)
    assert committed
    (commands / "seconds").write_text("0")
    code, _, said = run(world, out, *on_ray(cluster))
    assert code == 0, said
    assert rows(out) == rows(alone)
    again = Counter(key for key, _ in asked(commands)) - first
    assert not committed & set(again)


def known_keys(out: Path) -> set[str]:
    with sqlite3.connect(out / "journal.db") as connection:
        return {str(key) for (key,) in connection.execute("select key from answers")}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_waits_for_the_answers_on_their_way_and_ends_the_engines(
    world: World, alone: Path, cluster: Any, commands: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Ray sets a handler for SIGTERM that would end the driver at once."""
    (commands / "seconds").write_text("0.05")
    out = tmp_path / "run"

    def stop(process: subprocess.Popen[str]) -> None:
        until(lambda: len(asked(commands)) > 20 or process.poll() is not None)
        process.send_signal(number)

    code, _, said = run(world, out, *on_ray(cluster), meanwhile=stop)
    assert code == 130, said
    assert "Traceback" not in said
    until(lambda: not actors())
    # Everything that an engine answered is kept.
    assert {key for key, _ in asked(commands)} <= known_keys(out)
    (commands / "seconds").write_text("0")
    assert run(world, out, *on_ray(cluster))[0] == 0
    assert rows(out) == rows(alone)
    assert max(Counter(key for key, _ in asked(commands)).values()) == 1
