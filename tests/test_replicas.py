"""Several engines as one teacher: who gets a request, what a lost engine means, what is refused; without a cluster."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from fake_engines import install_vllm
from scripted_engine import FOLDER, asked, install
from stepsynth.config import TeacherConfig, parse_config
from stepsynth.config.changes import changes_between
from stepsynth.errors import (
    AssetError,
    ConfigError,
    Interrupted,
    MovedError,
    PermanentError,
    RunError,
    StepsynthError,
    TeacherError,
    TransientError,
)
from stepsynth.model_cache.sending import describe, own_copy, received, send
from stepsynth.run.public import public_config
from stepsynth.runtime.ray_cluster import versions_of
from stepsynth.runtime.shutdown import stoppable
from stepsynth.teachers import AsyncTeacher, EngineTeacher, answer_of, create_teacher, probe_teacher
from stepsynth.teachers.fake import FakeTeacher
from stepsynth.teachers.replica_cluster import Heard, actor_options, places
from stepsynth.teachers.replica_fleet import Ask, Fail, Fleet, Start, Stop
from stepsynth.teachers.replica_worker import (
    Replica,
    read_answer,
    read_error,
    read_request,
    write_answer,
    write_error,
    write_request,
)
from stepsynth.teachers.replicas import ReplicasTeacher
from stepsynth.testing import TeacherContract, make_request
from stepsynth.types import Request, Response, Span, Usage

# the fleet -------------------------------------------------------------------------------------


class World:
    """A fleet whose actions are kept, by kind; engines have a life each."""

    def __init__(self, count: int, room: int = 3) -> None:
        self.fleet = Fleet(count, room, patience_s=10.0, load_s=100.0)
        self.lives: dict[int, int] = {}
        self.at: dict[int, int] = {}
        self.failed: dict[int, Fail] = {}
        self.stopped: list[int] = []
        self.now = 0.0
        self.fleet.begin(0.0)
        self.act()

    def act(self) -> None:
        while (action := self.fleet.next()) is not None:
            match action:
                case Start(engine, life):
                    self.lives[engine] = life
                case Stop(engine, life):
                    self.stopped.append(life)
                    assert self.lives[engine] == life
                case Ask(engine, life, number):
                    assert self.lives[engine] == life
                    assert number not in self.at, "a request is at one engine at a time"
                    self.at[number] = engine
                case Fail(number):
                    assert number not in self.failed
                    self.at.pop(number, None)
                    self.failed[number] = action

    def ready(self, *engines: int) -> None:
        for engine in engines:
            self.fleet.placed(engine, self.lives[engine], "host", self.now)
            self.fleet.ready(engine, self.lives[engine], self.now)
        self.act()

    def ask(self, *numbers: int) -> None:
        for number in numbers:
            self.fleet.asked(number, self.now)
        self.act()

    def answer(self, number: int) -> None:
        engine = self.at.pop(number)
        self.fleet.answered(engine, self.lives[engine], number, self.now)
        self.act()

    def lose(self, engine: int, why: str = "died") -> None:
        self.fleet.lost(engine, self.lives[engine], why, self.now)
        self.act()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.fleet.tick(self.now)
        self.act()


def test_the_engine_with_the_fewest_requests_gets_the_next() -> None:
    world = World(2)
    world.ready(0, 1)
    world.ask(*range(5))
    assert [list(world.at.values()).count(engine) for engine in (0, 1)] == [3, 2]
    for number in [number for number, engine in world.at.items() if engine == 0]:
        world.answer(number)
    world.ask(5, 6)
    assert (world.at[5], world.at[6]) == (0, 0)


def test_requests_wait_while_no_engine_has_room() -> None:
    world = World(2, room=2)
    world.ask(0, 1, 2)
    assert not world.at
    assert world.fleet.most_in_flight == 1
    world.ready(1)
    assert set(world.at.values()) == {1}
    assert set(world.at) == {0, 1}
    assert world.fleet.most_in_flight == 2
    world.answer(0)
    assert set(world.at) == {1, 2}


def test_a_late_engine_gets_its_share() -> None:
    world = World(2)
    world.ready(0)
    world.ask(*range(5))
    assert len(world.at) == 3
    world.wait(50.0)
    world.ready(1)
    assert sorted(world.at.values()) == [0, 0, 0, 1, 1]


def test_a_lost_engine_fails_its_requests_and_is_started_again() -> None:
    world = World(2)
    world.ready(0, 1)
    world.ask(0, 1, 2)
    life = world.lives[0]
    world.lose(0, "was killed")
    assert sorted(world.failed) == [0, 2]
    assert world.failed[0] == Fail(0, "Engine 1 (on host) was killed.", asked=True)
    assert world.stopped == [life]
    assert world.lives[0] > life
    assert world.fleet.notes == ["Engine 1 (on host) was killed; it is started again."]
    world.ask(3, 4)
    assert {world.at[3], world.at[4]} == {1}
    world.ready(0)
    assert world.fleet.notes[-1] == "Engine 1 (on host) is there again."
    world.ask(5)
    assert world.at[5] == 0


def test_news_of_an_earlier_life_says_nothing() -> None:
    world = World(1)
    world.ready(0)
    world.ask(0)
    old = world.lives[0]
    world.lose(0)
    world.ready(0)
    world.ask(1)
    world.fleet.answered(0, old, 0, 1.0)
    world.fleet.lost(0, old, "died", 1.0)
    world.fleet.ready(0, old, 1.0)
    world.act()
    assert world.fleet.ready_engines == 1
    assert set(world.at) == {1}
    assert world.fleet.answers == [0]


def test_three_restarts_without_an_answer_are_enough() -> None:
    world = World(2)
    world.ready(1)
    for _ in range(4):
        world.lose(0)
        world.wait(15.0)
    lives = dict(world.lives)
    world.wait(1000.0)
    assert world.lives == lives
    assert world.fleet.notes[-1] == "Engine 1 died; it is given up after 3 restarts without an answer."
    world.ask(0)
    assert world.at == {0: 1}
    assert not world.fleet.ended


def test_an_answer_counts_restarts_from_zero_again() -> None:
    world = World(1)
    for number in range(20):
        world.ready(0)
        world.ask(number)
        world.answer(number)
        world.lose(0)
        world.wait(15.0)
    assert not world.fleet.ended


def test_without_any_engine_all_requests_end() -> None:
    world = World(1)
    world.ask(0)
    for _ in range(4):
        world.lose(0)
        world.wait(15.0)
    assert world.failed[0].why == "Engine 1 died, and all engines have been given up."
    assert not world.failed[0].asked
    world.ask(1)
    assert 1 in world.failed


def test_a_silent_engine_is_lost() -> None:
    world = World(2)
    world.ready(0, 1)
    world.ask(0, 1)
    # Nobody has answered yet, so nobody knows how long that takes.
    world.wait(99.0)
    assert not world.failed
    world.answer(1)
    world.ask(2)
    # Three times what an answer took.
    world.wait(199.0)
    assert list(world.failed) == [0]
    assert "answered nothing for 298 s" in world.failed[0].why
    world.wait(99.0)
    assert 2 in world.failed


def test_an_engine_without_requests_is_not_silent() -> None:
    world = World(1)
    world.ready(0)
    world.ask(0)
    world.now = 1.0
    world.answer(0)
    world.wait(1000.0)
    world.ask(1)
    world.wait(9.0)
    assert not world.failed
    world.wait(2.0)
    assert 1 in world.failed


def test_an_engine_that_waits_for_a_place_is_not_late_and_one_that_loads_is() -> None:
    world = World(2)
    world.ready(1)
    world.wait(1000.0)
    assert not world.fleet.notes
    world.fleet.placed(0, world.lives[0], "b", world.now)
    world.wait(101.0)
    assert world.fleet.notes == ["Engine 1 (on b) did not load its model in 101 s; it is started again."]


def test_requests_do_not_wait_for_ever_for_a_first_engine() -> None:
    world = World(2)
    world.ask(0)
    world.wait(99.0)
    assert not world.failed
    world.wait(2.0)
    assert world.failed[0].why == "no engine has been there for 101 s."


def test_a_request_that_waits_can_be_taken_back() -> None:
    world = World(1)
    world.ask(0)
    assert world.fleet.withdrawn(0)
    world.ready(0)
    world.ask(1)
    assert not world.fleet.withdrawn(1)
    assert set(world.at) == {1}


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_each_request_ends_once(seed: int) -> None:
    draw = random.Random(seed)
    world = World(draw.randint(1, 4), room=draw.randint(1, 4))
    answered: set[int] = set()
    asked_for = 0
    for _ in range(300):
        world.now += draw.random()
        step = draw.random()
        if step < 0.4:
            world.ask(asked_for)
            asked_for += 1
        elif step < 0.7 and world.at:
            number = draw.choice(list(world.at))
            world.answer(number)
            answered.add(number)
        elif step < 0.8:
            world.ready(draw.randrange(len(world.lives)))
        elif step < 0.84:
            world.lose(draw.randrange(len(world.lives)))
        else:
            world.wait(draw.random() * 4)
        assert not answered & set(world.failed)
        assert all(list(world.at.values()).count(engine) <= world.fleet._room for engine in world.lives)
    for engine in world.lives:
        for _ in range(6):
            world.lose(engine)
            world.wait(20.0)
    assert world.fleet.ended
    assert answered | set(world.failed) == set(range(asked_for))


# the teacher -----------------------------------------------------------------------------------


def settings(**changes: Any) -> TeacherConfig:
    return TeacherConfig(
        **{"backend": "transformers", "model": "a/b", "replicas": 2, "concurrency": 2, "timeout_s": 1.0, **changes}
    )


class Threads:
    """Engines that answer at once as the fake teacher does, unless a test says otherwise."""

    def __init__(self, config: TeacherConfig, note: Callable[[str], object]) -> None:
        note("threads, no cluster")
        self.fake = FakeTeacher(identity=config.identity())
        self.refusal: StepsynthError | None = None
        self.dies: Callable[[int, Request], bool] = lambda life, request: False
        self.says: Callable[[Request], object] = lambda request: write_answer(self.fake.answer(request))
        self.loads = True
        self.asked: list[tuple[int, Request]] = []
        self.started: list[int] = []
        self.running: set[int] = set()
        self.closed = False

    def start(self, engine: int, life: int, heard: Heard) -> None:
        self.started.append(life)
        self.running.add(life)

        def load() -> None:
            if self.refusal is not None:
                heard.refused(engine, life, self.refusal)
            elif self.loads:
                heard.placed(engine, life, f"host{engine}")
                heard.ready(engine, life)

        threading.Thread(target=load).start()

    def ask(self, life: int, request: Mapping[str, Any], seed: int) -> Future[Any]:
        found, answer = read_request(request), Future[Any]()
        assert seed == int(found.key(self.fake._identity)[:7], 16)
        self.asked.append((life, found))
        if self.dies(life, found):
            answer.set_exception(RuntimeError("The actor 0123456789abcdef0123456789abcdef died.\n\tclass_name: X"))
        else:
            said = self.says(found)
            if said is not None:
                answer.set_result(said)
        return answer

    def stop(self, life: int) -> None:
        self.running.discard(life)

    def stop_all(self) -> None:
        self.running.clear()

    def close(self) -> None:
        self.stop_all()
        self.closed = True


class Made:
    """A teacher over threads."""

    def __init__(self, **changes: Any) -> None:
        self.config = settings(**changes)
        self.engines = Threads(self.config, lambda line: None)
        self.teacher = ReplicasTeacher(self.config, opens=lambda config, note: self.engines)

    def all(self, count: int) -> list[Response]:
        async def ask() -> list[Response]:
            return list(await asyncio.gather(*(answer_of(self.teacher, make_request(replicate=n)) for n in range(count))))

        return asyncio.run(ask())

    def once(self, request: Request) -> Response:
        return asyncio.run(self.teacher.generate(request))


@pytest.fixture
def made() -> Iterator[Made]:
    found = Made()
    yield found
    found.teacher.release()
    assert found.engines.closed
    assert not found.engines.running


class TestEnginesKeepTheContract(TeacherContract):
    def config(self) -> TeacherConfig:
        return settings(timeout_s=60.0)

    def make(self) -> AsyncTeacher | EngineTeacher:
        return ReplicasTeacher(self.config(), opens=Threads)


def test_all_engines_answer_and_the_answers_are_those_of_one(made: Made) -> None:
    made.teacher.start(lambda line: None)
    # Both are there, or the first takes all.
    while made.teacher._fleet.ready_engines < 2:
        pass
    found = made.all(40)
    fake = FakeTeacher(identity=made.config.identity())
    assert found == [fake.answer(make_request(replicate=n)) for n in range(40)]
    assert sum(made.teacher.answered) == 40
    assert len(made.engines.asked) == 40
    assert made.teacher.most_in_flight == 2 * 2 * 3


def test_a_request_that_loses_its_engine_is_moved_once_and_then_fails_as_a_lost_connection(made: Made) -> None:
    made.engines.dies = lambda life, request: True
    request = make_request()
    with pytest.raises(MovedError, match=r"Engine 1 \(on host0\) was lost \(RuntimeError: The actor died\)"):
        made.once(request)
    for _ in range(2):
        with pytest.raises(TransientError) as caught:
            made.once(request)
        assert type(caught.value) is TransientError
        assert caught.value.kind == "connection"
        assert not caught.value.maybe_billed
    # Forgotten when a run's part ends.
    asyncio.run(made.teacher.close())
    with pytest.raises(MovedError):
        made.once(request)


def test_after_the_restarts_the_teacher_is_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepsynth.teachers.replica_fleet._PAUSES_S", (0.0, 0.0, 0.0))
    made = Made(replicas=1, cluster="ray")
    made.engines.dies = lambda life, request: True
    try:
        seen: list[TeacherError] = []
        while not (seen and isinstance(seen[-1], PermanentError)):
            with pytest.raises(TeacherError) as caught:
                made.once(make_request())
            seen.append(caught.value)
        assert len(made.engines.started) == 4
        assert isinstance(seen[-1], PermanentError)
        assert seen[-1].final
        assert "all engines have been given up" in seen[-1].message
    finally:
        made.teacher.release()


@pytest.mark.parametrize(
    "said",
    [
        *(None, 7, "text", {}, {"text": "x"}, {"text": None, "reason": "stop", "usage": [1, 1, None], "raw": ""}),
        {"text": "x", "reason": "odd", "usage": [1, 1, None], "raw": ""},
        {"text": "x", "reason": "stop", "usage": [-1, 1, None], "raw": ""},
    ],
)
def test_an_engine_that_returns_nonsense_is_replaced(made: Made, said: object) -> None:
    right = made.engines.says
    replies = iter([Nonsense(said)])
    made.engines.says = lambda request: next(replies, None) or right(request)
    made.engines.ask = unwrapped(made.engines.ask)  # type: ignore[method-assign]
    found = made.all(6)
    assert len(found) == 6
    assert any("returned something that is no answer" in note for note in made.teacher.notes)
    assert len(made.engines.started) == 3


class Nonsense:
    """Wraps a value, so that ``None`` can be one."""

    def __init__(self, value: object) -> None:
        self.value = value


def unwrapped(ask: Callable[..., Future[Any]]) -> Callable[..., Future[Any]]:
    def found(*arguments: Any) -> Future[Any]:
        future = ask(*arguments)
        if future.done() and isinstance(future.result(), Nonsense):
            nonsense: Future[Any] = Future()
            nonsense.set_result(future.result().value)
            return nonsense
        return future

    return found


def test_an_engine_that_hangs_is_replaced(made: Made) -> None:
    made.all(2)
    right, silent = made.engines.says, iter([None])
    made.engines.says = lambda request: next(silent, right(request))
    assert len(made.all(6)) == 6
    assert any("answered nothing for 1 s; it is started again" in note for note in made.teacher.notes)


def test_an_engines_own_errors_are_its_requests(made: Made) -> None:
    made.engines.says = lambda request: write_error(ConfigError("the chat template fails.", hint="Use another model."))
    with pytest.raises(ConfigError, match=r"the chat template fails\. Use another model\."):
        made.once(make_request())
    assert not made.teacher.notes


def test_what_no_engine_can_do_is_one_error_at_the_start(made: Made) -> None:
    made.engines.refusal = AssetError("there is no such model.", hint="Name another.")
    with pytest.raises(AssetError, match="there is no such model"):
        made.teacher.start(lambda line: None)
    with pytest.raises(AssetError, match="there is no such model"):
        made.once(make_request())


def test_a_stop_takes_back_what_waits_for_an_engine(made: Made) -> None:
    made.engines.loads = False
    with stoppable() as stop:
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(TransientError, match="a stop was asked for"):
            made.once(make_request())
    assert not made.engines.asked
    with stoppable() as stop:
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(Interrupted):
            made.teacher.start(lambda line: None)


def test_a_stop_waits_for_what_an_engine_has(made: Made) -> None:
    kept: list[Future[Any]] = []

    def slowly(life: int, request: Mapping[str, Any], seed: int) -> Future[Any]:
        kept.append(Future())
        return kept[-1]

    made.engines.ask = slowly  # type: ignore[method-assign]

    def answers() -> None:
        kept[0].set_result(write_answer(Response("late")))

    with stoppable() as stop:
        threading.Timer(0.2, stop.set).start()
        threading.Timer(0.9, answers).start()
        assert made.once(make_request()).text == "late"


def test_engines_rest_and_come_back(made: Made) -> None:
    made.all(5)
    made.teacher.rest()
    assert not made.engines.running
    assert not made.engines.closed
    made.all(5)
    assert sum(made.teacher.answered) == 10
    assert len(set(made.engines.started)) == 4


def test_a_defect_reaches_the_caller(made: Made) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    made.engines.start = broken  # type: ignore[method-assign,assignment]
    with pytest.raises(ZeroDivisionError, match="a defect"):
        made.once(make_request())
    with pytest.raises(ZeroDivisionError, match="a defect"):
        made.teacher.start(lambda line: None)


# plain values ----------------------------------------------------------------------------------


def test_requests_and_answers_travel_as_they_are() -> None:
    request = replace(make_request("a\u2028b", 3, temperature=0.5), answer=Span("x", 2), context="c", source="s", parts=4)
    assert read_request(write_request(request)) == request
    for response in (Response("x"), Response("", "length", Usage(1, 2, 0.5), "raw")):
        assert read_answer(write_answer(response)) == response


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a", hint="b"),
        AssetError("a"),
        TransientError("a", hint="b", kind="overload", retry_after=2.0, why="c"),
        PermanentError("a", hint="b", kind="refused", final=True),
    ],
)
def test_our_errors_travel_as_they_are(error: StepsynthError) -> None:
    found = read_error(write_error(error))
    assert type(found) is type(error)
    assert vars(found) == vars(error)


def test_other_errors_are_one_line() -> None:
    assert write_error(ValueError("a\n b")) == {"broken": "ValueError: a b"}


# in the actor ----------------------------------------------------------------------------------


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a scripted engine reads its commands."""
    monkeypatch.syspath_prepend(install(tmp_path / "plugin"))
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path


def opened(**changes: Any) -> Replica:
    values = TeacherConfig(**{"backend": "scripted", "model": "m", **changes}).model_dump(mode="json")
    replica = Replica({"teacher": values, "versions": versions_of(()), "model": None})
    assert not replica.open()["needs"]
    return replica


def ask(replica: Replica, count: int) -> list[dict[str, Any]]:
    identity = TeacherConfig(backend="scripted", model="m").identity()
    requests = [make_request(replicate=number) for number in range(count)]
    answers = [replica.ask(write_request(found), int(found.key(identity)[:7], 16)) for found in requests]
    return [answer.result(timeout=30) for answer in answers]


def test_a_replica_answers_what_comes_in_batches(scripted: Path) -> None:
    replica = opened()
    assert replica.load([], bytes) == {"ready": True}
    fake = FakeTeacher(identity=TeacherConfig(backend="scripted", model="m").identity())
    for _ in range(3):
        assert [read_answer(said) for said in ask(replica, 5)] == [fake.answer(make_request(replicate=n)) for n in range(5)]
    assert len(asked(scripted)) == 15


def test_a_replica_whose_engine_fails_says_so_and_goes_on(scripted: Path) -> None:
    replica = opened()
    replica.load([], bytes)
    (scripted / "fail").touch()
    assert ask(replica, 2)[0] == {"broken": "RuntimeError: out of memory"}
    assert read_answer(ask(replica, 1)[0])


@pytest.mark.usefixtures("scripted")
def test_a_replica_with_other_versions_says_which() -> None:
    values = TeacherConfig(backend="scripted", model="m").model_dump(mode="json")
    own = versions_of(["numpy"])
    said = Replica({"teacher": values, "versions": {**own, "numpy": "0.1"}, "model": None}).open()
    assert said["other"] == own


def test_a_replica_that_cannot_load_says_why(scripted: Path) -> None:
    (scripted / "unloadable").touch()
    said = opened().load([], bytes)
    assert said["error"] == "ConfigError"
    assert "the teacher plug-in 'scripted' failed: RuntimeError: no memory" in said["message"]
    assert "asks a server" in opened(backend="scripted-server").load([], bytes)["message"]


def test_a_replica_with_vllm_hands_on_what_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the package: a folder of this machine, options, and one seed for each request."""
    log = install_vllm(monkeypatch)
    (tmp_path / "config.json").write_text("{}")
    config = TeacherConfig(backend="vllm", model="owner/name", concurrency=3, options={"dtype": "float16"})
    about = describe("owner/name", tmp_path)
    replica = Replica({"teacher": config.model_dump(mode="json"), "versions": versions_of(()), "model": about})
    assert not replica.open()["needs"]
    assert replica.load([], bytes) == {"ready": True}
    assert log.engines == [{"model": str(tmp_path), "seed": 0, "max_num_seqs": 3, "dtype": "float16"}]
    waiting = [replica.ask(write_request(make_request(replicate=number)), number) for number in range(4)]
    assert all(read_answer(answer.result(timeout=30)) for answer in waiting)
    assert sorted(sampling.seed for sampling in log.sampling) == [0, 1, 2, 3]


# a model's files -------------------------------------------------------------------------------


def test_files_are_taken_from_this_machine_or_sent_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepsynth.model_cache.sending._PIECE_BYTES", 10)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "empty.txt").touch()
    (folder / "other.bin").touch()
    endings = (".json", ".safetensors", ".txt")
    about = describe("owner/name", folder, endings)
    assert sorted(about["files"]) == ["config.json", "empty.txt", "model.safetensors"]
    assert own_copy(about, endings) == folder
    pieces = send([folder / name for name in about["files"]], bytes)
    assert len(pieces) == 1 + 1 + 26
    (folder / "model.safetensors").write_bytes(b"another one")
    assert own_copy(about, endings) is None
    found = received(about, pieces, bytes)
    assert found is not None
    assert (found / "model.safetensors").read_bytes() == bytes(range(256))
    assert found.stat().st_mode & 0o777 == 0o700
    # The next process of this machine finds them there.
    assert received(about, [], bytes) == found
    (found / "model.safetensors").write_bytes(b"damaged")
    again = received(about, pieces, bytes)
    assert again is not None
    assert again != found
    assert received({**about, "files": {"config.json": "0"}}, pieces, bytes) is None


def test_a_model_of_one_file_is_named_by_it(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    (tmp_path / "another.gguf").write_bytes(b"GGUF 2")
    about = describe(str(path), path)
    assert list(about["files"]) == ["model.gguf"]
    assert own_copy(about, ()) == path


# what is needed --------------------------------------------------------------------------------

SMALL, LARGE = (
    {"CPU": 2.0, "memory": 4.0 * 2**30, "node:1": 1.0},
    {"CPU": 16.0, "GPU": 2.0, "accelerator_type:H100": 1.0, "big": 1.0},
)


@pytest.mark.parametrize(
    ("changes", "nodes", "options"),
    [
        ({"backend": "openvino", "model": "auto"}, [SMALL], {"num_cpus": 2}),
        ({"backend": "openvino", "model": "auto"}, [SMALL, LARGE], {"num_cpus": 3}),
        ({}, [SMALL, LARGE], {"num_cpus": 1, "num_gpus": 1}),
        ({"backend": "vllm"}, [SMALL], {"num_cpus": 2}),
        ({"options": {"device": "cpu"}}, [LARGE], {"num_cpus": 3}),
        ({"resources": {"num_gpus": 0.5, "num_cpus": 4}}, [LARGE], {"num_cpus": 4, "num_gpus": 0.5}),
        (
            {"resources": {"accelerator_type": "H100", "resources": {"big": 1}}},
            [LARGE],
            {"accelerator_type": "H100", "resources": {"big": 1}, "num_cpus": 1, "num_gpus": 1},
        ),
    ],
)
def test_what_an_engine_needs(
    changes: dict[str, Any], nodes: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert actor_options(settings(**changes), nodes) == options


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"num_gpus": 1}, r"what an engine needs \(CPU 1, GPU 1\); they have: CPU 2, memory 4\.0 GB\."),
        ({"num_cpus": 99}, r"what an engine needs \(CPU 99\); they have: CPU 2, memory 4\.0 GB\."),
        ({"num_cpus": 1, "memory": 2**33}, r"what an engine needs \(CPU 1, memory 8\.0 GB\)"),
        ({"num_cpus": 1, "accelerator_type": "A100"}, r"\(CPU 1, accelerator_type:A100\)"),
        ({"num_cpus": 1, "resources": {"big": 1}}, r"\(CPU 1, big 1\)"),
    ],
)
def test_what_no_node_has_is_refused_with_what_they_have(resources: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError, match=said):
        actor_options(settings(resources=resources), [SMALL, SMALL])


def test_places_are_counted_by_whole_engines() -> None:
    assert places({"num_cpus": 1, "num_gpus": 0.5}, [SMALL, LARGE]) == 4
    assert places({"num_cpus": 4}, [SMALL, LARGE]) == 4
    assert places({"num_cpus": 0}, [SMALL]) > 1000


# the config ------------------------------------------------------------------------------------

A = "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backend": "openai", "base_url": A, "replicas": 2}, "replicas 2 is for engines in this process, and backend 'openai'"),
        ({"backend": "anthropic", "cluster": "ray"}, "list several servers in base_url"),
        ({"backend": "fake", "replicas": 2}, "backend 'fake' is none"),
        ({"replicas": 0}, "greater than or equal to 1"),
        ({"replicas": True}, "valid integer"),
        ({"cluster": "slurm"}, "engines cannot run on 'slurm'; write ray, or ray:HOST:PORT"),
        ({"cluster": "ray:"}, "engines cannot run on 'ray:'"),
        (
            {"replicas": 1, "resources": {"num_gpus": 1}},
            "resources are for engines on Ray; set replicas above 1, or cluster: ray",
        ),
        ({"resources": {"gpus": 1}}, "resources.gpus is not one of Ray's"),
        ({"resources": {"num_gpus": "1"}}, "resources.num_gpus is '1'; write a number"),
        ({"resources": {"resources": {"a": "b"}}}, "write names with numbers"),
        ({"resources": {"accelerator_type": 1}}, "write its name in Ray"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(**changes)


VALUES: dict[str, Any] = {
    "task": {"name": "n", "instruction": "i", "labels": {"a": "x", "b": "y"}},
    "data": {"validation": {"path": "v.csv"}},
    "teacher": {"backend": "transformers", "model": "owner/name"},
}


def test_engines_on_ray_are_a_setting_of_how_and_not_of_what() -> None:
    one = parse_config(VALUES)
    on_ray = {"replicas": 4, "cluster": "ray:10.0.0.5:6379", "resources": {"num_gpus": 1}}
    many = parse_config({**VALUES, "teacher": {**VALUES["teacher"], **on_ray}})
    assert not one.teacher.on_ray
    assert many.teacher.on_ray
    assert one.teacher.identity() == many.teacher.identity()
    assert one.result_digest() == many.result_digest()
    assert not set(one.resolved()["teacher"]) & set(on_ray)
    assert changes_between(one, many) == changes_between(many, one) == []
    assert (one.teacher.most_in_flight, many.teacher.most_in_flight) == (64, 64 * 4 * 3)
    assert "cluster" not in public_config(many)["teacher"]


def test_a_noun_takes_them() -> None:
    teacher = ss.Teacher(backend="transformers", model="owner/name", replicas=3, resources={"num_gpus": 1})
    assert teacher.values["replicas"] == 3


def start(config: TeacherConfig) -> None:
    teacher: Any = create_teacher(config)
    teacher.start(print)


@pytest.mark.parametrize("work", [probe_teacher, start])
def test_ray_that_is_missing_is_one_line(work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    config = settings(model=str(tmp_path))
    with pytest.raises(ConfigError, match=r"Ray is not installed\. Install it with: pip install 'stepsynth\[ray\]'"):
        work(config)


def test_a_class_of_this_program_is_unknown_to_actors() -> None:
    from stepsynth.registry import TEACHERS

    TEACHERS.add("of-this-test", FakeTeacher)
    with pytest.raises(ConfigError, match="actors do not know the class of backend 'of-this-test'"):
        probe_teacher(settings(backend="of-this-test"))


def test_nobody_at_the_address_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'stepsynth[ray]'")
    with pytest.raises(RunError, match=r"there is no Ray cluster at '127.0.0.1:9': Connection refused"):
        probe_teacher(settings(model=str(tmp_path), cluster="ray:127.0.0.1:9"))
