"""Bad input is one clear line and exit code 2; nothing is spent, nothing is written, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from command import stepsynth
from loopback import LoopbackServer
from world import LABELS, World, build_world, gold_rows

Setup = Callable[[World], None]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small student for all cases."""
    return build_world(tmp_path_factory.mktemp("student")).folder / "student"


@pytest.fixture
def world(tmp_path: Path, student: Path) -> World:
    """A world that is right, for a case to spoil."""
    world = World(tmp_path / "world")
    world.folder.mkdir()
    world.write_csv("validation.csv", gold_rows(12, 0))
    world.write_csv("test.csv", gold_rows(10, 1000))
    world.write_config({"student.model": str(student)})
    return world


def changed(**changes: object) -> Setup:
    """Return a setup that changes config keys (``__`` stands for a dot)."""

    def setup(world: World) -> None:
        keep = {"student.model": world.config().student.model}
        world.write_config({**keep, **{key.replace("__", "."): value for key, value in changes.items()}})

    return setup


def rows(*texts: tuple[str, str]) -> Setup:
    return lambda world: (world.write_csv("validation.csv", list(texts)), None)[1]


def raw(content: bytes, name: str = "validation.csv") -> Setup:
    return lambda world: ((world.folder / name).write_bytes(content), None)[1]


GOOD = gold_rows(12, 0)
CASES: dict[str, tuple[Setup, tuple[str, ...]]] = {
    "missing validation file": (
        changed(data__validation__path="validatoin.csv"),
        ("validatoin.csv", "Did you mean 'validation.csv'?"),
    ),
    "missing test file": (changed(data__test__path="tset.csv"), ("tset.csv", "Did you mean 'test.csv'?")),
    "missing column": (
        lambda w: (w.write_csv("validation.csv", GOOD, ("txet", "label")), None)[1],
        ("'text'", "Did you mean 'txet'?"),
    ),
    "one label in the data": (rows(*[r for r in GOOD if r[1] == "rund"]), ("rund",)),
    "one label in the config": (changed(task__labels={"kalm": "x"}), ("task.labels", "at least two")),
    "a label that the config lacks": (rows(*GOOD, ("a text", "kalmm")), ("'kalmm'", "Did you mean 'kalm'?")),
    "a label of the test set that the config lacks": (
        lambda w: (w.write_csv("test.csv", [("a text", "runt")]), None)[1],
        ("'runt'", "Did you mean 'rund'?"),
    ),
    "fewer rows than labels": (rows(GOOD[0], GOOD[1]), ("2", "3")),
    "an empty file": (raw(b""), ("is empty",)),
    "a header and nothing else": (raw(b"text,label\n"), ("no rows",)),
    "an empty text": (rows(*GOOD, ("  ", "kalm")), ("empty text",)),
    "a binary file": (raw(b"text,label\n\x00\x01\x02,kalm\n"), ("binary",)),
    "latin-1": (raw("text,label\nschön,kalm\n".encode("latin-1")), ("not UTF-8", "line 2")),
    "nothing but duplicates": (rows(*[("the same text", label) for label in LABELS for _ in range(5)]), ("the same text",)),
    "one text for each label, over and over": (
        rows(*[(f"text {label}", label) for label in LABELS for _ in range(9)]),
        ("1 usable row", "needs two"),
    ),
    "a text of 100,000 words": (rows(*GOOD, ("word " * 100_000, "kalm")), ("100,000 words",)),
    "an unknown key": (changed(method__ruonds=3), ("'ruonds'", "Did you mean 'rounds'?")),
    "an unknown section": (changed(methdo={"rounds": 1}), ("'methdo'", "Did you mean 'method'?")),
    "a wrong type": (changed(method__rounds="many"), ("method.rounds", "'many'")),
    "a value out of range": (changed(teacher__sampling={"top_p": 1.5}), ("teacher.sampling.top_p", "1.5")),
    "an unknown backend": (changed(teacher__backend="opnai"), ("'opnai'", "Did you mean 'openai'?")),
    "an unknown embedded teacher": (
        changed(teacher__backend="openvino", teacher__model="smollm2-135"),
        ("'smollm2-135'", "Did you mean 'smollm2-135m'?"),
    ),
    "an unknown student": (changed(student__model="minilm-l7"), ("'minilm-l7'", "Did you mean 'minilm-l6'?")),
    "a key in the config": (changed(teacher__api_key_env="sk-abcdefghijklmnopqrstuvwxyz123456"), ("environment variable",)),
    "a server without an address": (changed(teacher__backend="openai"), ("base_url",)),
    "a template that is broken": (changed(task__prompts={"seed": "Write {{ text"}), ("prompt 'seed'",)),
    "a template without a variable": (changed(task__prompts={"seed": "prompt.txt"}), ("task.prompts.seed", "no variable")),
    "a template of an f-string": (changed(task__prompts={"seed": "Write {label}"}), ("no variable", "two braces")),
    "a template with an unknown variable": (changed(task__prompts={"seed": "Write {{ lable }}"}), ("prompt 'seed'", "lable")),
    "a sample larger than the file": (changed(data__validation__sample=1000), ("1000", "36")),
    "fewer seed rows than labels": (changed(method__seed_rows=2), ("seed_rows=2",)),
    "a file and a hub data set at once": (changed(data__validation__hub="a/b"), ("exactly one",)),
}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_exit_2(case: str, command: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    setup, expected = CASES[case]
    setup(world)
    outcome = stepsynth(capsys, command, world.config_path)
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("stepsynth: ")
    assert len(line) < 600
    for piece in expected:
        assert piece in line
    assert not (world.folder / "runs").exists(), "something was written for a run that cannot start"


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ("not: [closed", "not valid YAML"),
        ("- a\n- list\n", "not a mapping"),
        ("{}", "task is missing"),
        ("a: !!python/object:os.system x", "YAML"),
    ],
)
def test_a_config_that_is_no_config(broken: str, expected: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.config_path.write_text(broken)
    outcome = stepsynth(capsys, "run", world.config_path)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert expected in outcome.err


def test_no_config_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = stepsynth(capsys, "run", tmp_path / "none.yaml")
    assert outcome.code == 2
    assert "stepsynth init" in outcome.err


def server_config(world: World, server: LoopbackServer, **changes: object) -> None:
    model = world.config().student.model
    teacher = {"backend": "openai", "model": "loopback", "base_url": server.base_url, "timeout_s": 5, "attempts": 2, **changes}
    world.write_config({"student.model": model, "teacher": teacher})


def test_an_unreachable_server(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with LoopbackServer() as server:
        server_config(world, server)
    outcome = stepsynth(capsys, "run", world.config_path)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert server.base_url in outcome.err
    assert not (world.folder / "runs").exists()


def test_a_wrong_key(
    world: World, loopback: LoopbackServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loopback.api_key = "the-right-key-0123456789"
    monkeypatch.setenv("MY_KEY", "a-wrong-key-9876543210")
    server_config(world, loopback, api_key_env="MY_KEY")
    outcome = stepsynth(capsys, "run", world.config_path)
    # A list that is refused is a note; what the chat refuses ends the run, with the last line.
    assert outcome.code == 2
    assert "does not show its list of models (HTTP 401)" in outcome.err
    assert "MY_KEY" in outcome.err.splitlines()[-1]
    assert "a-wrong-key" not in outcome.err
    assert loopback.prompt_tokens == 0


def test_a_key_variable_that_is_not_set(world: World, loopback: LoopbackServer, capsys: pytest.CaptureFixture[str]) -> None:
    server_config(world, loopback, api_key_env="NO_SUCH_KEY")
    outcome = stepsynth(capsys, "run", world.config_path)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert "NO_SUCH_KEY" in outcome.err


def test_a_model_that_the_server_lacks(world: World, loopback: LoopbackServer, capsys: pytest.CaptureFixture[str]) -> None:
    loopback.models = ["small-model", "large-model"]
    server_config(world, loopback, model="smal-model")
    outcome = stepsynth(capsys, "run", world.config_path)
    # A list may lack what is served, so it is a note; that the server has no such model shows when it is asked.
    note, error = outcome.err.splitlines()[0], outcome.err.splitlines()[-1]
    assert outcome.code == 2
    assert "does not list 'smal-model'" in note
    assert error.startswith("stepsynth: ")
    assert "Did you mean 'small-model'?" in error


def test_a_run_directory_from_another_config_is_not_touched(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert stepsynth(capsys, "run", world.config_path, "-q", "--set", "method.rounds=0").code == 0
    folder = world.folder / "runs" / "invented"
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "logs" not in p.parts}
    outcome = stepsynth(capsys, "run", world.config_path, "--set", "method.rounds=1")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert "method.rounds was 0, is 1" in outcome.err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "logs" not in p.parts} == before


def test_validation_rows_that_changed_under_a_run_are_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert stepsynth(capsys, "run", world.config_path, "-q", "--set", "method.rounds=0").code == 0
    world.write_csv("validation.csv", gold_rows(13, 50))
    outcome = stepsynth(capsys, "run", world.config_path, "--set", "method.rounds=0")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert "validation rows" in outcome.err


@pytest.mark.parametrize(("command", "words"), [("status", "no run"), ("report", "no run"), ("predict", "no run")])
def test_a_run_that_is_not_there(command: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra = [tmp_path / "new.csv"] if command == "predict" else []
    outcome = stepsynth(capsys, command, tmp_path / "nothing", *extra)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert words in outcome.err


def test_init_does_not_write_into_a_folder_that_is_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    outcome = stepsynth(capsys, "init", tmp_path)
    assert outcome.code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unknown_model_name_to_pull(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = stepsynth(capsys, "models", "pull", "minilm-6")
    assert outcome.code == 2
    assert "Did you mean 'minilm-l6'?" in outcome.err
